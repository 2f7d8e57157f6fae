"""Sums of x^T x in files, and over files: stored whole, read back checked, and gone on with where they were cut off."""

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cimm_jax.data.feature_files import read_features
from cimm_jax.data.tensor_file import TensorFile, open_tensors, tensors_to_bytes
from cimm_jax.errors import InputError, few, naming
from cimm_jax.files import UnreadableError, reason_of, write_whole
from cimm_jax.locks import turn_at
from cimm_jax.numerics.covariance_sums import CovarianceSum
from cimm_jax.numerics.host_products import ROWS_AT_ONCE

__all__ = ["covariance_of_files", "load_covariance_sum", "save_covariance_sum"]

MOST_BYTES = 1 << 36
"""Of a file with a sum; one of 8,192 features has 2^29."""

_KIND = "cimm covariance sum, 1"
_SUM = "sum"
_CURE = "give a file that save_covariance_sum or covariance_of_files has written"


class _Seen(NamedTuple):
    """A file that was summed, as far as can be told without reading it again.

    Attributes:
      name: without its folder.
      size: in bytes.
      changed: when, in nanoseconds.
    """

    name: str
    size: int
    changed: int


class _State(NamedTuple):
    """A sum, and the files that it is over, in order; none of one that was summed otherwise."""

    total: CovarianceSum
    seen: tuple[_Seen, ...]


def save_covariance_sum(path: Path, total: CovarianceSum) -> Path:
    """Writes a sum, whole or not at all, as a safetensors file: the tensor `sum`, float64, shape (d, d), is X^T X.

    Raises:
      UnwritableError: if it cannot be written.
    """
    return _save(Path(path), _State(total, ()), "path")


def load_covariance_sum(path: Path) -> CovarianceSum:
    """Reads a sum that `save_covariance_sum` or `covariance_of_files` has written.

    Raises:
      InputError: if the file cannot be read, holds anything else, or its numbers are not those that were written.
    """
    return _load(Path(path), "path").total


def covariance_of_files(files: Iterable[Path | str], state: Path | str, *, save_every: float = 20.0) -> CovarianceSum:
    """X^T X over all rows of many files, one after the other; what was summed is in `state`, and stays there at the end.

    Cut off, by Ctrl-C or an error in the sixth of ten files, and called again, it goes on with the sixth and gets the same bits
    as without the interruption; killed outright, it goes on where it was last saved. Called with more files behind those that
    it has summed, it adds these. Machines may sum some of the files each, and `CovarianceSum.merged` puts them together.
    What the memory holds does not grow with `.npy` files, which are mapped.

    Args:
      files: features in formats of `feature_files.FORMATS`, each with the same d; of one that has a held-out part,
        the other one.
      state: a safetensors file, as `save_covariance_sum` writes it, with the names, sizes and times of the files summed. While
        one process works at it, others wait.
      save_every: seconds between two times that the state is saved; 0 saves after each file.

    Raises:
      InputError: if there is no file, or one is missing, damaged, has another number of features or an entry that is no finite
        number; if `state` is of other files (the message says which), is damaged, or cannot be written.
    """
    paths, place = [Path(file) for file in files], Path(state)
    if not paths:
        raise InputError("files: is empty; give at least one file of features")
    wanted = [_look_at(path) for path in paths]
    with turn_at(place):
        found = _load(place, "state") if place.exists() else None
        if found is not None:
            _check_begins_alike(found.seen, wanted, place)
        saved, last = found, time.monotonic()
        try:
            for path, seen in list(zip(paths, wanted, strict=True))[0 if found is None else len(found.seen) :]:
                part = _summed(path)
                if found is not None and part.features != found.total.features:
                    raise InputError(
                        f"files: {path} has {part.features} features and those before it {found.total.features}; "
                        "make them equal"
                    )
                # One assignment, so that whatever interrupts it leaves a sum and its files that belong together.
                found = (
                    _State(part, (seen,)) if found is None else _State(found.total.merged(part), (*found.seen, seen))
                )
                if time.monotonic() - last >= save_every:
                    _save(place, found, "state")
                    saved, last = found, time.monotonic()
        finally:
            if found is not None and found is not saved:
                _save(place, found, "state")
    assert found is not None  # there is a file
    return found.total


def _summed(path: Path) -> CovarianceSum:
    rows = read_features(path, "files").train.x
    total = CovarianceSum(rows.shape[1])
    for chunk in rows.chunks(ROWS_AT_ONCE):
        total.update(chunk, f"files: {path}")
    return total


def _look_at(path: Path) -> _Seen:
    cure = "give files of features"
    try:
        found = path.stat()
    except OSError as error:
        raise UnreadableError("files", path, reason_of(error), cure) from error
    if path.is_dir():
        raise InputError(f"files: {path} is a folder; {cure}, such as the files in it")
    return _Seen(path.name, found.st_size, found.st_mtime_ns)


def _check_begins_alike(seen: Sequence[_Seen], wanted: Sequence[_Seen], place: Path) -> None:
    """Raises `InputError` unless the files begin with those that the state is a sum of."""
    cure = "give the same files first, or another state"
    if not seen:
        raise InputError(f"state: {place} is no sum over files; {cure}")
    for number, (before, now) in enumerate(zip(seen, wanted, strict=False)):
        if before != now:
            differs = "was changed since" if before.name == now.name else f"is {now.name}"
            raise InputError(
                f"state: {place} is a sum of other files: files[{number}], {before.name}, {differs}; {cure}"
            )
    if more := seen[len(wanted) :]:
        raise InputError(f"state: {place} is a sum of {few([of.name for of in more])}, too; {cure}")


def _save(path: Path, state: _State, argument: str) -> Path:
    value = state.total.value()
    metadata = {
        "kind": _KIND,
        "rows": str(state.total.rows),
        "checksum": _checksum(value),
        "files": json.dumps(state.seen),
        "format": "pt",
    }
    return write_whole(path, tensors_to_bytes({_SUM: value}, metadata), argument)


def _load(path: Path, argument: str) -> _State:
    where = f"{argument}: {path}"
    with open_tensors(path, argument, most=MOST_BYTES, cure=_CURE) as file:
        if file.metadata.get("kind") != _KIND or list(file.tensors) != [_SUM] or file.tensors[_SUM].dtype != "F64":
            raise InputError(f"{where} holds no sum; {_CURE}")
        rows, seen = _described(file, where)
        value = file.array(_SUM)
    if _checksum(value) != file.metadata.get("checksum"):
        raise InputError(f"{where} is damaged: its numbers are not those that were written; sum the rows again")
    with naming(where, "value"):
        return _State(CovarianceSum.of(value, rows), seen)


def _described(file: TensorFile, where: str) -> tuple[int, tuple[_Seen, ...]]:
    try:
        rows = int(file.metadata["rows"])
        listed: Any = json.loads(file.metadata["files"])
        seen = tuple(_Seen(str(name), int(size), int(changed)) for name, size, changed in listed)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{where} does not say what it is a sum of; {_CURE}") from error
    if rows < 0:
        raise InputError(f"{where} is a sum over {rows} rows; {_CURE}")
    return rows, seen


def _checksum(value: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(value).data).hexdigest()
