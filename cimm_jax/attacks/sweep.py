"""Every attacker at every rate with every seed against every extractor, and what the best of them got.

The undefended extractor is attacked with the SAME sweep: an attacker tunes his rate on whatever he is given.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.attacks.adaptive import normal_equations, standardised, whitened
from cimm_jax.attacks.linear_probe import linear_probe
from cimm_jax.attacks.optimizers import IN_UNITS_OF_CURVATURE, Schedule, has_rate
from cimm_jax.attacks.protocol import Attack, Target, Trace, check_target, log_spaced_steps
from cimm_jax.errors import InputError
from cimm_jax.metrics import probe_loss

SCREENED = ("line_search", "gd", "momentum", "nesterov", "sgd", "adam", "adamw", "adagrad", "rmsprop", "lion", "muon")
SECOND_ORDER = ("conjugate_gradient", "lbfgs")
ADAPTIVE = ("standardise + adam", "whiten + line_search", "normal equations")


@dataclass(frozen=True)
class Operator:
    """A named way to attack, with the learning rates it is tried at.

    Attributes:
      name: for tables.
      attack: the attacker.
      rates: learning rates; one number, unused, for an attacker without.
    """

    name: str
    attack: Attack
    rates: tuple[float, ...]

    def __post_init__(self):
        if not self.rates or not all(0 < rate < float("inf") for rate in self.rates):
            raise InputError(f"rates: {self.name} needs positive finite learning rates, got {self.rates}")


class Swept(NamedTuple):
    """One operator against every extractor.

    Attributes:
      trace: leaves of shape (extractors, rates, seeds, records).
      excess_left: share of the excess loss left, the same shape; infinite where the attack had diverged.
      best_rate: index of the rate with the least excess loss left, mean over seeds, at each record; (extractors, records).
      left: excess loss left at that rate, mean over seeds, shape (extractors, records).
      heldout_left: the same attacks judged on held-out rows: held-out loss over that of a zero probe.
    """

    trace: Trace
    excess_left: np.ndarray
    best_rate: np.ndarray
    left: np.ndarray
    heldout_left: np.ndarray


def standard_operators(
    names: Sequence[str] = (*SCREENED, *SECOND_ORDER, *ADAPTIVE),
    *,
    steps: int = 1000,
    rates: int = 9,
    schedule: Schedule = Schedule(),
    record_at: Sequence[int] | None = None,
) -> tuple[Operator, ...]:
    """Operators by name, each with a grid of rates wide enough that the best lies inside.

    Args:
      names: optimizers (`optimizers.known_optimizers`), or one of `ADAPTIVE`.
      steps: steps of each attack.
      rates: learning rates an operator is tried at, at least 1.
      schedule: course of the rates.
      record_at: as in `linear_probe`.

    Raises:
      InputError: if a name is unknown or a number is out of range.
    """
    if rates < 1:
        raise InputError(f"rates: needs at least 1, got {rates}")
    recorded = tuple(log_spaced_steps(steps) if record_at is None else record_at)
    probe = partial(linear_probe, steps=steps, record_at=recorded)

    def named(name: str) -> Operator:
        if name == "normal equations":
            return Operator(name, normal_equations(records=recorded), (1.0,))
        if name == "whiten + line_search":
            return Operator(name, whitened(probe("line_search")), (1.0,))
        if name == "standardise + adam":
            return Operator(name, standardised(probe("adam", schedule=schedule)), _grid("adam", rates))
        if not has_rate(name):
            return Operator(name, probe(name), (1.0,))
        return Operator(name, probe(name, schedule=schedule), _grid(name, rates))

    return tuple(named(name) for name in names)


def sweep(
    operators: Sequence[Operator],
    targets: Mapping[str, Target],
    *,
    keys: jax.Array,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Swept]:
    """Runs every operator against every target; one compilation an operator.

    Features are scaled to mean square 1 first, by one number an extractor, so that a grid of rates means the same everywhere.

    Args:
      operators: the attackers.
      targets: features by extractor, all of one shape, with the same targets; "undefended" by custom first.
      keys: one per seed, shape (seeds,).
      progress: called with the number of operators done. A `KeyboardInterrupt` keeps and returns what was finished, if anything was.

    Raises:
      InputError: if there is no operator, target or key, or the targets are unusable or differ in shape.
    """
    if not operators:
        raise InputError("operators: is empty; give at least one")
    if not targets:
        raise InputError("targets: is empty; give at least one")
    if np.ndim(keys) != 1 or not len(keys):
        raise InputError(f"keys: needs shape (seeds,) with at least one seed, got {np.shape(keys)}")
    shapes = set()
    for name, target in targets.items():
        check_target(target, f"targets[{name!r}]")
        shapes.add(tuple(np.shape(leaf) for leaf in jax.tree.leaves(target)))
    if len(shapes) > 1:
        raise InputError(f"targets: have {len(shapes)} different shapes; attack the same rows with as many features")
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(_unit(target) for target in targets.values()))
    first = next(iter(targets.values()))
    # Invertible maps leave the best loss as it is, so one reference serves all extractors.
    zero, best = 0.5 * np.mean(np.square(first.fit.y)), 0.5 * float(probe_loss(first.fit, first.fit))
    heldout_zero = 0.5 * np.mean(np.square(first.heldout.y))
    found = {}
    for number, operator in enumerate(operators):
        try:
            trace = jax.tree.map(
                np.asarray, _run(operator.attack, keys, stacked, jnp.asarray(operator.rates, stacked.fit.x.dtype))
            )
        except KeyboardInterrupt:
            if not found:
                raise
            break
        found[operator.name] = _summary(trace, zero, best, heldout_zero)
        if progress is not None:
            progress(number + 1)
    return found


def best_so_far(final: np.ndarray) -> np.ndarray:
    """Expected least excess loss left after 1, 2, ... trials drawn in random order without replacement, shape (trials,).

    Args:
      final: excess loss left at the end of every trial, any shape; infinite ones count as nothing learned (1).
    """
    values = np.sort(np.where(np.isfinite(final), final, 1.0).ravel())
    count = len(values)
    expected = []
    for drawn in range(1, count + 1):
        # The i-th smallest is the least of `drawn` with probability C(count - i - 1, drawn - 1) / C(count, drawn).
        later = count - 1 - np.arange(count)
        steps = np.arange(drawn - 1)
        chance = np.prod(np.maximum(later[:, None] - steps, 0) / (count - 1 - steps), axis=1) * drawn / count
        expected.append(float(chance @ values))
    return np.asarray(expected)


def _grid(name: str, count: int) -> tuple[float, ...]:
    low, high = (0.03, 3.0) if name in IN_UNITS_OF_CURVATURE else (1e-4, 10.0)
    return tuple(float(rate) for rate in np.geomspace(low, high, count))


def _unit(target: Target) -> Target:
    size = jnp.sqrt(jnp.mean(jnp.square(target.fit.x)))
    return Target(*(task._replace(x=jnp.asarray(task.x) / size, y=jnp.asarray(task.y)) for task in target))


@partial(jax.jit, static_argnums=0)
def _run(attack: Attack, keys: jax.Array, stacked: Target, rates: jax.Array) -> Trace:
    over_seeds = jax.vmap(attack, in_axes=(0, None, None))
    over_rates = jax.vmap(over_seeds, in_axes=(None, None, 0))
    return jax.vmap(over_rates, in_axes=(None, 0, None))(keys, stacked, rates)


def _summary(trace: Trace, zero: float, best: float, heldout_zero: float) -> Swept:
    left = np.where(trace.diverged, np.inf, (trace.loss - best) / (zero - best))
    by_rate = left.mean(2)  # (extractors, rates, records); one diverged seed rules a rate out
    best_rate = by_rate.argmin(1)
    at_best = best_rate[:, None, None, :]
    heldout = np.take_along_axis(trace.heldout_loss, at_best, 1)[:, 0].mean(1) / heldout_zero
    return Swept(trace, left, best_rate, by_rate.min(1), heldout)
