"""Image folders: `train/CLASS/*.jpg` with `test/CLASS/*.jpg`, or one flat folder with one image a class."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from cimm_jax.data.class_list import ClassList, choose
from cimm_jax.data.image_decoding import MOST_BYTES, decoded, fitted, is_image
from cimm_jax.data.image_fitting import Fit
from cimm_jax.data.image_set import READERS, ImageSet, SplitImages
from cimm_jax.data.usable_images import usable
from cimm_jax.errors import InputError, few
from cimm_jax.files import check_name, entries, open_regular

__all__ = ["HELDOUT", "TRAIN", "FilePixels", "load_image_folder"]

TRAIN, HELDOUT = "train", "test"


class FilePixels:
    """Image files, decoded when they are asked for."""

    def __init__(self, files: Sequence[Path], size: int, fit: Fit):
        self._files, self._size, self._fit = tuple(files), size, fit

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> np.ndarray:
        with decoded(self._files[index]) as image:
            return self._fit(image.pixels, self._size)

    @contextmanager
    def original(self, index: int) -> Iterator[np.ndarray]:
        """The image before it is brought to the size."""
        with decoded(self._files[index]) as image:
            yield image.pixels


def load_image_folder(
    folder: Path,
    *,
    size: int,
    classes: Sequence[str] | None = None,
    only: ClassList | None = None,
    strict: bool = False,
    fit: Fit = fitted,
) -> SplitImages:
    """Images of a folder. Every file used is read once here, to take a checksum and to know that it can be decoded.

    A folder with a folder `train` has one folder a class in it, and the same classes in `test`, if there is one. Any other
    holds one image a class: in alphabetical order, the label is the position.

    Args:
      folder: where the images are.
      size: height and width to bring them to.
      classes: names in the order of the labels; None is the names of the class folders, or of the files, in order.
      only: the classes to use; all if None.
      strict: refuse images that cannot be decoded, which are skipped otherwise.
      fit: how.

    Raises:
      InputError: if there is no such folder, it holds no images, `train` and `test` have different classes, a class is not
        in `classes` or has no image left, one in `only` is unknown, or, if strict, an image cannot be decoded.
    """
    check_name(folder, "images")
    if not os.path.isdir(folder):
        raise InputError(
            f"images: {folder} is not a folder; give one with train/CLASS/*.jpg, or with one image a class"
        )
    if os.path.isdir(folder / TRAIN):
        return _split(folder, size, fit, classes, only, strict)
    files = [path for path in _inside(folder) if os.path.isfile(path) and is_image(path)]
    if not files:
        raise InputError(f"images: {folder} has neither a folder train nor images; see cimm immunize --help")
    names = tuple(path.stem for path in files) if classes is None else tuple(classes)
    if len(names) != len(files):
        raise InputError(f"classes: {len(names)} names for the {len(files)} images in {folder}; give one for each")
    return SplitImages(_read(folder, files, range(len(files)), names, size, fit, only, strict), None)


def _split(
    folder: Path, size: int, fit: Fit, classes: Sequence[str] | None, only: ClassList | None, strict: bool
) -> SplitImages:
    found = {part: _class_folders(folder / part) for part in (TRAIN, HELDOUT) if os.path.isdir(folder / part)}
    names = tuple(found[TRAIN]) if classes is None else tuple(classes)
    for part, folders in found.items():
        surplus, missing = sorted(folders.keys() - set(names)), sorted(set(names) - folders.keys())
        if surplus or missing:
            known = "train" if classes is None else "classes"
            raise InputError(
                f"images: {folder / part} and {known} differ: missing {few(missing)}, surplus {few(surplus)}; "
                "make the class folders the same"
            )
    parts = []
    for folders in found.values():
        files = [(path, label) for label, name in enumerate(names) for path in folders[name]]
        paths, labels = [path for path, _ in files], [label for _, label in files]
        parts.append(_read(folder, paths, labels, names, size, fit, only, strict))
    return SplitImages(parts[0], parts[1] if HELDOUT in found else None)


def _class_folders(folder: Path) -> dict[str, list[Path]]:
    """Images by class folder, both in alphabetical order."""
    folders = [path for path in _inside(folder) if os.path.isdir(path) and not path.name.startswith(".")]
    for path in folders:
        check_name(path, "images")
    found = {path.name: list(filter(is_image, _inside(path))) for path in folders}
    if not found:
        raise InputError(f"images: {folder} has no class folders; put the images of each class in a folder of its own")
    return found


def _read(
    root: Path,
    files: Sequence[Path],
    labels: Sequence[int],
    names: tuple[str, ...],
    size: int,
    fit: Fit,
    only: ClassList | None,
    strict: bool,
) -> ImageSet:
    """Everything of the chosen classes that can be decoded."""
    chosen = choose(np.asarray(labels), names, only)
    for path in files:
        check_name(path, "images")
    names_inside = [path.relative_to(root).as_posix() for path in files]
    chosen, turned, skipped = usable(
        lambda index: decoded(files[index]), chosen, name_of=names_inside.__getitem__, where=root, strict=strict
    )
    kept = [files[index] for index in chosen.indices]
    with ThreadPoolExecutor(READERS) as pool:
        checksums = pool.map(_checksum, kept)
    total = hashlib.sha256()
    for index, checksum, is_turned in zip(chosen.indices, checksums, turned, strict=True):
        # The same bytes make another image when they are turned, and what was computed from the former is another thing.
        total.update(f"{names_inside[index]} {checksum}{' turned' if is_turned else ''}\n".encode())
    return ImageSet(FilePixels(kept, size, fit), chosen.labels, chosen.classes, total.hexdigest(), skipped)


def _inside(folder: Path) -> list[Path]:
    return entries(folder, "images", cure="make it yours to read")


def _checksum(path: Path) -> str:
    with open_regular(path, "images", most=MOST_BYTES, cure="leave the images as they are meanwhile") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
