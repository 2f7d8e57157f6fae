import gzip
import hashlib
import os
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cimm_jax.data.image_arrays import load_mnist_in_colour
from cimm_jax.data.mnist import FILES, MOST_BYTES, load_mnist
from cimm_jax.errors import InputError

ORIGINALS = Path(__file__).parents[3] / "shared" / "data" / "mnist"
TRAIN, HELDOUT = 30, 20


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def arrays(rng):
    def part(count):
        return rng.integers(0, 256, (count, 28, 28), np.uint8), rng.integers(0, 10, count).astype(np.uint8)

    return [*part(TRAIN), *part(HELDOUT)]


@pytest.fixture
def files(arrays):
    return [
        file._replace(sha256=hashlib.sha256(idx(array)).hexdigest()) for file, array in zip(FILES, arrays, strict=True)
    ]


@pytest.fixture
def folder(tmp_path, files, arrays):
    """Made-up MNIST, two files gzipped and two unpacked."""
    for packed, file, array in zip((True, False, False, True), files, arrays, strict=True):
        name = f"{file.name}.gz" if packed else file.name
        (tmp_path / name).write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    return tmp_path


def check_images(images, arrays):
    train_images, train_labels, heldout_images, heldout_labels = arrays
    assert images.train_x.dtype == images.heldout_x.dtype == np.float64
    assert images.train_y.dtype == images.heldout_y.dtype == np.int64
    np.testing.assert_array_equal(images.train_y, train_labels)
    np.testing.assert_array_equal(images.heldout_y, heldout_labels)
    for x, source in ((images.train_x, train_images), (images.heldout_x, heldout_images)):
        assert x.shape == (len(source), 784)
        np.testing.assert_allclose(255 * (x * 0.3081 + 0.1307), source.reshape(len(source), 784), atol=1e-10)


def test_packed_and_unpacked_files_are_read_row_by_row(folder, files, arrays):
    check_images(load_mnist(folder, files=files), arrays)


@pytest.mark.parametrize(("position", "there"), [(0, "train-images-idx3-ubyte.gz"), (1, "train-labels-idx1-ubyte")])
def test_a_missing_file_is_named_in_both_forms(folder, files, position, there):
    (folder / there).unlink()
    name = files[position].name
    with pytest.raises(InputError, match=f"^--data-dir: {folder} has neither {name}.gz nor {name}; put"):
        load_mnist(folder, files=files)


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[: len(packed) // 2],
        lambda packed: b"no gzip at all",
        lambda packed: packed[:10] + b"\xff" + packed[11:],
        lambda packed: packed[:-6] + b"\0\0" + packed[-4:],
    ],
    ids=["truncated", "another format", "invalid block", "wrong check value"],
)
def test_a_damaged_gzip_is_named_in_one_line(folder, files, damage):
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=f"^--data-dir: {path} cannot be read .*; download it again$"):
        load_mnist(folder, files=files)


@pytest.mark.parametrize("content", [bytes(50_000_000), bytes(8) + b"\1" * 48_000_000], ids=["zeros", "ones"])
def test_a_gzip_that_unpacks_to_more_than_mnist_is_not_unpacked(folder, files, monkeypatch, content):
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(content) * 3)
    asked = []
    read = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda file, size=-1: asked.append(size) or read(file, size))
    with pytest.raises(InputError, match=f"^--data-dir: {path} cannot be read .unpacks to more than 47,040,016 bytes"):
        load_mnist(folder, files=files)
    assert asked == [MOST_BYTES + 1]


def test_a_file_that_is_too_large_a_pipe_or_a_folder_is_named(folder, files):
    path = folder / "train-labels-idx1-ubyte"

    def large():
        with path.open("wb") as file:
            file.truncate(MOST_BYTES + 1)

    for make, reason in (
        (large, "47,040,017 bytes, of which at most 47,040,016 are read"),
        (lambda: os.mkfifo(path), "no regular file"),
        (path.mkdir, "a folder"),
    ):
        path.unlink()
        make()
        with pytest.raises(InputError, match=f"^--data-dir: {path} cannot be read .{reason}.; download it again$"):
            load_mnist(folder, files=files)


def test_who_asked_for_images_in_colour_knows_no_data_dir(folder):
    with pytest.raises(InputError, match=f"^images: {folder}/train-images-idx3-ubyte.gz has SHA-256"):
        load_mnist_in_colour(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: bytes([0, 0, 8, 3]) + content[4:], "starts with 0x00000803, expected 0x00000801"),
        (lambda content: bytes([0, 0, 9, 1]) + content[4:], "starts with 0x00000901, expected 0x00000801"),
        (lambda content: b"", "starts with 0x, expected 0x00000801"),
        (lambda content: content[:5], r"has 5 bytes, but its header says 8 \+ 0"),
        (lambda content: content[:-1], rf"has {7 + TRAIN} bytes, but its header says 8 \+ {TRAIN}"),
        (lambda content: content + b"\0", rf"has {9 + TRAIN} bytes, but its header says 8 \+ {TRAIN}"),
    ],
)
def test_content_that_is_not_the_idx_file_is_named(folder, files, change, message):
    path = folder / "train-labels-idx1-ubyte"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=f"^--data-dir: {path} {message}; download it again$"):
        load_mnist(folder, files=files)


def test_another_file_of_the_same_form_is_told_by_its_checksum(folder, files):
    path = folder / "train-labels-idx1-ubyte"
    changed = path.read_bytes()[:-1] + b"\x0b"
    path.write_bytes(changed)
    got, expected = hashlib.sha256(changed).hexdigest(), files[1].sha256
    with pytest.raises(InputError, match=f"^--data-dir: {path} has SHA-256 {got}, expected {expected}; download"):
        load_mnist(folder, files=files)


def test_the_originals_are_expected_unless_told_otherwise(folder):
    with pytest.raises(InputError, match="expected ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"):
        load_mnist(folder)


@pytest.mark.skipif(not ORIGINALS.exists(), reason="the MNIST files are not here")
def test_the_original_files_pass():
    images = load_mnist(ORIGINALS)
    assert images.train_x.shape == (60_000, 784)
    assert images.heldout_x.shape == (10_000, 784)
    assert images.train_y[:5].tolist() == [5, 0, 4, 1, 9]
    assert images.heldout_y[:5].tolist() == [7, 2, 1, 0, 4]
    # The paper's normalisation is that of the training part, rounded.
    assert abs(images.train_x.mean()) < 1e-3
    assert abs(images.train_x.std() - 1) < 1e-3


def fake_tfds(monkeypatch, data_source):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", SimpleNamespace(data_source=data_source))


def test_without_a_folder_tfds_is_asked(monkeypatch, capsys, arrays):
    asked = []

    def data_source(name, split):
        asked.append((name, split))
        print("Downloading and preparing")
        parts = {"train": arrays[:2], "test": arrays[2:]}
        return [
            [{"image": image[:, :, None], "label": label} for image, label in zip(*parts[one], strict=True)]
            for one in split
        ]

    fake_tfds(monkeypatch, data_source)
    check_images(load_mnist(), arrays)
    assert asked == [("mnist", ["train", "test"])]
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "Downloading and preparing\n")


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (ImportError("This requires tensorflow.\nInstall it."), "This requires tensorflow."),
        (OSError(), "OSError"),
        (RuntimeError("\nCorrupted records"), "Corrupted records"),
    ],
)
def test_whatever_tfds_raises_ends_in_one_line_with_the_remedies(monkeypatch, failure, reason):
    def data_source(name, split):
        raise failure

    fake_tfds(monkeypatch, data_source)
    with pytest.raises(InputError) as raised:
        load_mnist()
    assert str(raised.value) == (
        f"data: TensorFlow Datasets cannot provide mnist ({reason}); give --data-dir with the four IDX files, "
        "or install cimm_jax[tfds] and connect to a network"
    )


def test_tfds_that_cannot_be_imported_is_the_same_failure(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(InputError, match=r"cannot provide mnist .*tensorflow_datasets.*--data-dir"):
        load_mnist()
