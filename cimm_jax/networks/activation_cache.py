"""The frozen trunk's outputs, computed once and kept on disk, memory-mapped.

Each array lies beside a manifest of everything it depends on; its name is the manifest's checksum, so that another model, data
set, cut or preprocessing is another file. An interrupted computation continues where it was. One process at a time computes an
array, and others wait for it.
"""

import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.data.image_set import ImageSet
from cimm_jax.errors import InputError
from cimm_jax.files import UnwritableError, reason_of
from cimm_jax.locks import turn_at
from cimm_jax.networks import functional
from cimm_jax.networks.backbone import FEATURES, Backbone
from cimm_jax.numerics.spreading import by_rows, everywhere, local_mesh, multiple_of_devices
from cimm_jax.resuming import MadeBy

__all__ = ["BATCH_ROWS", "EVERY_PART", "Entry", "cached_outputs"]

BATCH_ROWS = 32

EVERY_PART = "every part, pooled"
"""In the place of a cut: `Backbone.pooled`, side by side in the order of the parts (see `places.pooled_outputs`)."""

_CURE = "make room, or choose a folder that is yours"


def cached_outputs(
    folder: Path,
    model: Backbone,
    images: ImageSet,
    *,
    weights_sha256: str,
    cut: str = FEATURES,
    batch_rows: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Outputs of the trunk for every image, read from the folder if they are there, or else computed into it.

    One batch is in memory at a time, whatever the size of the data set. Within `spreading.spread_over`, each device has images
    of its own, in the next multiple of the devices; of several processes, each computes with its own devices.

    Args:
      folder: made if need be.
      model: the network.
      images: what to run it on; of an image set with views (`image_views`), each view has its row.
      weights_sha256: checksum of its weights (`weight_files.weights_checksum`).
      cut: where the trunk ends; "features" runs the whole network up to its head; or `EVERY_PART`.
      batch_rows: images a batch; None is `BATCH_ROWS`, or all there are.
      progress: called with the number of images done.

    Returns:
      A read-only memory map, float32 of shape (N, ...).

    Raises:
      InputError: if there is no such cut, the batch is out of range, or the folder cannot be written.
    """
    if cut not in (*model.cuts, EVERY_PART):
        raise InputError(f"cut: {cut!r} is unknown; choose one of {', '.join(model.cuts)}")
    batch_rows = min(BATCH_ROWS, len(images)) if batch_rows is None else batch_rows
    if not 1 <= batch_rows <= len(images):
        raise InputError(f"batch_rows: needs 1 to {len(images)} (the images there are), got {batch_rows}")
    manifest = _manifest(model, images, weights_sha256, cut)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        entry = Entry(folder, manifest)
        if not entry.complete():
            with turn_at(entry.array):
                if not entry.complete():  # whoever was first may have computed it
                    _compute(entry, model, images, cut, batch_rows, progress)
        if progress is not None:
            progress(len(images))
        return np.load(entry.array, mmap_mode="r")
    except UnwritableError as error:
        raise InputError(f"cache: cannot use {folder} ({error.reason}); {_CURE}") from error
    except OSError as error:
        raise InputError(f"cache: cannot use {folder} ({reason_of(error)}); {_CURE}") from error


class Entry:
    """One array of the cache.

    Attributes:
      array: the finished file.
      partial: the file while it is computed.

    Args:
      folder: of the cache.
      manifest: what the array depends on, its number of "rows" among it.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]):
        name = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:20]
        self.array, self.partial = folder / f"{name}.npy", folder / f"{name}.partial.npy"
        self._rows, self._wanted = MadeBy(folder / f"{name}.json", manifest), manifest["rows"]
        self._told: set[Path] = set()

    def complete(self) -> bool:
        """Whether the array is there, whole, and was made from the same things; what is damaged is named on standard error."""
        if not self.array.exists():
            return False
        if not _is_whole(self.array, self._wanted) or self._rows.read() != self._wanted:
            self._say_damaged(self.array)
            return False
        return True

    def rows_done(self) -> int:
        """How many rows an interrupted computation finished; none of what is damaged, which is named on standard error."""
        if not self.partial.exists():
            return 0
        done = self._rows.read()
        if not _is_whole(self.partial, self._wanted) or type(done) is not int or not 0 <= done <= self._wanted:
            if done is not None:
                self._say_damaged(self.partial)
            return 0
        return done

    def begin(self, shape: tuple[int, ...]) -> None:
        """Makes the file of an array of this shape; what was noted of an earlier one counts no more."""
        self._rows.write(0)
        np.lib.format.open_memmap(self.partial, mode="w+", dtype=np.float32, shape=shape)

    def write(self, start: int, rows: np.ndarray) -> None:
        """Writes rows into it, and then notes how far it is; what was written is no longer in memory then."""
        output = np.load(self.partial, mmap_mode="r")
        place = output.offset + start * output.strides[0]
        del output
        # A full disk is an error of a write, and the end of a process that writes to mapped memory.
        with self.partial.open("r+b") as file:
            file.seek(place)
            file.write(np.ascontiguousarray(rows, np.float32).tobytes())
        self._rows.write(start + len(rows))

    def finish(self) -> None:
        """Gives the finished file its name."""
        os.replace(self.partial, self.array)

    def _say_damaged(self, path: Path) -> None:
        if path not in self._told:
            self._told.add(path)
            print(f"cimm: {path} or what is noted of it is damaged; it is computed again", file=sys.stderr)


def _is_whole(path: Path, rows: int) -> bool:
    """Whether there are so many rows in a file, as its header says."""
    try:
        found = np.load(path, mmap_mode="r")
    except Exception:  # NumPy raises whatever the damage makes it
        return False
    return found.dtype == np.float32 and found.shape[:1] == (rows,)


def _manifest(model: Backbone, images: ImageSet, weights_sha256: str, cut: str) -> dict[str, Any]:
    described = {
        "model": {"type": type(model.config).__name__, **dataclasses.asdict(model.config)},  # pyright: ignore
        "weights_sha256": weights_sha256,
        "data_sha256": images.sha256,
        "rows": len(images),
        "cut": cut,
        "dtype": "float32",
    }
    if images.views > 1:
        described["views"] = images.views
    return json.loads(json.dumps(described))


def _every_part(parts: functional.Split, x: jax.Array, cut: str) -> jax.Array:
    del cut
    return jnp.concatenate(list(functional.pooled(parts, x).values()), axis=1)


def _compute(
    entry: Entry,
    model: Backbone,
    images: ImageSet,
    cut: str,
    batch_rows: int,
    progress: Callable[[int], None] | None,
) -> None:
    outputs = _every_part if cut == EVERY_PART else functional.trunk
    mesh = local_mesh()
    batch_rows = multiple_of_devices(batch_rows, mesh)
    parts, run = everywhere(functional.split(model), mesh), jax.jit(outputs, static_argnames="cut")
    done = entry.rows_done()
    for pixels in images.batches(batch_rows, start=done):
        # The last batch is filled up, so that one program serves all.
        filled = np.concatenate([pixels, np.zeros((batch_rows - len(pixels), *pixels.shape[1:]), pixels.dtype)])
        rows = np.asarray(run(parts, by_rows(model.config.preprocess(filled), mesh), cut))[: len(pixels)]
        if not np.isfinite(rows).all():
            raise InputError(
                f"weights: {cut} of images {done} to {done + len(rows) - 1} is infinite; use other weights"
            )
        if not done:
            entry.begin((len(images), *rows.shape[1:]))
        entry.write(done, rows)
        done += len(rows)
        if progress is not None:
            progress(done)
    entry.finish()
