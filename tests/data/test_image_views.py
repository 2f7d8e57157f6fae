"""Augmented views: what may change, what must not, and that they are the same wherever they are made."""

from contextlib import nullcontext

import numpy as np
import pytest
from PIL import Image

from cimm_jax.data.augmentation import PaddedCrop, ResizedCrop, augmentation_for
from cimm_jax.data.image_set import ArrayPixels, ImageSet
from cimm_jax.data.image_sources import load_images
from cimm_jax.data.image_views import with_views
from cimm_jax.errors import InputError

SIZE, COUNT, VIEWS = 16, 5, 4
CROP = PaddedCrop(SIZE, (1, 2, 3))


@pytest.fixture
def images(rng):
    pixels = rng.integers(4, 256, (COUNT, SIZE, SIZE, 3)).astype(np.uint8)
    return ImageSet(ArrayPixels(pixels), np.arange(COUNT), tuple("abcde"), "plain")


def everything(images, rows=3):
    return np.concatenate(list(images.batches(rows)))


def test_the_first_view_is_the_image_and_the_others_are_not(images):
    viewed = with_views(images, VIEWS, CROP)
    assert len(viewed) == len(viewed.pixels) == VIEWS * COUNT
    assert viewed.labels.tolist() == [*range(COUNT)] * VIEWS
    pixels = everything(viewed).reshape(VIEWS, COUNT, SIZE, SIZE, 3)
    assert pixels.dtype == np.uint8
    assert (pixels[0] == everything(images)).all()
    assert len(np.unique(pixels.reshape(VIEWS * COUNT, -1), axis=0)) > 3 * COUNT, "views differ"


def test_views_depend_on_the_seed_only(images):
    pixels = everything(with_views(images, VIEWS, CROP))
    assert (everything(with_views(images, VIEWS, CROP), rows=7) == pixels).all()
    assert (next(with_views(images, VIEWS, CROP).batches(1, start=13)) == pixels[13]).all()
    assert (everything(with_views(images, 2, CROP)) == pixels[: 2 * COUNT]).all(), "more views leave these as they are"
    assert (everything(with_views(images, VIEWS, CROP, seed=1))[COUNT:] != pixels[COUNT:]).any()


def test_the_checksum_knows_everything_that_decides(images):
    made = [
        images,
        with_views(images, 2, CROP),
        with_views(images, 3, CROP),
        with_views(images, 3, CROP, seed=1),
        with_views(images, 3, PaddedCrop(SIZE, (0, 0, 0))),
        with_views(images, 3, ResizedCrop(SIZE)),
        with_views(images, 3, ResizedCrop(SIZE, area=(0.5, 1))),
    ]
    assert len({made.sha256 for made in made}) == len(made)
    assert with_views(images, 3, CROP).sha256 == made[2].sha256
    assert with_views(images, 1, CROP) is images


def test_few_views_are_in_memory(images):
    made = []

    def watched(pixels, index, rng):
        made.append(index)
        return CROP(pixels, index, rng)

    batches = with_views(images, 1000, watched).batches(2)
    for _ in range(4):
        next(batches)
    assert len(made) < 500


def test_a_padded_crop_is_the_shifted_image_perhaps_mirrored(images):
    image, seen = images.pixels[0], set()
    padded = np.empty((SIZE + 4, SIZE + 4, 3), np.uint8)
    padded[:] = (1, 2, 3)
    padded[2:-2, 2:-2] = image
    places = {
        padded[top : top + SIZE, left : left + SIZE][:, ::step].tobytes(): (top, left, step)
        for top in range(5)
        for left in range(5)
        for step in (1, -1)
    }
    for seed in range(400):
        seen.add(places[CROP(images.pixels, 0, np.random.default_rng(seed)).tobytes()])
    assert len(seen) == len(places) == 50


def test_a_resized_crop_is_a_part_of_the_whole_image():
    # Red tells the column, green the row; the original is wider than what the network sees of it.
    red, green = np.meshgrid(np.arange(200), np.arange(100))
    original = np.stack([red, 2 * green, np.full_like(red, 7)], axis=-1).astype(np.uint8)

    class Wide(ArrayPixels):
        def original(self, index):
            return nullcontext(original)

    crop, shares, ratios, mirrored = ResizedCrop(32), [], [], 0
    for seed in range(200):
        view = crop(Wide(np.zeros((1, 32, 32, 3), np.uint8)), 0, np.random.default_rng(seed)).astype(int)
        assert view.shape == (32, 32, 3)
        assert (view[..., 2] == 7).all()
        columns, rows = view[16, :, 0], view[:, 16, 1] / 2
        mirrored += columns[0] > columns[-1]
        width, height = abs(columns[-1] - columns[0]) * 32 / 31, (rows[-1] - rows[0]) * 32 / 31
        shares.append(width * height / original[..., 0].size)
        if height < 90:
            ratios.append(width / height)
    assert 60 < mirrored < 140
    assert 0.7 < min(ratios) < 0.8
    assert 1.25 < max(ratios) < 1.4
    assert min(shares) > 0.07
    assert max(shares) < 0.82, "its height bounds it"
    assert max(shares) > 4 * min(shares)


@pytest.mark.parametrize("mirror", [True, False])
def test_what_is_another_thing_in_the_mirror_is_not_mirrored(mirror):
    ramp = np.tile(np.arange(0, 160, 10, dtype=np.uint8)[None, :, None], (16, 1, 3))
    for size in (16, 128):
        crop = augmentation_for(size, (0, 0, 0), mirror=mirror)
        views = [crop(ArrayPixels(ramp[None]), 0, np.random.default_rng(seed)).astype(int) for seed in range(20)]
        falls = [view[size // 2, size // 2 + 2, 0] < view[size // 2, size // 2 - 2, 0] for view in views]
        assert any(falls) is mirror


def test_networks_of_each_size_have_their_augmentation():
    assert augmentation_for(32, (123.7, 116.3, 103.5)) == PaddedCrop(32, (124, 116, 104))
    assert augmentation_for(224, (127, 127, 127)) == ResizedCrop(224)


def test_folders_give_the_image_before_it_was_brought_to_the_size(tmp_path):
    Image.new("RGB", (20, 10), (9, 8, 7)).save(tmp_path / "a.png")
    viewed = with_views(load_images(tmp_path, size=8).train, 2, ResizedCrop(8))
    with viewed.pixels.original(1) as original:
        assert original.shape == (10, 20, 3)
    assert everything(viewed).tolist() == np.full((2, 8, 8, 3), (9, 8, 7)).tolist()


def test_bad_numbers_of_views_are_refused(images):
    for views in (0, 1001, 10**12):
        with pytest.raises(InputError, match=r"views: needs at least 1 .* and at most 1000"):
            with_views(images, views, CROP)
    with pytest.raises(InputError, match="images: have 2 views"):
        with_views(with_views(images, 2, CROP), 2, CROP)
