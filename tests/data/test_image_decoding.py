"""One image: upright, of 8 bits, and never larger in memory than it may be, whatever its header says."""

import io
import os
import struct
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from cimm_jax.data import image_decoding
from cimm_jax.data.byte_budget import ByteBudget
from cimm_jax.data.image_decoding import MOST_BYTES, MOST_SCANS, UndecodableError, decoded, fitted

ORIENTATION = 274


def content_of(image, kind="png", **settings):
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def pixels_of(content):
    with decoded(content) as image:
        return image


def png_of_size(width, height, rows=b""):
    """A PNG that says it has this size, of one grey a pixel."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


# --- upright ---


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_it_is_looked_at(kind, orientation):
    # Blocks of colours, for JPEG.
    stored = Image.fromarray(np.arange(0, 240, 40, dtype=np.uint8).reshape(2, 3).repeat(8, 0).repeat(8, 1))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    found = pixels_of(content_of(stored, kind, exif=exif))
    looked_at = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.T,
        6: lambda a: a[::-1].T,
        7: lambda a: a[::-1, ::-1].T,
        8: lambda a: a.T[::-1],
    }[orientation](np.asarray(stored))
    np.testing.assert_allclose(found.pixels[..., 0], looked_at, atol=6)
    if kind != "tiff":  # which Pillow itself has always turned
        assert found.turned == (orientation > 1)


def test_what_is_said_of_an_image_may_be_damaged():
    stored = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    for exif in (b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b""):
        found = pixels_of(content_of(stored, "png", exif=exif))
        assert found.pixels[..., 0].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert not found.turned


# --- bounds ---


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (png_of_size(8000, 8000), "8000 x 8000 pixels, at most 50,000,000 are read"),
        (png_of_size(13_300, 13_300), "pixels"),
        (png_of_size(2**31 - 1, 2**31 - 1), "pixels"),
        (png_of_size(1, 60_000, b"\0\0" * 60_000), "1 x 60000 pixels, one side may be 100 times the other"),
        (png_of_size(60_000, 1, b"\0" * 60_001), "one side may be"),
        (content_of(Image.new("I;16", (8, 8))), "more than 8 bits a channel, Pillow's mode I;16"),
        (content_of(Image.new("F", (8, 8)), "tiff"), "more than 8 bits a channel"),
        (content_of(Image.new("I", (8, 8)), "tiff"), "more than 8 bits a channel"),
        (b"", "no image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_no_network_is_given_is_refused_before_it_is_decoded(content, reason):
    with pytest.raises(UndecodableError) as caught, decoded(content, "record 3"):
        pass
    assert reason in caught.value.reason
    assert str(caught.value).startswith(f"images: record 3 cannot be decoded ({caught.value.reason})")
    assert " at 0x" not in caught.value.reason, "the same every time"


def test_a_strip_within_the_bound_is_fitted():
    assert fitted(np.zeros((2, 200, 3), np.uint8), 8).shape == (8, 8, 3)


def test_a_jpeg_that_is_drawn_again_and_again_is_refused():
    content = content_of(Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)), "jpeg", progressive=True)
    start, end = content.index(b"\xff\xda"), content.rindex(b"\xff\xd9")
    assert pixels_of(content).pixels.shape == (8, 8, 3)
    with pytest.raises(UndecodableError, match=f"scans, at most {MOST_SCANS} are read"):
        pixels_of(content[:end] + content[start:end] * MOST_SCANS + content[end:])


def test_a_file_that_is_too_large_or_none_is_not_opened(tmp_path):
    with (tmp_path / "a.png").open("wb") as file:
        file.write(content_of(Image.new("RGB", (8, 8))))
        file.truncate(MOST_BYTES + 1)
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "c.png").mkdir()
    for name, reason in (
        ("a", "bytes, of which at most"),
        ("b", "no regular file"),
        ("c", "a folder"),
        ("d", "No such"),
    ):
        with pytest.raises(UndecodableError) as caught, decoded(tmp_path / f"{name}.png"):
            pass
        assert reason in caught.value.reason


def test_readers_share_memory_and_whoever_asks_for_too_much_is_served_alone():
    budget, most, lock = ByteBudget(100), [0, 0], threading.Lock()
    gate = threading.Event()

    def use(amount):
        with budget.held(amount):
            with lock:
                most[0] += min(amount, 100)
                most[1] = max(most)
            gate.wait(0.002)
            with lock:
                most[0] -= min(amount, 100)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(use, [30, 1, 100, 50, 1000] * 20))
    assert most == [0, most[1]]
    assert 50 < most[1] <= 100


def test_memory_is_given_back_when_an_image_is_damaged(monkeypatch):
    monkeypatch.setattr(image_decoding, "_MEMORY", ByteBudget(10_000))
    whole = content_of(Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)))
    for _ in range(5):
        with pytest.raises(UndecodableError):
            pixels_of(whole[: len(whole) // 2])
        assert pixels_of(whole).pixels.shape == (20, 20, 3)


PROGRAM = """
import resource, sys
from cimm_jax.data.image_sources import load_images
try:
    train = load_images(sys.argv[1], size=8).train
    list(train.batches(4))
    print(len(train), len(train.skipped), end=" ")
except ValueError as error:
    print(type(error).__name__, end=" ")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_many_large_images_take_the_memory_of_a_few(tmp_path):
    for number in range(12):
        Image.new("RGB", (7000, 7000), (number, 0, 0)).save(tmp_path / f"{number}.bmp")
    for number in range(6):
        Image.new("L", (13_300, 13_300)).save(tmp_path / f"large{number}.png")
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=True)
    images, kilobytes = done.stdout.split()
    assert images == "InputError", "a class has no image left"
    for number in range(6):
        (tmp_path / f"large{number}.png").unlink()
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=True)
    images, skipped, kilobytes = done.stdout.split()
    assert (images, skipped) == ("12", "0")
    assert int(kilobytes) * 1024 < 1.3 * image_decoding.IN_FLIGHT + 400e6
