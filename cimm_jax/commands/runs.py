"""Reading back the folders that commands wrote."""

import json
from pathlib import Path
from typing import Any

from cimm_jax.commands.shared import SCHEMA
from cimm_jax.errors import InputError


def read_results(folder: Path) -> dict[str, Any]:
    """`results.json` of a run folder.

    Raises:
      InputError: if it is missing, damaged, not one of ours, or written by a version with another layout.
    """
    path = folder / "results.json"
    try:
        results = json.loads(path.read_text())
    except OSError as error:
        raise InputError(
            f"runs: {path} cannot be read ({error.strerror}); give the --out folder of a finished run"
        ) from error
    except ValueError as error:
        raise InputError(f"runs: {path} is damaged ({error}); make the run again") from error
    if not isinstance(results, dict) or not {"command", "settings", "versions"} <= results.keys():
        raise InputError(f"runs: {path} was not written by cimm; give the --out folder of a run")
    if results.get("schema") != SCHEMA:
        raise InputError(
            f"runs: {path} has layout {results.get('schema')}, this version reads {SCHEMA}; make the run again"
        )
    return results
