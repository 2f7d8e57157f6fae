"""Rows of two data sets side by side: each in an order of its own, the shorter one starting again."""

from collections.abc import Iterator

import numpy as np

from cimm_jax.errors import InputError

__all__ = ["paired_batches"]


def paired_batches(
    primary_rows: int, harmful_rows: int, batch_rows: int, *, epoch: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices of one epoch, which is once through the longer data set; the rest that fills no batch is left out.

    Args:
      primary_rows: of the primary data set.
      harmful_rows: of the harmful one.
      batch_rows: of each in a batch.
      epoch: every epoch has its own order.
      seed: seeds the orders.

    Raises:
      InputError: if a batch is larger than a data set.
    """
    least = min(primary_rows, harmful_rows)
    if not 1 <= batch_rows <= least:
        raise InputError(f"batch_rows: needs 1 to {least} (the rows of the smaller data set), got {batch_rows}")
    length = max(primary_rows, harmful_rows) // batch_rows * batch_rows
    orders = [
        _order(np.random.default_rng((seed, epoch, task)), rows, length)
        for task, rows in enumerate((primary_rows, harmful_rows))
    ]
    for start in range(0, length, batch_rows):
        yield orders[0][start : start + batch_rows], orders[1][start : start + batch_rows]


def _order(rng: np.random.Generator, rows: int, length: int) -> np.ndarray:
    """A permutation, and another one when it is through."""
    return np.concatenate([rng.permutation(rows) for _ in range(-(-length // rows))])[:length]
