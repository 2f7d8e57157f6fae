"""Attackers on a network's features: many classes, many features, and a sweep that stays affordable.

A probe on d features of C classes costs d^2 C numbers a step, also on the reduced problem (`attacks.problem`), but d C for
optimizers that commute with rotations, and little for those that solve. So the former run in float32, as networks are
trained, and all others in float64, where ill-conditioned features hide nothing from them.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax import attacks, losses
from cimm_jax.attacks import Operator, Swept, Target
from cimm_jax.errors import InputError
from cimm_jax.metrics import probe_loss
from cimm_jax.spectra import product_amplification
from cimm_jax.tasks import Task
from cimm_jax.training.class_targets import centred, one_hot
from cimm_jax.training.features import FeatureSet

DEEP = (
    *("line_search", "gd", "momentum", "nesterov", "adam"),
    *("standardise + adam", "conjugate_gradient", "whiten + line_search"),
    *("undo the map + line_search", "normal equations"),
)
"""Attackers that are run unless others are named."""


def attack_features(
    features: FeatureSet,
    thetas: Mapping[str, np.ndarray],
    operators: Sequence[Operator],
    *,
    keys: jax.Array,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Swept]:
    """Every operator against every map behind the features; fitted on the training part, judged on the held-out one.

    With the squared loss, targets are one-hot minus their means: "excess loss left" is then of what tells classes apart.
    `heldout_left` is the share of held-out images classified wrongly, over that of guessing: of losses on 196 one-hot
    columns, 98 % are a constant.

    Args:
      features: of the task.
      thetas: maps by name, shape (d, d), the undefended identity first.
      operators: the attackers.
      keys: one a seed.
      progress: called with the number of operators done. A `KeyboardInterrupt` keeps what was finished.

    Raises:
      InputError: if there is no held-out part, or as `attacks.sweep`.
    """
    mapped = {name: features.changed(partial(_mapped, theta)) for name, theta in thetas.items()}
    maps = {name: _Map.of(theta, features.train.x, mapped[name].train.x) for name, theta in thetas.items()}
    return _attack(mapped, operators, maps, [features], keys, progress)


def attack_networks(
    features: Mapping[str, FeatureSet],
    operators: Sequence[Operator],
    *,
    keys: jax.Array,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Swept]:
    """Every operator against every network's features of the same images; as `attack_features` otherwise.

    "Excess loss left" is above the least that any probe reaches on any of the networks.

    Args:
      features: of the task by network, the undefended one first.
      operators: the attackers; nobody knows a map that could be undone.
      keys: one a seed.
      progress: as in `attack_features`.

    Raises:
      InputError: as `attack_features`.
    """
    return _attack(features, operators, {}, list(features.values()), keys, progress)


class _Map(NamedTuple):
    """A map behind features, and how much larger the float64 rounding errors are that it leaves in them."""

    theta: np.ndarray
    amplification: float

    @classmethod
    def of(cls, theta: np.ndarray, x: np.ndarray, mapped: np.ndarray) -> "_Map":
        return cls(
            theta, float(product_amplification(*(jnp.asarray(part, jnp.float64) for part in (x, theta, mapped))))
        )


def _mapped(theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.asarray(x, np.float64) @ theta


def _attack(
    features: Mapping[str, FeatureSet],
    operators: Sequence[Operator],
    maps: Mapping[str, _Map],
    bounded_by: Sequence[FeatureSet],
    keys: jax.Array,
    progress: Callable[[int], None] | None,
) -> dict[str, Swept]:
    """The sweep; `bounded_by` are the features whose best probe has the least loss."""
    if any(of.heldout is None for of in features.values()):
        raise InputError("features: have no held-out images to judge attackers on; give a folder with train and test")
    squared = operators[0].loss is losses.squared
    least = min(map(_least_loss, bounded_by)) if squared else None
    heavy = [operator for operator in operators if not squared or operator.axes]
    light = [operator for operator in operators if operator not in heavy]
    swept: dict[str, Swept] = {}
    for members, dtype in ((light, np.float64), (heavy, np.float32)):
        if not members:
            continue
        done = len(swept)
        told = None if progress is None else lambda made, done=done: progress(done + made)
        targets = {name: _target(of, maps.get(name), dtype, squared) for name, of in features.items()}
        try:
            swept |= attacks.sweep(members, targets, keys=keys, least_loss=least, progress=told)
        except KeyboardInterrupt:
            if not swept:
                raise
        if len(swept) < done + len(members):
            break
    ordered = {operator.name: swept[operator.name] for operator in operators if operator.name in swept}
    guessing = 1 - 1 / max(2, len(np.unique(bounded_by[0].train.labels)))  # some classes may have been left out
    return {name: found._replace(heldout_left=(1 - found.accuracy) / guessing) for name, found in ordered.items()}


def _target(features: FeatureSet, behind: _Map | None, dtype: type, squared: bool) -> Target:
    targets = {
        name: one_hot(part.labels, features.classes)
        for name, part in (("train", features.train), ("heldout", features.heldout))
        if part is not None
    }
    if squared:
        targets["train"] = centred(targets["train"])
    fit, heldout = (Task(getattr(features, name).x.astype(dtype), y.astype(dtype)) for name, y in targets.items())
    if behind is None:
        return Target(fit, heldout)
    # The product was made in float64; in float32 its errors are hidden by the rounding that comes after.
    coarser = float(np.finfo(np.float64).eps / np.finfo(dtype).eps)
    amplification = max(1.0, behind.amplification * coarser)
    return Target(fit, heldout, mapping=np.asarray(behind.theta, dtype), amplification=amplification)


def _least_loss(features: FeatureSet) -> float:
    """Of any probe on the rows fitted; a map that can be inverted does not change it."""
    fit = Task(
        jnp.asarray(features.train.x, jnp.float64),
        jnp.asarray(centred(one_hot(features.train.labels, features.classes))),
    )
    return 0.5 * float(probe_loss(fit, fit))
