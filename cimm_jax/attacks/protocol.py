"""What an attacker is: a pure function that fits a probe on frozen features, and what it reports.

    attack(key, task, rate) -> Trace

A `Target` holds the features an attacker sees, in a part to fit on and a part to be judged on. Every attacker is pure, so
`vmap` runs it over learning rates, seeds, extractors and pairs at once. Nothing here knows how the features were made.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.errors import InputError
from cimm_jax.tasks import Task, check_task


class Target(NamedTuple):
    """Features under attack.

    Attributes:
      fit: features of shape (N, d) and targets that the probe is fitted on.
      heldout: other rows, which the result is judged on.
    """

    fit: Task
    heldout: Task


class Trace(NamedTuple):
    """What an attack did, at each recorded step. Every value is finite, whatever the attack did.

    Attributes:
      loss: loss on the rows that it fits, shape (records,).
      heldout_loss: loss on held-out rows.
      accuracy: share of held-out rows classified rightly; NaN where the targets are not classes.
      norm_ratio: ||w - w*||^2 / ||w_0 - w*||^2 with w* the least-squares probe (Eq. 16); NaN for losses other than l2.
      diverged: bool, the loss left the range of numbers or grew a thousandfold; from there on the values are those before.
    """

    loss: jax.Array
    heldout_loss: jax.Array
    accuracy: jax.Array
    norm_ratio: jax.Array
    diverged: jax.Array


Attack = Callable[[jax.Array, Target, jax.Array], Trace]


def log_spaced_steps(steps: int, records: int = 40) -> tuple[int, ...]:
    """Up to `records` numbers of steps from 1 to `steps`, in about equal ratios, 10, 100, 1000, ... among them."""
    if steps < 1:
        raise InputError(f"steps: needs at least 1, got {steps}")
    powers = {10**power for power in range(1, 1 + int(np.log10(steps)))}
    spaced = {round(step) for step in np.geomspace(1, steps, records)}
    return tuple(sorted(powers | spaced))


def check_target(target: Target, name: str = "target") -> None:
    """Raises `InputError` unless both parts are usable, have targets and share their number of features."""
    for part, task in target._asdict().items():
        check_task(task, f"{name}.{part}", needs_labels=True)
    shapes = [np.shape(task.x)[1] for task in target]
    if shapes[0] != shapes[1]:
        raise InputError(f"{name}.heldout.x: has {shapes[1]} features and {name}.fit.x {shapes[0]}; make them equal")


def are_classes(targets) -> bool:
    """Whether concrete targets are classes: -1 and +1 in every entry."""
    return bool(np.isin(np.asarray(targets), (-1.0, 1.0)).all())


def accuracy(scores: jax.Array, targets: jax.Array) -> jax.Array:
    """Share of rows classified rightly: by sign for targets (N,) of -1 and +1, by the largest score for (N, C)."""
    if scores.ndim == 1 or scores.shape[1] == 1:
        return jnp.mean((scores > 0) == (targets > 0), dtype=scores.dtype)
    return jnp.mean(scores.argmax(1) == targets.argmax(1), dtype=scores.dtype)
