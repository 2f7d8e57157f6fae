"""Runs attackers of features on every draw of images at once."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.attacks.catalogue import Operator
from cimm_jax.attacks.ladder.tried import Tried
from cimm_jax.attacks.protocol import Attack, Target, Trace
from cimm_jax.class_targets import one_hot
from cimm_jax.tasks import Task

__all__ = ["Rows", "Runs", "summarised", "try_features"]

_WIDTHS = (64, 512)
"""That features are filled up to, so that few programs serve all layers."""


class Rows(NamedTuple):
    """Features and labels.

    Attributes:
      x: shape (N, d).
      labels: shape (N,).
    """

    x: np.ndarray
    labels: np.ndarray


class Runs(NamedTuple):
    """What settings led to.

    Attributes:
      accuracy: on the judge's images, shape (settings, seeds, records).
      diverged: shape (settings, seeds).
    """

    accuracy: np.ndarray
    diverged: np.ndarray


def try_features(
    operator: Operator,
    fit: Rows,
    judged: Rows,
    rows: np.ndarray,
    *,
    classes: int,
    seed: int,
    dtype: type,
) -> Runs:
    """One attacker of features, every setting on every draw of rows, in one compiled program.

    Features are centred by their means over the rows fitted, scaled to mean square 1 by one number, and filled up with zeros to
    a width that many places share, so that one program serves them all.

    Args:
      operator: the attacker.
      fit: all rows that attackers may have.
      judged: the judge's.
      rows: of each draw, shape (draws, n).
      classes: how many there are.
      seed: seeds the attackers.
      dtype: they compute in.
    """
    x, judged_x = (_filled(np.asarray(part.x, dtype)) for part in (fit, judged))
    y, judged_y = (one_hot(part.labels, classes).astype(dtype) for part in (fit, judged))
    keys = jax.random.split(jax.random.key(seed), len(rows))
    settings = jnp.asarray(operator.rates, dtype)
    trace = _run(operator.attack, keys, Task(x, y), Task(judged_x, judged_y), jnp.asarray(rows), settings)
    accuracy = np.where(trace.diverged, 0.0, np.asarray(trace.accuracy))
    return Runs(accuracy, np.asarray(trace.diverged)[..., -1])


@partial(jax.jit, static_argnums=0)
def _run(attack: Attack, keys: jax.Array, fit: Task, judged: Task, rows: jax.Array, settings: jax.Array) -> Trace:
    def of_draw(key: jax.Array, rows: jax.Array, setting: jax.Array) -> Trace:
        x = fit.x[rows]
        mean = jnp.mean(x, axis=0)
        size = jnp.sqrt(jnp.mean((x - mean[None, :]) ** 2))
        scale = jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1), 0)

        def prepared(x: jax.Array) -> jax.Array:
            return (x - mean[None, :]) * scale

        return attack(key, Target(Task(prepared(x), fit.y[rows]), Task(prepared(judged.x), judged.y)), setting)

    over_draws = jax.vmap(of_draw, in_axes=(0, 0, None))
    return jax.vmap(over_draws, in_axes=(None, None, 0))(keys, rows, settings)


def _filled(x: np.ndarray) -> np.ndarray:
    """With columns of zeros up to the next of `_WIDTHS`; wider ones as they are."""
    width = x.shape[1]
    wanted = next((least for least in _WIDTHS if width <= least), width)
    return np.pad(x, ((0, 0), (0, wanted - width)))


def summarised(runs: Runs, settings: Sequence[float], steps: Sequence[int], **about: Any) -> Tried:
    """What the settings led to, the best of them at its best stop; `about` says what was attacked by whom."""
    by_setting = runs.accuracy.mean(1)
    best, stop = np.unravel_index(by_setting.argmax(), by_setting.shape)
    return Tried(
        settings=tuple(settings),
        accuracy=tuple(map(float, by_setting.max(1))),
        by_seed=tuple(map(float, runs.accuracy[best, :, stop])),
        steps=tuple(steps),
        curve=tuple(map(float, by_setting[best])),
        primary=None,
        diverged=float(runs.diverged.mean()),
        **about,
    )
