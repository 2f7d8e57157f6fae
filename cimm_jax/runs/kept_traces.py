"""Traces of attackers that are finished, kept in a folder until the whole attack is: nobody is run twice."""

import hashlib
import io
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cimm_jax.attacks import Operator, Target, Trace
from cimm_jax.data.array_archive import Expected, read_arrays
from cimm_jax.errors import InputError
from cimm_jax.files import UnwritableError, write_whole
from cimm_jax.resuming import checksum

__all__ = ["KeptTraces"]

FOLDER = "attackers"
"""In a run folder."""


class KeptTraces:
    """Traces of one sweep. A file's name is the checksum of what made it, so that nothing else is read.

    Args:
      folder: of the run.
      made_by: what traces depend on beside what follows.
      targets: features by extractor.
      keys: one a seed.
    """

    def __init__(self, folder: Path, made_by: Mapping[str, object], targets: Mapping[str, Target], keys: jax.Array):
        self._folder = folder / FOLDER
        self._made_by = {**made_by, "targets": checksum(list(targets.values())), "keys": checksum(keys)}
        self._extractors, self._seeds = len(targets), len(keys)

    def read(self, operators: Sequence[Operator]) -> dict[str, Trace]:
        """Of those operators that are finished; a file that is damaged is named on standard error."""
        found = {}
        for operator in operators:
            path = self._path(operator)
            shape = (
                self._extractors,
                len(operator.rates),
                self._seeds if operator.random else 1,
                len(operator.records),
            )
            expected = {
                field: Expected("b" if field == "diverged" else "f", shape, f"numbers of shape {shape}")
                for field in Trace._fields
            }
            if not path.exists():
                continue
            try:
                arrays: Any = read_arrays(path, "attackers", expected, most_rows=self._extractors)
                found[operator.name] = Trace(**arrays)
            except InputError as error:
                print(f"cimm: {operator.name} is run again ({error})", file=sys.stderr)
        return found

    def write(self, operator: Operator, trace: Trace) -> None:
        """Keeps a finished one; on a full disk, a line on standard error says that it could not be kept."""
        content = io.BytesIO()
        np.savez(content, **trace._asdict())
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_whole(self._path(operator), content.getvalue())
        except (OSError, UnwritableError) as error:
            print(f"cimm: {operator.name} could not be kept for another try ({error})", file=sys.stderr)

    @staticmethod
    def remove(folder: Path) -> None:
        """Removes everything kept in the folder of a run: the attack is finished."""
        shutil.rmtree(folder / FOLDER, ignore_errors=True)

    def _path(self, operator: Operator) -> Path:
        described = {
            "operator": [operator.name, operator.rates, operator.random, operator.records, operator.loss.__name__],
            **self._made_by,
        }
        digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
        return self._folder / f"{digest[:32]}.npz"
