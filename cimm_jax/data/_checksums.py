"""What data a result was made from, as checksums that anyone can compare."""

import hashlib
from typing import Any

import jax
import numpy as np

from cimm_jax.data.row_view import LazyRows

__all__ = ["checksums"]


def checksums(tree: Any) -> dict[str, str]:
    """SHA-256 of every array of a pytree by its path (`train.primary.x`): of dtype, shape and the C-ordered bytes."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        rows = leaf if isinstance(leaf, LazyRows) else np.asarray(leaf)
        digest = hashlib.sha256(f"{rows.dtype.str} {rows.shape} ".encode())
        for chunk in rows.chunks() if isinstance(rows, LazyRows) else [rows]:
            digest.update(chunk.tobytes())
        found[jax.tree_util.keystr(path, simple=True, separator=".")] = digest.hexdigest()
    return found
