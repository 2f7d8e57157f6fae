"""What an attacker is: a pure function that fits a probe on frozen features, and what it reports.

    attack(key, target, rate) -> Trace

A `Target` holds the features an attacker sees, in a part to fit on and a part to be judged on. Every attacker is pure, so
`vmap` runs it over learning rates, seeds, extractors and pairs at once. Nothing here knows how the features were made.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.errors import InputError
from cimm_jax.numerics.decompositions import svd
from cimm_jax.numerics.spectra import above_rounding, product_amplification
from cimm_jax.tasks import Array, SplitTask, Task, check_task

__all__ = [
    "UNDEFENDED",
    "Attack",
    "Factors",
    "Target",
    "Trace",
    "accuracy",
    "are_classes",
    "behind",
    "check_records",
    "check_target",
    "log_spaced_steps",
]

UNDEFENDED = "undefended"
"""Name of the extractor as it was published, which every sweep attacks first."""


class Factors(NamedTuple):
    """The singular value decomposition of features, as `decompositions.svd` gives it, but zero where rounding decides."""

    u: jax.Array
    sigma: jax.Array
    vt: jax.Array


class Target(NamedTuple):
    """Features under attack.

    Attributes:
      fit: features of shape (N, d) and targets that the probe is fitted on.
      heldout: other rows, which the result is judged on.
      mapping: the extractor itself, shape (inputs, d), for attackers who know it; None if nobody does.
      factors: of fit.x, so that many attacks share one decomposition; None lets each make its own.
      amplification: of rounding errors in the features, where they are a product with the extractor
        (`spectra.product_amplification`).
    """

    fit: Task
    heldout: Task
    mapping: Array = None
    factors: Factors | None = None
    amplification: Array | float = 1.0

    def with_features(self, change: Callable[[jax.Array], jax.Array], factors: Factors | None = None) -> "Target":
        """The same with other features, of which `factors` are the new ones; the map and its factors are forgotten."""
        fit, heldout = (task._replace(x=change(task.x)) for task in (self.fit, self.heldout))
        return Target(fit, heldout, None, factors, self.amplification)

    def cast(self, dtype: type) -> "Target":
        """The same as NumPy arrays of another dtype, not decomposed yet; errors that its own rounding hides do not count."""
        fit, heldout = (jax.tree.map(lambda leaf: np.asarray(leaf, dtype), task) for task in (self.fit, self.heldout))
        coarser = float(jnp.finfo(self.fit.x.dtype).eps / jnp.finfo(dtype).eps)
        mapping = None if self.mapping is None else np.asarray(self.mapping, dtype)
        return Target(fit, heldout, mapping, amplification=max(1.0, float(self.amplification) * coarser))

    def decomposed(self) -> Factors:
        """The factors, made if need be."""
        if self.factors is not None:
            return self.factors
        u, sigma, vt = svd(self.fit.x)
        return Factors(u, jnp.where(above_rounding(sigma, len(sigma), self.amplification), sigma, 0), vt)


def behind(theta: Array, task: SplitTask) -> Target:
    """What an attacker of a task sees behind a linear extractor of shape (inputs, d), the extractor included."""
    fit, heldout = (Task(part.x @ theta, part.y) for part in task)
    amplification = product_amplification(*map(jnp.asarray, (task.train.x, theta, fit.x)))
    return Target(fit, heldout, theta, amplification=amplification)


class Trace(NamedTuple):
    """What an attack did, at each recorded step. Whatever it did, values are finite, but NaN where one has no meaning.

    Attributes:
      loss: loss on the rows that it fits, shape (records,).
      heldout_loss: loss on held-out rows.
      accuracy: share of held-out rows classified rightly; NaN where the targets are not classes.
      norm_ratio: ||w - w*||^2 / ||w*||^2 with w* the least-squares probe (Eq. 16 from a zero probe, which a random start is
        compared with too); NaN for losses other than l2.
      diverged: bool, the loss left the range of numbers or grew a thousandfold; from there on the values are those of the
        record before, or of the zero probe.
    """

    loss: jax.Array
    heldout_loss: jax.Array
    accuracy: jax.Array
    norm_ratio: jax.Array
    diverged: jax.Array


Attack = Callable[[jax.Array, Target, jax.Array], Trace]


def log_spaced_steps(steps: int, records: int = 40) -> tuple[int, ...]:
    """About `records` numbers of steps from 1 to `steps`, in about equal ratios, 10, 100, 1000, ... among them."""
    if steps < 1:
        raise InputError(f"steps: needs at least 1, got {steps}")
    powers = {10**power for power in range(1, 1 + int(np.log10(steps)))}
    spaced = {round(step) for step in np.geomspace(1, steps, records)}
    return tuple(sorted(powers | spaced))


def check_target(target: Target, name: str = "target") -> Target:
    """The target with its arrays as `check_task` makes them.

    Raises:
      InputError: unless both parts are usable, have targets not all zero and share their numbers of features and classes.
    """
    fit, heldout = (
        check_task(getattr(target, part), f"{name}.{part}", needs_labels=True) for part in ("fit", "heldout")
    )
    target = target._replace(fit=fit, heldout=heldout)
    for part, task in (("fit", fit), ("heldout", heldout)):
        if not np.any(np.asarray(task.y)):
            raise InputError(f"{name}.{part}.y: is zero everywhere, so there is nothing to learn; check the targets")
    fitted, judged = (np.shape(task.x)[1] for task in (target.fit, target.heldout))
    if fitted != judged:
        raise InputError(f"{name}.heldout.x: has {judged} features and {name}.fit.x {fitted}; make them equal")
    if fit.y.shape[1:] != heldout.y.shape[1:]:
        raise InputError(
            f"{name}.heldout.y: has shape {heldout.y.shape} and {name}.fit.y {fit.y.shape}; give both the same classes, as "
            "cimm_jax.one_hot(y, classes)"
        )
    if target.mapping is not None and (np.ndim(target.mapping) != 2 or np.shape(target.mapping)[1] != fitted):
        raise InputError(f"{name}.mapping: needs shape (inputs, {fitted}), got {np.shape(target.mapping)}")
    return target


def check_records(record_at: Sequence[int] | None, steps: int) -> tuple[int, ...]:
    """The numbers of steps to record; raises `InputError` unless they ascend from at least 1 to at most `steps`."""
    spaced = log_spaced_steps(steps)
    recorded = spaced if record_at is None else tuple(record_at)
    if not recorded or list(recorded) != sorted(set(recorded)) or recorded[0] < 1 or recorded[-1] > steps:
        raise InputError(f"record_at: needs ascending numbers from 1 to steps={steps}, got {recorded}")
    return recorded


def are_classes(targets) -> bool:
    """Whether concrete targets are classes: -1 and +1 in every entry."""
    return bool(np.isin(np.asarray(targets), (-1.0, 1.0)).all())


def accuracy(scores: jax.Array, targets: jax.Array) -> jax.Array:
    """Share of rows classified rightly: by sign for targets (N,), by the largest score for (N, C); NaN for no classes."""
    two_classes = scores.ndim == 1 or scores.shape[1] == 1
    right = (scores > 0) == (targets > 0) if two_classes else scores.argmax(1) == targets.argmax(1)
    return jnp.where((jnp.abs(targets) == 1).all(), jnp.mean(right, dtype=scores.dtype), jnp.nan)
