"""NumPy's .npz files: what is no array that was asked for is refused in one line, and before memory is given for it."""

import io
import os
import struct
import zipfile

import numpy as np
import pytest

from cimm_jax.data.array_archive import Expected, read_arrays
from cimm_jax.data.image_sources import load_images
from cimm_jax.errors import InputError

X = np.arange(4 * 32 * 32 * 3, dtype=np.uint8).reshape(4, 32, 32, 3)
Y = np.array([3, 1, 0, 9], np.uint8)
ARRAYS = {"x_train": X, "y_train": Y, "x_test": X[:2], "y_test": Y[:2]}


def npy(array, **settings):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asanyarray(array), **settings)
    return file.getvalue()


def header(text, version=b"\1\0"):
    """An array of which there is a header alone."""
    text = text.encode("latin1")
    return b"\x93NUMPY" + version + struct.pack("<H" if version == b"\1\0" else "<I", len(text)) + text


def archive(path, method=zipfile.ZIP_STORED, **changes):
    """The arrays, some of them as other bytes."""
    with zipfile.ZipFile(path, "w", method) as file:
        for name, array in ARRAYS.items():
            content = changes.get(name, array)
            if content is not None:
                file.writestr(f"{name}.npy", content if isinstance(content, bytes) else npy(content))
    return path


def refusal(path):
    with pytest.raises(InputError) as caught:
        load_images(path, size=32)
    message = str(caught.value)
    assert message.startswith("images: ")
    assert str(path) in message
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_what_numpy_writes_is_read(tmp_path, method):
    train, heldout = load_images(archive(tmp_path / "a.npz", method, x_train=np.asfortranarray(X)), size=32)
    assert (np.concatenate(list(train.batches(4))) == X).all()
    assert train.labels.tolist() == Y.tolist()
    assert len(heldout) == 2
    np.savez(tmp_path / "b.npz", **ARRAYS, more=np.array({"any": "thing"}, object))
    assert load_images(tmp_path / "b.npz", size=32).train.sha256 == train.sha256, "what is not asked for is not read"


HUGE = "{'descr': '|u1', 'fortran_order': False, 'shape': (%s), }"

OTHERS = {
    "0-d": ({"x_train": np.uint8(3)}, "has uint8 () as x_train, which needs uint8 (N, 32, 32, 3)"),
    "0-d labels": ({"y_test": np.uint8(3)}, "has uint8 () as y_test, which needs integers (N,)"),
    "structured": ({"x_train": np.zeros(4, [("a", "u1"), ("b", "f4")])}, "as x_train"),
    "complex labels": ({"y_train": Y.astype(complex)}, "has complex128 (4,) as y_train"),
    "float labels": ({"y_train": Y.astype(float)}, "has float64 (4,) as y_train"),
    "text labels": ({"y_train": Y.astype(str)}, "as y_train"),
    "dates": ({"y_train": Y.astype("M8[s]")}, "as y_train"),
    "objects": ({"y_train": npy(Y.astype(object), allow_pickle=True)}, "has object (4,) as y_train"),
    "other size": ({"x_train": np.zeros((4, 16, 16, 3), np.uint8)}, "has uint8 (4, 16, 16, 3) as x_train"),
    "other numbers": ({"x_train": X.astype(np.int16)}, "has int16 (4, 32, 32, 3) as x_train"),
    "huge": ({"x_train": header(HUGE % "10**15, 32, 32, 3")}, "images.npz is no whole .npz file"),
    "huge number": (
        {"x_train": header(HUGE % f"{10**15}, 32, 32, 3")},
        "1,000,000,000,000,000 rows in x_train, of which at",
    ),
    "huge labels": (
        {"y_train": header("{'descr': '<i8', 'fortran_order': False, 'shape': (10000000000,), }")},
        "rows in y_",
    ),
    "negative": ({"x_train": header(HUGE % "-1, 32, 32, 3")}, "no whole .npz file"),
    "deep": ({"x_train": header("(" * 9000)}, "no whole .npz file"),
    "no dtype": ({"x_train": header("{'descr': 'nonsense', 'fortran_order': False, 'shape': (4,), }")}, "no whole"),
    "version": ({"x_train": header(HUGE % "4, 32, 32, 3", b"\3\0")}, "version 3.0 of NumPy's format"),
    "no array": ({"x_train": b"no array"}, "no whole .npz file"),
    "empty": ({"x_train": b""}, "no whole .npz file"),
    "cut short": ({"x_train": npy(X)[:-1]}, "no whole .npz file"),
    "too long": ({"x_train": npy(X) + b"\0"}, "x_train is longer than its header says"),
    "lacking": ({"y_test": None}, "lacks y_test; it needs x_train, y_train, x_test, y_test"),
    "fewer labels": ({"y_train": Y[:3]}, "has 4 images in x_train and 3 labels in y_train"),
    "other labels": ({"y_train": Y + 10}, "needs labels 0 to 9, got 10 to 19"),
    "negative labels": ({"y_train": -Y.astype(int)}, "needs labels 0 to 9, got -9 to 0"),
    "no rows": ({"x_test": X[:0], "y_test": Y[:0]}, "needs labels 0 to 9, got none"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_array_is_named(tmp_path, name):
    changes, told = OTHERS[name]
    assert told in refusal(archive(tmp_path / "images.npz", **changes))


def with_field(path, mark, place, value):
    """The archive with some bytes of every header that begins with a mark replaced."""
    content = bytearray(path.read_bytes())
    at = content.find(mark)
    while at >= 0:
        content[at + place : at + place + len(value)] = value
        at = content.find(mark, at + 4)
    path.write_bytes(content)
    return path


LOCAL, CENTRAL = b"PK\3\4", b"PK\1\2"


def test_damage_to_the_archive_is_named(tmp_path):
    path = tmp_path / "images.npz"
    whole = archive(path, zipfile.ZIP_DEFLATED).read_bytes()
    for content in (
        b"",
        b"PK",
        whole[:-1],
        whole[: len(whole) // 2],
        whole[10:],
        b"\0" * 100,
        whole.replace(b"x_train", b"x_trainx"),
    ):
        path.write_bytes(content)
        assert "no whole .npz file" in refusal(path) or "lacks" in refusal(path)
    # The deflated bytes of the first array.
    path.write_bytes(whole[:60] + b"\xff" * 20 + whole[80:])
    assert "no whole .npz file" in refusal(path)


def test_an_archive_that_nobody_here_unpacks_is_named(tmp_path):
    for place, value in ((6, b"\1\0"), (8, b"\x63\0"), (8, b"\x0e\0")):  # encrypted, compressed by method 99, by LZMA
        path = archive(tmp_path / "images.npz", zipfile.ZIP_DEFLATED)
        with_field(with_field(path, LOCAL, place, value), CENTRAL, place + 2, value)
        assert "no whole .npz file" in refusal(path)


def test_a_member_that_unpacks_to_more_than_it_says_is_not_unpacked(tmp_path):
    """Ten million zeros in ten thousand bytes, said to be four images."""
    path = archive(tmp_path / "images.npz", zipfile.ZIP_DEFLATED, x_train=npy(X) + bytes(10**7))
    assert path.stat().st_size < 10**5
    assert "longer than its header says" in refusal(path)


def test_a_list_of_too_many_members_is_not_read(tmp_path):
    path = archive(tmp_path / "images.npz")
    with zipfile.ZipFile(path, "a") as file:
        for number in range(12_000):
            file.writestr(f"{number}{'x' * 50}", b"")
    assert "list of members of which at most 1,048,576 bytes are read" in refusal(path)
    small = archive(tmp_path / "images.npz").read_bytes()
    path.write_bytes(small[:-22] + b"PK\6\7" + bytes(16) + small[-22:])
    assert "list of members" in refusal(path), "of another, which this one hides"


def test_other_files_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", X)
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    assert "no whole .npz file" in refusal(tmp_path / "a.npz")
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(InputError, match="not a folder"):
        load_images(tmp_path / "pipe.npz", size=32)
    with pytest.raises(InputError, match="no regular file"):
        read_arrays(tmp_path / "pipe.npz", "images", {"x": Expected("f", (None,), "numbers")}, most_rows=1)
