"""What attackers of classes get from features, behind linear maps or not: the best of the heads that are solved."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax import attacks
from cimm_jax.attacks.class_sweep import class_task
from cimm_jax.attacks.heads import head_operators
from cimm_jax.attacks.protocol import Target, behind
from cimm_jax.class_targets import centred, one_hot
from cimm_jax.tasks import Task

HEADS = {"linear": ("ridge regression", "unscaled ridge regression"), "nonlinear": ("kernel ridge",)}
"""By kind."""


def centred_task(x: np.ndarray, labels: np.ndarray) -> Task:
    """Features of shape (N, d), with centred one-hot targets of the classes that there are among the labels, shape (N,)."""
    _, numbers = np.unique(labels, return_inverse=True)
    return Task(x, centred(one_hot(numbers, int(numbers.max()) + 1)))


def images_of_each_class(labels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Places of so many images of each class, drawn, class by class; fewer where there are no more."""
    return np.concatenate([rng.permutation(np.flatnonzero(labels == label))[:count] for label in np.unique(labels)])


def best_heads(
    maps: Mapping[str, np.ndarray],
    train: tuple[np.ndarray, np.ndarray],
    judge: tuple[np.ndarray, np.ndarray],
    *,
    classes: int,
    seed: int,
) -> dict[str, dict[str, float]]:
    """Best accuracy by map and kind of head.

    Args:
      maps: by name, each of shape (d, d).
      train: the attackers' features before the map, shape (N, d), and labels, shape (N,).
      judge: the same of those that judge.
      classes: how many the labels are of.
      seed: seeds the heads that are random.
    """
    task = class_task(train, judge, classes=classes, squared=True)
    targets = {name: behind(jnp.asarray(theta), task) for name, theta in maps.items()}
    return best_heads_on(targets, classes=classes, seed=seed)


def best_heads_on(targets: Mapping[str, Target], *, classes: int, seed: int) -> dict[str, dict[str, float]]:
    """Best accuracy by target and kind of head.

    Args:
      targets: by name, float64, all of one shape.
      classes: how many the labels are of.
      seed: seeds the heads that are random.
    """
    found: dict[str, dict[str, float]] = {name: {} for name in targets}
    for kind, heads in HEADS.items():
        operators = head_operators(heads, classes=classes if classes > 2 else 1, steps=1)
        swept = attacks.sweep_classes(operators, targets, keys=jax.random.split(jax.random.key(seed), 1))
        for number, name in enumerate(targets):
            found[name][kind] = max(float(one.accuracy[number, ..., -1].mean(-1).max()) for one in swept.values())
    return found
