"""One image file: bytes to pixels of the size that a network takes, within bounds whatever the file says of itself."""

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from cimm_jax.data.byte_budget import ByteBudget
from cimm_jax.errors import InputError, one_line
from cimm_jax.files import UnreadableError, open_regular

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "BYTES_PER_PIXEL",
    "CROP_SHARE",
    "IN_FLIGHT",
    "LONGEST_STRIP",
    "MOST_BYTES",
    "MOST_PIXELS",
    "MOST_SCANS",
    "SUFFIXES",
    "Decoded",
    "UndecodableError",
    "decoded",
    "fitted",
    "is_image",
]

CROP_SHARE = 0.875
"""Side of the centre crop over the short side of the image it is cut from, as ImageNet networks are evaluated."""

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""File names that are taken for images; others are passed over."""

MOST_PIXELS = 50_000_000
"""A camera's image has this many; a header may claim ten thousand times more, and memory is given for what it claims."""

MOST_BYTES = 3 * MOST_PIXELS + 1_000_000
"""The largest image without compression."""

BYTES_PER_PIXEL = 20
"""In memory while an image is decoded, turned, converted and copied."""

IN_FLIGHT = 1 << 30
"""Bytes that all readers together decode at once: one of the largest images, or a thousand usual ones."""

LONGEST_STRIP = 100
"""Long side over short side: brought to the size by its short side, a longer strip grows beyond all bounds."""

MOST_SCANS = 100
"""Passes over a progressive JPEG; encoders make ten, and each takes as long as an image."""

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_DEEP = ("I", "F")
_MEMORY = ByteBudget(IN_FLIGHT)


class Decoded(NamedTuple):
    """An image.

    Attributes:
      pixels: uint8 of shape (height, width, 3), upright.
      turned: whether the file stores them in another orientation, and says so (EXIF).
    """

    pixels: np.ndarray
    turned: bool


class UndecodableError(InputError):
    """A file that is no whole image, or one that no network is given.

    Attributes:
      reason: what is wrong with it.
    """

    def __init__(self, name: object, reason: str, cure: str = "remove it"):
        super().__init__(f"images: {name} cannot be decoded ({reason}); {cure}, or leave strict out")
        self.reason = reason


class _UnfitError(Exception):
    """The image is whole, but not used; the text says why."""


@contextmanager
def decoded(image: Path | bytes, name: str = "an image") -> Iterator[Decoded]:
    """Pixels as they are; grey, palette and transparent images become RGB. Memory is shared with all other readers meanwhile.

    Args:
      image: a file or what is in one.
      name: what messages call the latter.

    Raises:
      UndecodableError: if it cannot be read, is damaged or no image, is too large or too long a strip, or has more than 8 bits
        a channel.
    """
    with ExitStack() as held:
        try:
            found = _decode(image, held)
        except UnreadableError as error:
            raise UndecodableError(image, error.reason) from error
        except Exception as error:  # Pillow's decoders raise whatever the damage makes them
            if isinstance(image, bytes):
                raise UndecodableError(name, one_line(error), "prepare the data set again") from error
            raise UndecodableError(image, one_line(error)) from error
        yield found


def fitted(pixels: np.ndarray, size: int) -> np.ndarray:
    """The image at the size of a network, uint8 of shape (size, size, 3).

    An image of that size is left as it is. Any other is resized (bicubic) so that its short side is size / 0.875, and the
    centre is cut out.

    Args:
      pixels: uint8 of shape (height, width, 3).
      size: height and width wanted.
    """
    if pixels.shape[:2] == (size, size):
        return pixels
    from PIL import Image

    image = Image.fromarray(pixels)
    scale = round(size / CROP_SHARE) / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(resized.crop((left, top, left + size, top + size)))


def is_image(path: Path) -> bool:
    """Whether the name is that of an image."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _decode(image: Path | bytes, held: ExitStack) -> Decoded:
    """The image; the memory that it takes is held until the stack is left."""
    from PIL import Image

    with ExitStack() as opened:
        file: Any
        if isinstance(image, bytes):
            file = io.BytesIO(image)
        else:
            file = opened.enter_context(open_regular(image, "images", most=MOST_BYTES, cure="remove it"))
        try:
            header = opened.enter_context(Image.open(file, formats=_FORMATS))
            _check(header, file)
            held.enter_context(_MEMORY.held(header.width * header.height * BYTES_PER_PIXEL))
            upright, turned = _upright(header)
            return Decoded(np.asarray(upright if upright.mode == "RGB" else upright.convert("RGB")), turned)
        except OSError as error:  # Pillow's word for damage, too
            raise _UnfitError(_reason(error)) from error


def _check(image: "Image", file: BinaryIO) -> None:
    """Raises `_UnfitError` for what is not decoded, before it is."""
    pixels, (short, long) = image.width * image.height, sorted(image.size)
    if pixels > MOST_PIXELS:
        raise _UnfitError(f"{image.width} x {image.height} pixels, at most {MOST_PIXELS:,} are read")
    if long > LONGEST_STRIP * short:
        raise _UnfitError(f"{image.width} x {image.height} pixels, one side may be {LONGEST_STRIP} times the other")
    if image.mode.startswith(_DEEP):
        raise _UnfitError(f"more than 8 bits a channel, Pillow's mode {image.mode}; convert it to 8")
    if image.format == "JPEG" and (scans := _scans(file)) > MOST_SCANS:
        raise _UnfitError(f"{scans} scans, at most {MOST_SCANS} are read")


def _scans(file: BinaryIO) -> int:
    """How often a JPEG begins to be drawn anew; within a scan, nothing looks like its beginning."""
    place = file.tell()
    file.seek(0)
    count, last = 0, b""
    for chunk in iter(partial(file.read, 1 << 20), b""):
        count += (last + chunk).count(b"\xff\xda")
        last = chunk[-1:]
    file.seek(place)
    return count


def _upright(image: "Image") -> "tuple[Image, bool]":
    """The image as it is looked at, and whether it was turned for that."""
    from PIL import ExifTags, ImageOps

    image.load()
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # the pixels are whole, and what is said of them is not
        return image, False
    return (ImageOps.exif_transpose(image), True) if orientation in range(2, 9) else (image, False)


def _reason(error: OSError) -> str:
    from PIL import UnidentifiedImageError

    # Pillow's own text names an object in memory.
    return "no image" if isinstance(error, UnidentifiedImageError) else one_line(error)
