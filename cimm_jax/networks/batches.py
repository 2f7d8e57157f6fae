"""Rows of two data sets side by side: each in an order of its own, the shorter one starting again."""

from collections.abc import Iterator

import numpy as np

from cimm_jax.errors import InputError

__all__ = ["paired_batches"]


def paired_batches(
    primary_rows: int,
    harmful_rows: int,
    batch_rows: int,
    *,
    epoch: int,
    seed: int,
    harmful_batch_rows: int | None = None,
    harmful_labels: np.ndarray | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices of one epoch, which is once through the data set of more batches; the rest that fills no batch is left out.

    Args:
      primary_rows: of the primary data set.
      harmful_rows: of the harmful one.
      batch_rows: of the primary data set in a batch.
      epoch: every epoch has its own order.
      seed: seeds the orders.
      harmful_batch_rows: of the harmful data set in a batch; None is `batch_rows`.
      harmful_labels: its classes, shape (harmful_rows,), to have rows of a class come two by two; None mixes them all.

    Raises:
      InputError: if a batch is larger than a data set.
    """
    sizes = (batch_rows, batch_rows if harmful_batch_rows is None else harmful_batch_rows)
    counts = (primary_rows, harmful_rows)
    if harmful_batch_rows is None:
        _check("batch_rows", batch_rows, min(counts), "the rows of the smaller data set")
    else:
        _check("batch_rows", batch_rows, primary_rows, "the primary rows")
        _check("harmful_batch_rows", harmful_batch_rows, harmful_rows, "the harmful rows")
    batches = max(count // size for count, size in zip(counts, sizes, strict=True))
    orders = [
        _order(np.random.default_rng((seed, epoch, task)), rows, batches * size, labels)
        for task, (rows, size, labels) in enumerate(zip(counts, sizes, (None, harmful_labels), strict=True))
    ]
    for number in range(batches):
        primary, harmful = (
            order[number * size : (number + 1) * size] for order, size in zip(orders, sizes, strict=True)
        )
        yield primary, harmful


def _check(argument: str, value: int, most: int, what: str) -> None:
    if not 1 <= value <= most:
        raise InputError(f"{argument}: needs 1 to {most} ({what}), got {value}")


def _order(rng: np.random.Generator, rows: int, length: int, labels: np.ndarray | None) -> np.ndarray:
    """A permutation, and another one when it is through."""
    return np.concatenate([_once(rng, rows, labels) for _ in range(-(-length // rows))])[:length]


def _once(rng: np.random.Generator, rows: int, labels: np.ndarray | None) -> np.ndarray:
    order = rng.permutation(rows)
    if labels is None:
        return order
    order = order[np.argsort(labels[order], kind="stable")]
    _, starts = np.unique(labels[order], return_index=True)
    begins_class = np.isin(np.arange(rows), starts)
    rank = np.arange(rows) - np.maximum.accumulate(np.where(begins_class, np.arange(rows), 0))
    pair = np.cumsum(begins_class | (rank % 2 == 0)) - 1
    return order[np.argsort(rng.permutation(pair[-1] + 1)[pair], kind="stable")]
