"""Labels of many classes as targets of a linear probe, and what the methods are better given instead.

One-hot targets of -1 and +1 are what attackers fit and accuracies are read from. But nearly all of their energy is a constant,
the same for every image: with 196 classes 98 %, and 90 % of it on one direction of the features. A signal-aware budget would be
spent on hiding that constant, and "excess loss left" would say how much of it was learned. So methods and convergence curves
take the targets minus their means over the training rows.
"""

from typing import Any

import numpy as np

from cimm_jax.errors import InputError

__all__ = ["centred", "labels_of", "of_whole_numbers", "one_hot"]


def one_hot(labels: Any, classes: int | None = None) -> np.ndarray:
    """Targets of shape (N, classes), float64: +1 at the class, -1 elsewhere; a column +1 and -1 for two classes.

    Args:
      labels: shape (N,), integers from 0.
      classes: how many there are, at least 2; one more than the highest label if None. Give it where one part of a data set may
        lack the last classes.

    Raises:
      InputError: if labels are no integers, there are fewer than two classes, or a label is none of them.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or not len(labels) or labels.dtype.kind not in "biu":
        raise InputError(
            f"labels: need integers of shape (N,), got {labels.dtype} {labels.shape}; number the classes from 0"
        )
    labels = labels.astype(np.int64)
    highest = int(labels.max())
    if classes is None:
        if highest >= len(labels):
            raise InputError(
                f"labels: go up to {highest} in {len(labels)} rows; number the classes from 0, or give classes"
            )
        classes = highest + 1
    if classes < 2:
        raise InputError(f"classes: needs at least 2, got {classes}; give images of more classes")
    if labels.min() < 0 or highest >= classes:
        raise InputError(f"labels: need 0 to {classes - 1}, got {labels.min()} to {highest}")
    if classes == 2:
        return np.where(labels == 1, 1.0, -1.0)[:, None]
    targets = np.full((len(labels), classes), -1.0)
    targets[np.arange(len(labels)), labels] = 1
    return targets


def of_whole_numbers(y: np.ndarray, name: str) -> np.ndarray:
    """What whole numbers and booleans mean as targets, float64: class numbers as `one_hot` codes them; codes as they are.

    Codes are -1 and +1, and in several columns 0 too.

    Args:
      y: shape (N,), (N, 1) or (N, C), integers or booleans.
      name: what the caller's argument is called, for the message.

    Raises:
      InputError: if they are neither, as most amounts are not.
    """
    several = y.ndim > 1 and y.shape[-1] > 1
    if np.isin(y, (-1, 0, 1) if several else (-1, 1)).all():
        return y.astype(np.float64)
    try:
        return one_hot(y[:, 0] if y.ndim == 2 and not several else y)
    except InputError as error:
        raise InputError(
            f"{name}: holds whole numbers that are no classes 0, 1, ... ({error}); give cimm_jax.one_hot(y, classes), or "
            "y.astype(float) if they are amounts"
        ) from error


def labels_of(targets: Any) -> np.ndarray:
    """Class numbers of targets of -1 and +1, the inverse of `one_hot`: shape (N,), int64.

    Args:
      targets: shape (N,), (N, 1), where +1 is class 1, or (N, C).
    """
    y = np.asarray(targets)
    y = y.reshape(len(y), -1)
    return (y[:, 0] > 0).astype(np.int64) if y.shape[1] == 1 else y.argmax(1)


def centred(targets: np.ndarray, mean_of: np.ndarray | None = None) -> np.ndarray:
    """Targets of shape (N, C) minus their means, or minus the means of other targets (those of the training rows)."""
    return targets - (targets if mean_of is None else mean_of).mean(0)
