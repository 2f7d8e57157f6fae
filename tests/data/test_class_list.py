"""Some classes of every kind of image data set: which images, which labels, and what is refused."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cimm_jax.data.class_list import ClassList, choose, read_class_list
from cimm_jax.data.image_arrays import load_cifar10
from cimm_jax.data.image_sources import load_images
from cimm_jax.errors import InputError

LABELS = np.array([2, 0, 1, 2, 3, 0])
NAMES = ("ant", "bee", "cat", "dog")
SHARED = Path(__file__).parents[3] / "shared" / "data"


def read(*values, renumbered=True):
    return read_class_list(values, renumbered=renumbered, setting="harmful_classes")


def test_labels_are_positions_in_the_list_or_stay_what_they_are():
    renumbered = choose(LABELS, NAMES, read("dog", "ant"))
    assert renumbered.indices.tolist() == [1, 4, 5]
    assert renumbered.labels.tolist() == [1, 0, 1]
    assert renumbered.classes == ("dog", "ant")
    kept = choose(LABELS, NAMES, read("dog", "ant", renumbered=False))
    assert kept.indices.tolist() == [1, 4, 5]
    assert kept.labels.tolist() == [0, 3, 0]
    assert kept.classes == NAMES


def test_rows_are_counted_after_the_choice():
    assert choose(LABELS, NAMES, read("ant", "cat"), rows=3).indices.tolist() == [0, 1, 3]
    assert choose(LABELS, NAMES, None, rows=3).indices.tolist() == [0, 1, 2]


def test_names_come_from_a_file(tmp_path):
    (tmp_path / "names.txt").write_text("dog\n\n  ant \n")
    assert read(str(tmp_path / "names.txt")) == read("dog", "ant")
    assert read() is None


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (("ant",), "at least 2 names"),
        (("ant", "bee", "ant"), "ant named more than once"),
        (("missing.txt",), "file with one a line, got missing.txt"),
        (("ant", "eel", "fox"), "eel, fox unknown; choose among ant, bee, cat, dog"),
        (("ant", "dog"), "no image of dog among 1"),
    ],
)
def test_bad_lists_are_refused(names, named):
    with pytest.raises(InputError, match=f"harmful_classes: .*{named}"):
        choose(LABELS[:4], NAMES, read(*names))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\xff"])
def test_bad_files_are_refused(tmp_path, content):
    (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(InputError, match="harmful_classes"):
        read(str(tmp_path / "names.txt"))


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "loop"])
def test_a_name_that_no_file_can_have_is_a_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InputError, match="harmful_classes: needs at least 2 names"):
        read(name)


def test_a_file_of_names_has_a_bounded_size_and_is_no_pipe(tmp_path):
    (tmp_path / "names.txt").write_text("\n".join(map(str, range(200_000))))
    with pytest.raises(InputError, match=r"harmful_classes: .* of which at most 1,048,576 are read"):
        read(str(tmp_path / "names.txt"))
    (tmp_path / "names.txt").write_text("\n".join(map(str, range(100_000))))
    assert len(read(str(tmp_path / "names.txt")).names) == 100_000
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="needs at least 2 names"):
        read(str(tmp_path / "pipe"))


@pytest.fixture
def folder(tmp_path):
    for part in ("train", "test"):
        for number, name in enumerate(NAMES):
            for image in range(2):
                path = tmp_path / part / name / f"{image}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8, 8), (50 * number, image, 7)).save(path)
    return tmp_path


def test_folders_read_the_listed_classes_only(folder):
    (folder / "train/ant/0.png").write_text("damaged, and nobody looks")
    train, heldout = load_images(folder, size=8, only=ClassList(("dog", "bee")), strict=True)
    assert heldout is not None
    assert train.classes == heldout.classes == ("dog", "bee")
    assert train.labels.tolist() == heldout.labels.tolist() == [1, 1, 0, 0]
    assert next(train.batches(4))[:, 0, 0, 0].tolist() == [50, 50, 150, 150]
    kept = load_images(folder, size=8, only=ClassList(("dog", "bee"), renumbered=False)).train
    assert kept.labels.tolist() == [1, 1, 3, 3]
    assert kept.classes == NAMES


def test_a_listed_class_needs_a_usable_image(folder):
    for number in range(2):
        (folder / f"train/dog/{number}.png").write_text("damaged")
    load_images(folder, size=8, only=ClassList(("ant", "bee")))
    for renumbered in (True, False):
        with pytest.raises(InputError, match="no usable image of dog"):
            load_images(folder, size=8, only=ClassList(("ant", "dog"), renumbered))


def test_flat_folders_know_their_files_names(tmp_path):
    for name in NAMES:
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    assert load_images(tmp_path, size=8, only=ClassList(("dog", "bee"))).train.labels.tolist() == [1, 0]


def test_cifar_has_its_names_and_mnist_its_digits(tmp_path):
    x, y = np.arange(6 * 32 * 32 * 3, dtype=np.uint8).reshape(6, 32, 32, 3), np.array([3, 1, 0, 9, 1, 3], np.uint8)
    np.savez(tmp_path / "c.npz", x_train=x, y_train=y, x_test=x[:2], y_test=y[:2])
    train, heldout = load_images(tmp_path / "c.npz", size=32, image_rows=3, only=ClassList(("cat", "automobile")))
    assert heldout is not None
    assert train.labels.tolist() == [0, 1, 1]
    assert (next(train.batches(3)) == x[[0, 1, 4]]).all()
    assert heldout.labels.tolist() == [0, 1]
    assert train.sha256 != load_cifar10(tmp_path / "c.npz", rows=3).train.sha256


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
def test_mnist_by_digits():
    chosen = load_images(SHARED / "mnist", size=32, image_rows=4, only=ClassList(("4", "5"))).train
    every = load_images(SHARED / "mnist", size=32, image_rows=20).train
    assert not chosen.mirrored_alike
    expected = [index for index in range(20) if every.labels[index] in (4, 5)][:4]
    assert chosen.labels.tolist() == (every.labels[expected] - 4).tolist()
    assert (next(chosen.batches(4)) == np.stack([every.pixels[index] for index in expected])).all()
