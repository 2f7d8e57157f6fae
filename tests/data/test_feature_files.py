"""Own features: five formats hold the same, folders put files together, and what cannot be used is one line that says where."""

import io
import os
import pickle
import sys
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.flax
from data.feature_examples import COLUMNS, WORDS, WRITERS, X, Y, example, write_csv, write_npy, write_npz
from safetensors.numpy import save_file

from cimm_jax.data.feature_files import FORMATS, read_features
from cimm_jax.errors import InputError


def refusal(path, label=None):
    with pytest.raises(InputError) as caught:
        read_features(path, "primary", label)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(("primary: ", "label: "))
    return message


# --- what is read ---


def test_the_formats_tested_are_those_that_are_read():
    assert {f".{kind}" for kind in WRITERS} == set(FORMATS)


@pytest.mark.parametrize("y", [Y, WORDS, Y.astype(float), None], ids=["whole", "text", "floats", "none"])
@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_holds_the_same(tmp_path, kind, y):
    if kind == "safetensors" and y is WORDS:
        pytest.skip("safetensors holds no text")
    table, heldout = read_features(example(tmp_path, kind, y=y), "primary")
    assert heldout is None
    np.testing.assert_allclose(table.x, X, rtol=1e-7)
    assert table.x.dtype == (np.float64 if kind == "csv" else np.float32)
    assert (table.labels is None) == (y is None)
    if y is not None:
        assert table.labels.tolist() == y.tolist()
    assert table.columns == (COLUMNS if kind in ("csv", "parquet") else None)


def test_npy_is_read_from_its_file_when_numbers_are_needed(tmp_path):
    table = read_features(write_npy(tmp_path / "a.npy"), "primary").train
    with (tmp_path / "a.npy").open("r+b") as file:
        file.seek(-4, 2)
        file.write(np.float32(7).tobytes())
    assert np.asarray(table.x)[-1, -1] == 7


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors", "parquet"])
def test_half_precision_becomes_float32(tmp_path, kind):
    table = read_features(example(tmp_path, kind, x=X.astype(np.float16)), "primary").train
    assert table.x.dtype == np.float32
    np.testing.assert_array_equal(table.x, X.astype(np.float16))


def test_bfloat16_becomes_float32(tmp_path):
    x = jnp.asarray(X, jnp.bfloat16)
    safetensors.flax.save_file({"embeddings": x, "labels": jnp.asarray(Y)}, tmp_path / "a.safetensors")
    table = read_features(tmp_path / "a.safetensors", "primary").train
    assert table.x.dtype == np.float32
    np.testing.assert_array_equal(table.x, np.asarray(x, np.float32))


def test_bytes_and_whole_numbers_are_features_too(tmp_path):
    table = read_features(
        write_npz(tmp_path / "a.npz", x=np.arange(36, dtype=np.uint8).reshape(12, 3)), "primary"
    ).train
    assert (table.x.dtype, table.x.read(11, 12)[0].tolist()) == (np.float64, [33.0, 34.0, 35.0])


@pytest.mark.parametrize(
    "names", [("features", "label"), ("arr_0", "labels"), ("x_train", "y_train"), ("x", "y")], ids=lambda of: of[0]
)
def test_arrays_have_some_other_names(tmp_path, names):
    arrays = dict(zip(names, (X, Y), strict=True))
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    save_file(arrays, tmp_path / "a.safetensors")
    for name in ("a.npz", "a.safetensors"):
        table = read_features(tmp_path / name, "primary").train
        np.testing.assert_array_equal(table.x, X)
        assert table.labels.tolist() == Y.tolist()


def test_a_label_may_be_named_and_one_column_of_labels_will_do(tmp_path):
    path = write_npz(tmp_path / "a.npz", target=Y[::-1, None])
    assert read_features(path, "primary").train.labels.tolist() == Y.tolist()
    assert read_features(path, "primary", "target").train.labels.tolist() == Y[::-1].tolist()
    path = write_csv(tmp_path / "a.csv", label="kind")
    table = read_features(path, "primary", "kind").train
    assert (table.labels.tolist(), table.columns) == (Y.tolist(), COLUMNS)
    assert read_features(path, "primary").train.columns == ("first", "kind", "second", "third"), "else it is a feature"


@pytest.mark.parametrize("end", ["heldout", "test"])
@pytest.mark.parametrize("label", ["y", "target"])
def test_held_out_rows_may_be_in_the_file(tmp_path, end, label):
    arrays = {"x": X, label: Y, f"x_{end}": X[:5] + 1, f"{label}_{end}": Y[:5]}
    np.savez(tmp_path / "a.npz", **arrays)
    save_file(arrays, tmp_path / "a.safetensors")
    for name in ("a.npz", "a.safetensors"):
        train, heldout = read_features(tmp_path / name, "primary", None if label == "y" else label)
        np.testing.assert_array_equal(train.x, X)
        np.testing.assert_array_equal(heldout.x, X[:5] + 1)
        assert heldout.labels.tolist() == Y[:5].tolist()


def test_parquet_may_hold_lists_and_the_index_of_pandas_is_no_feature(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for kind in (pa.list_(pa.float32()), pa.list_(pa.float32(), 3), pa.large_list(pa.float32())):
        columns = {"embedding": pa.array(X.tolist(), kind), "label": WORDS, "__index_level_0__": np.arange(12)}
        pq.write_table(pa.table(columns), tmp_path / "a.parquet")
        table = read_features(tmp_path / "a.parquet", "primary").train
        np.testing.assert_array_equal(table.x, X)
        assert table.labels.tolist() == WORDS.tolist()


# --- folders ---


@pytest.mark.parametrize("kind", WRITERS)
def test_files_of_a_folder_are_put_together_by_name(tmp_path, kind):
    for name, rows in (("b", slice(7, 12)), ("a", slice(0, 7))):
        (tmp_path / name).mkdir()
        path = example(tmp_path / name, kind, x=X[rows], y=Y[rows])
        for file in path.parent.iterdir():
            file.rename(tmp_path / file.name.replace("a.", f"{name}.", 1))
        (tmp_path / name).rmdir()
    (tmp_path / ".hidden").write_text("")
    (tmp_path / "_SUCCESS").write_text("")
    table, heldout = read_features(tmp_path, "primary")
    np.testing.assert_allclose(table.x, X, rtol=1e-7)
    assert (table.labels.tolist(), heldout) == (Y.tolist(), None)


def test_files_with_held_out_rows_of_their_own_are_put_together_too(tmp_path):
    for place, name in enumerate(("a", "b")):
        write_npz(tmp_path / f"{name}.npz", x_heldout=X[:2] + place, y_heldout=Y[:2])
    train, heldout = read_features(tmp_path, "primary")
    assert (len(train.x), heldout.x.read(2, 3)[0, 0]) == (24, X[0, 0] + 1)
    write_npz(tmp_path / "c.npz")
    assert "c.npz has no held-out part, and others in its folder do" in refusal(tmp_path)


@pytest.mark.parametrize("end", ["heldout", "test"])
@pytest.mark.parametrize("folders", [False, True])
def test_a_folder_may_have_two_parts(tmp_path, end, folders):
    for name, rows in (("train", slice(0, 7)), (end, slice(7, 12))):
        if folders:
            (tmp_path / name).mkdir()
        write_npz(tmp_path / (f"{name}/0.npz" if folders else f"{name}.npz"), X[rows], Y[rows])
    train, heldout = read_features(tmp_path, "primary")
    np.testing.assert_array_equal(train.x, X[:7])
    np.testing.assert_array_equal(heldout.x, X[7:])
    assert heldout.labels.tolist() == Y[7:].tolist()


def test_a_part_without_the_other_or_with_parts_of_its_own_is_refused(tmp_path):
    write_npz(tmp_path / "test.npz", x_heldout=X, y_heldout=Y)
    assert "has no train beside test" in refusal(tmp_path)
    write_npz(tmp_path / "train.npz")
    assert "test.npz is one part, and has a held-out part of its own" in refusal(tmp_path)
    (tmp_path / "test.npz").unlink()
    assert "has no heldout or test beside train" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("second", "named"),
    [
        ({"x": X[:, :2]}, "b.npz has 2 features and primary: {}/a.npz 3"),
        ({"y": None}, "b.npz has no labels and primary: {}/a.npz numeric labels"),
        ({"y": WORDS}, "b.npz has labels that are text and"),
    ],
)
def test_files_of_a_folder_that_do_not_fit_together_are_refused(tmp_path, second, named):
    write_npz(tmp_path / "a.npz")
    write_npz(tmp_path / "b.npz", **second)
    assert named.format(tmp_path) in refusal(tmp_path)


def test_columns_are_the_same_in_the_same_order(tmp_path):
    path = write_csv(tmp_path / "a.csv")
    text = path.read_text()
    (tmp_path / "b.csv").write_text(text.replace("third", "fourth", 1))
    assert "b.csv has other columns than" in (message := refusal(tmp_path))
    assert "a.csv: fourth; make them equal" in message
    (tmp_path / "b.csv").write_text(text.replace("first,y,second", "second,y,first", 1))
    assert "the same in another order" in refusal(tmp_path)


# --- what is refused ---


def test_a_place_that_cannot_be_read_is_refused(tmp_path):
    assert refusal(tmp_path / "a.npz") == (f"primary: {tmp_path}/a.npz is missing; give a file or a folder of features")
    assert "has no files" in refusal(tmp_path)
    (tmp_path / "a.txt").write_text("1")
    known = ".npy, .npz, .safetensors, .parquet, .csv"
    message = refusal(tmp_path / "a.txt")
    assert message.endswith(f"a.txt is no file of a known format (.txt); give files that end in one of {known}")
    assert "a.txt is no file of a known format" in refusal(tmp_path)
    write_npz(tmp_path / "a.npz")
    assert "has files of several formats (.npz, .txt); keep one of them" in refusal(tmp_path)
    (tmp_path / "more" / "below").mkdir(parents=True)
    assert "below is a folder" in refusal(tmp_path / "more")
    os.mkfifo(tmp_path / "pipe.npy")
    assert "cannot be read (no regular file)" in refusal(tmp_path / "pipe.npy")


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_refused_with_its_place(tmp_path, kind, bad):
    x = X.copy()
    x[4, 1] = bad
    message = refusal(example(tmp_path, kind, x=x))
    name = "column second" if kind in ("csv", "parquet") else "column 2"
    assert f"a.{kind} has {bad} in row 5, {name} (counted from 1)" in message


def test_a_number_that_is_not_finite_is_found_far_down(tmp_path):
    x = np.zeros((40_000, 2), np.float32)
    x[35_000, 1] = np.nan
    assert "row 35001, column 2" in refusal(write_npy(tmp_path / "a.npy", x, None))


@pytest.mark.parametrize("kind", WRITERS)
def test_damaged_files_are_refused(tmp_path, kind):
    path = example(tmp_path, kind)
    path.write_bytes(path.read_bytes()[:-20] if kind != "csv" else b"a,b\n\xff,1\n")
    assert f"a.{kind} is no whole .{kind} file" in refusal(path).replace("safetensors file", ".safetensors file")


@pytest.mark.parametrize("kind", ["npz", "safetensors", "csv", "parquet"])
def test_a_label_that_is_not_there_is_refused_with_those_that_are(tmp_path, kind):
    message = refusal(example(tmp_path, kind), "kind")
    assert message.startswith("label: primary: ")
    assert ("has no kind; it has " if kind in ("npz", "safetensors") else "second") in message


def test_npy_has_no_names(tmp_path):
    assert refusal(write_npy(tmp_path / "a.npy"), "y").endswith(
        "has no names; put labels beside it as a.labels.npy, or use .npz"
    )


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return self.path.write_text, ("caught",)


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_pickled_objects_are_never_loaded(tmp_path, kind):
    refusal(example(tmp_path, kind, y=np.asarray([Trap(tmp_path / "trap")] * 12, object)))
    (tmp_path / f"b.{kind}").write_bytes(pickle.dumps(Trap(tmp_path / "trap")))
    refusal(tmp_path / f"b.{kind}")
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"y": Y[:5]}, r"labels of shape (5,) for 12 rows"),
        ({"y": np.eye(12)}, r"labels of shape (12, 12) for 12 rows"),
        ({"y": Y * 1j}, r"as y, which needs numbers or text"),
        ({"x": X[:0]}, r"features of shape (0, 3)"),
        ({"x": X[:, 0]}, r"features of shape (12,)"),
    ],
)
def test_other_shapes_and_types_are_refused(tmp_path, given, named):
    assert named in refusal(write_npz(tmp_path / "a.npz", **given))


@pytest.mark.parametrize("arrays", [{"a": X, "b": X}, {"y": Y}, {"a": X[None]}])
def test_features_that_are_not_clear_are_refused_with_what_there_is(tmp_path, arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    message = refusal(tmp_path / "a.npz")
    assert "none called x; it has " in message
    assert str(next(iter(arrays.values())).shape) in message


def test_an_array_that_no_name_is_right_for_is_not_read(tmp_path):
    """What an archive holds besides may be anything."""
    content = io.BytesIO()
    np.lib.format.write_array(content, np.array({}, object))
    path = write_npz(tmp_path / "a.npz")
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("notes.npy", content.getvalue())
        file.writestr("readme.txt", "hello")
    assert len(read_features(path, "primary").train.x) == 12


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "is empty"),
        ("1,2\n3,4\n", "begins with numbers"),
        ("a,,y\n1,2,0\n", "has no name for column 2"),
        ("a,a,y\n1,2,0\n", "has two columns called a"),
        ("a,b,y\n1,2,0\n1,0\n", "has 2 cells in row 2, and 3 columns"),
        ("a,b,y\n1,2,0\n1,blue,0\n", "has 'blue' in row 2, column b, where a number is expected"),
        ("a,b,y\n1,,0\n", "has '' in row 1, column b, where a number is expected"),
        ("a,b,y\n", "has features of shape (0, 2)"),
        ("y\n1\n", "has features of shape (0, 0)"),
        ('a,b\n"1,2\n', "is no whole .csv file"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(tmp_path, text, named):
    (tmp_path / "a.csv").write_text(text)
    assert named in refusal(tmp_path / "a.csv")


def test_text_and_gaps_in_parquet_are_refused_with_their_place(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for columns, named in (
        ({"a": [1.0, 2.0], "b": ["x", "z"]}, "has 'x' in row 1, column b, where a number is expected"),
        ({"a": [1.0, None], "y": [0, 1]}, "has nothing in row 2, column a"),
        ({"a": [1.0, 2.0], "y": [0, None]}, "has nothing in row 2, column y"),
        ({"a": [[1.0], [1.0, 2.0]], "y": [0, 1]}, "has lists of several lengths in column a, such as row 2"),
        ({"a": [[1.0, None], [1.0, 2.0]], "y": [0, 1]}, "has nothing in row 2, column a, flattened,"),
        ({"a": [1.0, 2.0], "y": [[0], [1]]}, "in column y; give numbers or text"),
    ):
        pq.write_table(pa.table(columns), tmp_path / "a.parquet")
        assert named in refusal(tmp_path / "a.parquet")


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert refusal(tmp_path / "a.parquet").endswith("needs pyarrow to be read; pip install 'cimm_jax[parquet]'")
