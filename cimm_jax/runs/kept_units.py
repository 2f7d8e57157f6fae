"""Parts of long work, each kept in a file of its own until the whole is finished: nothing is done twice."""

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic

from cimm_jax.errors import InputError
from cimm_jax.files import UnwritableError
from cimm_jax.resuming import MadeBy
from cimm_jax.runs.codec import T, decode, encode

__all__ = ["KeptUnits"]


class KeptUnits(Generic[T]):
    """Results of one type in a folder. A file's name is the checksum of what made it, so that nothing else is read.

    Args:
      folder: made if need be; None keeps nothing.
      kind: type of a result, as `codec` has it.
      made_by: what every result depends on.
    """

    def __init__(self, folder: Path | None, kind: type[T], made_by: Mapping[str, Any]):
        self._folder, self._kind, self._made_by = folder, kind, dict(made_by)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def get(self, make: Callable[[], T], **depends_on: Any) -> T:
        """The result that depends on this, read or made."""
        if self._folder is None:
            return make()
        made_by = {**self._made_by, **depends_on}
        name = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()[:32]
        file = MadeBy(self._folder / f"{name}.json", made_by)
        if (content := file.read()) is not None:
            try:
                return decode(self._kind, content)
            except InputError:
                pass  # damaged, or of another layout: made again
        found = make()
        try:
            file.write(encode(found))
        except (OSError, UnwritableError) as error:
            print(f"cimm: a result could not be kept for another try ({error})", file=sys.stderr)
        return found
