"""Every attacker at every rate with every seed against every extractor, and what the best of them got.

The undefended extractor is attacked with the SAME sweep: attackers tune their rates on whatever they are given.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cimm_jax.attacks.catalogue import Operator
from cimm_jax.attacks.protocol import Factors, Target, Trace, check_target
from cimm_jax.errors import InputError
from cimm_jax.numerics import losses
from cimm_jax.numerics.least_squares import probe_loss
from cimm_jax.numerics.meshes import on_host, on_one_device
from cimm_jax.numerics.spreading import along, everywhere, mesh_in_use


class Swept(NamedTuple):
    """One operator against every extractor, as numpy arrays of shape (extractors, rates, seeds, records).

    An attacker may stop early, so each value is the best up to its record. A run that has diverged by then never wins: its
    losses are infinite and its accuracy is 0.

    Attributes:
      operator: the operator.
      trace: what was recorded, as it was.
      left: excess loss left on the rows fitted, as a share of that of a zero probe; 0 is the best of all probes.
      heldout_left: loss left on held-out rows, as a share of a zero probe's.
      accuracy: share of held-out rows classified rightly; NaN where targets are not classes.
    """

    operator: Operator
    trace: Trace
    left: np.ndarray
    heldout_left: np.ndarray
    accuracy: np.ndarray


class Best(NamedTuple):
    """The best rate of an operator at each record; fields of shape (extractors, records).

    Attributes:
      mean: over seeds.
      low: lower end of the 95 % t interval over seeds; the mean itself if all seeds agree or there is one.
      high: upper end.
      rate: index of the rate.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    rate: np.ndarray


def sweep(
    operators: Sequence[Operator],
    targets: Mapping[str, Target],
    *,
    keys: jax.Array,
    least_loss: float | None = None,
    done: Mapping[str, Trace] = MappingProxyType({}),
    finished: Callable[[Operator, Trace], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Swept]:
    """Runs every operator against every target; one compilation an operator.

    Within `spreading.spread_over`, each device has rates and seeds of its own.

    Features are scaled to mean square 1 first, by one number an extractor, so that a grid of rates means the same everywhere.

    Args:
      operators: the attackers, all recording the same steps and judged by the same loss.
      targets: features by extractor, all of one shape, with the same targets; the undefended one by custom first.
      keys: one per seed, shape (seeds,).
      least_loss: the least loss of any probe on the rows fitted; None is the least that any of the attacks found or, if that is
        less and the loss is squared, that of the first target's best least-squares probe.
      done: traces of operators that need not run, by name: what `finished` was given by such a sweep, which was interrupted.
      finished: called with each operator that has run, and its trace; of the same operators, targets and keys, it is the same.
      progress: called with the number of operators done.

    Raises:
      InputError: if there is no operator, target or key, names repeat, the operators' losses differ, or the targets are
        unusable, differ in shape, are not of one task or cannot be decomposed.
    """
    targets = _checked(operators, targets, keys)
    traces = {operator.name: done[operator.name] for operator in operators if operator.name in done}
    mesh = mesh_in_use()
    stacked = everywhere(_stack(targets), mesh) if len(traces) < len(operators) else None
    keys = everywhere(keys, mesh)
    for number, operator in enumerate(operators):
        if stacked is not None and operator.name not in traces:
            rates = np.asarray(operator.rates, stacked.fit.x.dtype)
            trace = _run(operator.attack, keys if operator.random else keys[:1], stacked, rates, mesh)
            traces[operator.name] = jax.tree.map(on_host, trace)
            if finished is not None:
                finished(operator, traces[operator.name])
        if progress is not None:
            progress(number + 1)
    first = next(iter(targets.values()))
    reference = _reference(operators[0], first, least_loss, traces)
    return {operator.name: _swept(operator, traces[operator.name], reference) for operator in operators}


def best(values: np.ndarray, *, largest: bool = False) -> Best:
    """The best rate at each record of values of shape (extractors, rates, seeds, records), judged by the mean over seeds.

    A rate at which one seed diverged is out: its loss is infinite; of accuracies, that seed's is 0. NaN everywhere stays NaN.
    """
    from scipy.stats import t

    signed = -values if largest else values
    means = np.where(np.isnan(signed), np.inf, signed).mean(2)
    rate = means.argmin(1)
    chosen = np.take_along_axis(values, rate[:, None, None, :], 1)[:, 0]
    mean, seeds = chosen.mean(1), chosen.shape[1]
    with np.errstate(invalid="ignore"):  # infinity minus infinity: every rate diverged
        spread = chosen.std(1, ddof=1) if seeds > 1 else np.zeros_like(mean)
    width = np.nan_to_num(spread) * (t.ppf(0.975, seeds - 1) / seeds**0.5 if seeds > 1 else 0)
    return Best(mean, mean - width, mean + width, rate)


def best_so_far(final: np.ndarray) -> np.ndarray:
    """Expected least of 1, 2, ... values drawn in random order without replacement, shape (trials,).

    Args:
      final: excess loss left at the end of every trial, any shape; above 1, and infinite where it diverged, counts as nothing
        learned (1), since the attacker has the zero probe too.
    """
    values = np.sort(np.minimum(final, 1.0).ravel())
    count = len(values)
    expected = []
    for drawn in range(1, count + 1):
        # The i-th smallest is the least of `drawn` with probability C(count - i - 1, drawn - 1) / C(count, drawn): that of the
        # one before times the share of ways that are left.
        later = count - 1 - np.arange(count - 1)
        chance = drawn / count * np.cumprod([1.0, *(np.maximum(later - drawn + 1, 0) / later)])
        expected.append(float(chance @ values))
    return np.asarray(expected)


def _checked(operators: Sequence[Operator], targets: Mapping[str, Target], keys: jax.Array) -> dict[str, Target]:
    if not operators:
        raise InputError("operators: is empty; give at least one")
    if len({operator.name for operator in operators}) < len(operators):
        raise InputError("operators: two have the same name; name each differently")
    if len({operator.loss for operator in operators}) > 1:
        raise InputError("operators: are judged by different losses; sweep each loss alone")
    if not targets:
        raise InputError("targets: is empty; give at least one")
    if np.ndim(keys) != 1 or not len(keys):
        raise InputError(f"keys: needs shape (seeds,) with at least one seed, got {np.shape(keys)}")
    # Of arrays that are spread over devices, copies on one.
    checked = {
        name: jax.tree.map(_gathered, check_target(target, f"targets[{name!r}]")) for name, target in targets.items()
    }
    shapes = {tuple(np.shape(leaf) for leaf in jax.tree.leaves(target)) for target in checked.values()}
    if len(shapes) > 1:
        raise InputError(f"targets: have {len(shapes)} different shapes; attack the same rows with as many features")
    first = next(iter(checked.values()))
    for name, target in checked.items():
        for part, task, same in (("fit", target.fit, first.fit), ("heldout", target.heldout, first.heldout)):
            if not np.array_equal(task.y, same.y):
                raise InputError(
                    f"targets[{name!r}].{part}.y: differs from the first target's; attack one task at a time"
                )
    return checked


def _gathered(leaf: Any) -> Any:
    return on_one_device(leaf) if isinstance(leaf, jax.Array) else leaf


@jax.jit
def _decompose_each(stacked: Target) -> tuple[Factors, jax.Array]:
    """The factors, and whether they are numbers."""
    factors = jax.vmap(Target.decomposed)(stacked)
    return factors, jnp.isfinite(factors.u).all((1, 2))


def _stack(targets: Mapping[str, Target]) -> Target:
    """All targets with their features scaled, and each decomposed once for all attacks.

    Raises:
      InputError: if one cannot be decomposed: every attacker would lose to that, which protects nobody.
    """
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(_unit(target) for target in targets.values()))
    factors, finite = _decompose_each(stacked)
    for name, decomposed in zip(targets, np.asarray(finite), strict=True):
        if not decomposed:
            raise InputError(f"targets[{name!r}].fit.x: its singular value decomposition does not converge")
    return stacked._replace(factors=factors)


def _unit(target: Target) -> Target:
    target = jax.tree.map(jnp.asarray, target)
    size = jnp.sqrt(jnp.mean(jnp.square(target.fit.x)))
    mapping = None if target.mapping is None else target.mapping / size
    return target.with_features(lambda x: x / size)._replace(mapping=mapping)


@partial(jax.jit, static_argnums=(0, 4))
def _run(attack, keys: jax.Array, stacked: Target, rates: jax.Array, mesh: Mesh | None) -> Trace:
    if mesh is not None:
        return _run_along(attack, keys, stacked, rates, mesh)
    over_seeds = jax.vmap(attack, in_axes=(0, None, None))
    over_rates = jax.vmap(over_seeds, in_axes=(None, None, 0))
    return jax.vmap(over_rates, in_axes=(None, 0, None))(keys, stacked, rates)


def _run_along(attack, keys: jax.Array, stacked: Target, rates: jax.Array, mesh: Mesh) -> Trace:
    """Each device with rates and seeds of its own."""
    over_extractors = jax.vmap(attack, in_axes=(None, 0, None))
    seeds, tried = (grid.ravel() for grid in np.meshgrid(np.arange(len(keys)), np.arange(len(rates))))

    def trials(batched, stacked: Target) -> Trace:
        return jax.vmap(lambda key, rate: over_extractors(key, stacked, rate))(*batched)

    found = along(trials, (keys[seeds], rates[tried]), stacked, mesh)
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf.reshape(len(rates), len(keys), *leaf.shape[1:]), 2, 0), found)


class _Reference(NamedTuple):
    """Losses that shares are of: those of a zero probe, and the least."""

    zero: float
    heldout_zero: float
    least: float


def _reference(operator: Operator, first: Target, least: float | None, traces: Mapping[str, Trace]) -> _Reference:
    zero, heldout_zero = (
        float(operator.loss(jnp.zeros_like(jnp.asarray(task.y)), jnp.asarray(task.y)))
        for task in (first.fit, first.heldout)
    )
    if least is None:
        found = [
            float(np.min(trace.loss, where=~np.asarray(trace.diverged), initial=zero)) for trace in traces.values()
        ]
        if operator.loss is losses.squared:
            found.append(0.5 * float(probe_loss(first.fit, first.fit)))
        least = min(found)
    return _Reference(zero, heldout_zero, least)


def _swept(operator: Operator, trace: Trace, reference: _Reference) -> Swept:
    def best_until(values: np.ndarray) -> np.ndarray:
        return np.where(trace.diverged, np.inf, np.minimum.accumulate(values, axis=-1))

    excess = reference.zero - reference.least
    loss, heldout_loss = np.asarray(trace.loss), np.asarray(trace.heldout_loss)
    left = best_until((loss - reference.least) / excess) if excess > 0 else np.zeros_like(loss)
    heldout_left = best_until(heldout_loss / reference.heldout_zero)
    accuracy = np.maximum.accumulate(trace.accuracy, axis=-1)
    accuracy = np.where(trace.diverged & ~np.isnan(accuracy), 0.0, accuracy)
    return Swept(operator, trace, left, heldout_left, accuracy)
