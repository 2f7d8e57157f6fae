"""Images from folders and arrays: labels, colours, sizes, damage."""

import errno
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cimm_jax.data.image_sources import load_images
from cimm_jax.errors import InputError

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")


def save(path, colour=(204, 0, 51), size=(8, 8), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path)


@pytest.fixture
def split(tmp_path):
    for part in ("train", "test"):
        for number, name in enumerate(("ant", "bee")):
            for image in range(3):
                save(tmp_path / part / name / f"{image}.png", (100 * number, 10 * image, 7))
    return tmp_path


def everything(images):
    return np.concatenate(list(images.batches(2)))


def test_labels_are_the_class_folders_in_order_and_batches_keep_the_order(split):
    train, heldout = load_images(split, size=8)
    assert train.classes == heldout.classes == ("ant", "bee")
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    pixels = everything(train)
    assert pixels.shape == (6, 8, 8, 3)
    assert pixels.dtype == np.uint8
    assert pixels[:, 0, 0].tolist() == [[100 * (i // 3), 10 * (i % 3), 7] for i in range(6)]
    assert np.concatenate(list(train.batches(4, start=3))).tolist() == pixels[3:].tolist()
    assert load_images(split, size=8, classes=["bee", "ant"]).train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert load_images(split, size=8, classes=["bee", "ant"]).train.classes == ("bee", "ant")


def test_a_flat_folder_has_one_image_a_class(tmp_path):
    for name in ("n02_b", "n01_a", "n10_c"):
        save(tmp_path / f"{name}.JPEG")
    (tmp_path / "notes.txt").write_text("not an image")
    train, heldout = load_images(tmp_path, size=8)
    assert heldout is None
    assert train.classes == ("n01_a", "n02_b", "n10_c")
    assert train.labels.tolist() == [0, 1, 2]
    assert load_images(tmp_path, size=8, classes=["a", "b", "c"]).train.classes == ("a", "b", "c")


def test_grey_and_transparent_images_become_rgb_and_other_sizes_are_fitted(tmp_path):
    save(tmp_path / "a.png", mode="L")
    save(tmp_path / "b.png", mode="RGBA")
    save(tmp_path / "c.png", mode="P")
    half = Image.new("RGB", (32, 16), (0, 0, 0))
    half.paste((255, 255, 255), (16, 0, 32, 16))
    half.save(tmp_path / "d.png")
    save(tmp_path / "e.png", size=(3, 5))
    grey, transparent, palette, wide, small = everything(load_images(tmp_path, size=8).train)
    assert (grey == grey[:1, :1, :1]).all()
    assert transparent[0, 0].tolist() == palette[0, 0].tolist() == [204, 0, 51]
    assert wide[:, 0].max() == 0, "the centre is cut out of a wide image, and its left side is black"
    assert wide[:, -1].min() == 255
    assert small[0, 0].tolist() == [204, 0, 51]


def test_damaged_images_are_skipped_and_counted_or_refused(split):
    whole = (split / "train/ant/0.png").read_bytes()
    (split / "train/ant/0.png").write_bytes(whole[: len(whole) // 2])
    (split / "train/bee/2.png").write_text("no image")
    train = load_images(split, size=8).train
    assert train.labels.tolist() == [0, 0, 1, 1]
    assert len(train.skipped) == 2
    assert len(everything(train)) == 4
    with pytest.raises(InputError, match=r"ant.0\.png cannot be decoded"):
        load_images(split, size=8, strict=True)


def test_skipped_images_are_named_within_the_folder_and_in_one_line(split):
    (split / "train/ant/0\n.png").write_text("no image")
    (split / "train/bee/2.png").write_bytes((split / "train/bee/2.png").read_bytes()[:40])
    os.mkfifo(split / "train/bee/pipe.png")
    (split / "train/bee/folder.png").mkdir()
    train, heldout = load_images(split, size=8)
    assert train.labels.tolist() == [0, 0, 0, 1, 1]
    assert heldout.skipped == ()
    told = dict(text.split(": ", 1) for text in train.skipped)
    names = ["train/ant/0 .png", "train/bee/2.png", "train/bee/folder.png", "train/bee/pipe.png"]
    assert list(told) == names
    reasons = list(told.values())
    assert reasons[0] == "no image"
    assert reasons[1]
    assert reasons[2:] == ["a folder", "no regular file"]


def checksum(split, turned=()):
    digest = hashlib.sha256()
    for path in sorted((split / "train").glob("*/*")):
        name, of_content = path.relative_to(split).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{name} {of_content}{' turned' if name in turned else ''}\n".encode())
    return digest.hexdigest()


def test_an_image_that_is_turned_is_another_than_before(split):
    def save_turned(orientation):
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray(np.arange(64 * 3, dtype=np.uint8).reshape(8, 8, 3)).save(split / "train/ant/0.png", exif=exif)

    save_turned(1)
    plain = load_images(split, size=8).train
    lying = plain.pixels[0]
    assert plain.sha256 == checksum(split), "as it has always been: what was computed from upright images stays"
    save_turned(6)
    train = load_images(split, size=8).train
    assert train.sha256 == checksum(split, ["train/ant/0.png"]), "nobody takes features of the image lying on its side"
    np.testing.assert_array_equal(train.pixels[0], np.rot90(lying, -1))
    with train.pixels.original(0) as original:
        np.testing.assert_array_equal(original, train.pixels[0])


@pytest.mark.parametrize("place", [b"train/{}/0.png", b"train/ant/{}.png", b"{}/train/ant/0.png"])
def test_names_that_are_no_text_are_refused(split, place):
    path = Path(os.fsdecode(os.fsencode(split) + b"/" + place.replace(b"{}", b"na\xefve")))
    save(path)
    root = path.parents[2] if place.startswith(b"{}") else split
    with pytest.raises(InputError, match=r"^images: .*na\\udcefve.* is no name in UTF-8; rename it$"):
        load_images(root, size=8)


def test_folders_that_may_not_be_read_are_named(split, monkeypatch):
    iterdir = Path.iterdir

    def refuse(path):
        if path.name == "bee":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(
        InputError, match=r"^images: .*bee cannot be read \(Permission denied\); make it yours to read$"
    ):
        load_images(split, size=8)


def test_the_checksum_knows_contents_names_and_order(split):
    before = load_images(split, size=8).train.sha256
    assert load_images(split, size=8).train.sha256 == before
    assert load_images(split, size=8, classes=["bee", "ant"]).train.sha256 != before
    save(split / "train/ant/0.png", (1, 2, 3))
    assert load_images(split, size=8).train.sha256 != before


def test_cifar_and_mnist_come_as_images(tmp_path):
    x, y = np.arange(4 * 32 * 32 * 3, dtype=np.uint8).reshape(4, 32, 32, 3), np.array([3, 1, 0, 9], np.uint8)
    np.savez(tmp_path / "c.npz", x_train=x, y_train=y, x_test=x[:2], y_test=y[:2])
    train, heldout = load_images(tmp_path / "c.npz", size=32, image_rows=3)
    assert train.labels.tolist() == [3, 1, 0]
    assert len(heldout) == 2
    assert (everything(train) == x[:3]).all()


@needs_data
def test_mnist_in_colour_is_the_original_bytes():
    train, heldout = load_images(SHARED / "mnist", size=32, image_rows=50)
    pixels = everything(train)
    assert pixels.shape == (50, 32, 32, 3)
    assert pixels[0, 2:30, 2:30, 0].sum() == 27525, "the first image of the published file"
    assert pixels[0, :2].max() == 0
    assert (pixels[..., 0] == pixels[..., 2]).all()
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert len(heldout) == 50


@pytest.mark.parametrize(
    ("change", "settings", "named"),
    [
        (lambda root: save(root / "test/cat/0.png"), {}, "surplus cat"),
        (lambda root: (root / "test/bee").rename(root / "test/wasp"), {}, "missing bee"),
        (lambda root: [path.unlink() for path in (root / "train/ant").iterdir()], {}, "no usable image of ant"),
        (lambda root: None, {"classes": ["ant"]}, "surplus bee"),
        (lambda root: None, {"image_rows": 5}, "image_rows: .* is a folder of images"),
        (lambda root: [path.rename(root / path.name) for path in (root / "train").iterdir()], {}, "differ|neither"),
    ],
)
def test_unusable_folders_are_refused(split, change, settings, named):
    change(split)
    if not any((split / "train").iterdir()):
        (split / "train").rmdir()
    with pytest.raises(InputError, match=named):
        load_images(split, size=8, **settings)


def test_unusable_arrays_are_refused(tmp_path):
    x, y = np.zeros((4, 32, 32, 3), np.uint8), np.zeros(4, np.uint8)
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "lacking.npz", x_train=x)
    np.savez(tmp_path / "floats.npz", x_train=x.astype(float), y_train=y, x_test=x, y_test=y)
    np.savez(tmp_path / "labels.npz", x_train=x, y_train=y + 10, x_test=x, y_test=y)
    np.savez(tmp_path / "good.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    for name, named in (("text", "whole"), ("lacking", "y_train"), ("floats", "uint8"), ("labels", "labels")):
        with pytest.raises(InputError, match=named):
            load_images(tmp_path / f"{name}.npz", size=32)
    for settings, named in (
        ({"size": 224}, "224"),
        ({"classes": ["a"]}, "classes"),
        ({"image_rows": 1}, "image_rows: needs"),
    ):
        with pytest.raises(InputError, match=named):
            load_images(tmp_path / "good.npz", **{"size": 32, **settings})
    with pytest.raises(InputError, match="not a folder"):
        load_images(tmp_path / "missing", size=8)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="neither"):
        load_images(tmp_path / "empty", size=8)
