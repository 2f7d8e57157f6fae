"""Attackers on a network's features: many classes, many features, and a sweep that stays affordable.

A probe on d features of C classes costs d^2 C numbers a step, also on the reduced problem (`attacks.problem`), but d C for
optimizers that commute with rotations, and little for those that solve. So the former run in float32, as networks are
trained, and all others in float64, where ill-conditioned features hide nothing from them.
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax import attacks, losses
from cimm_jax.attacks import Operator, Swept, Target
from cimm_jax.errors import InputError
from cimm_jax.metrics import probe_loss
from cimm_jax.tasks import Task
from cimm_jax.training.class_targets import centred, one_hot
from cimm_jax.training.features import FeatureSet, Labelled

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
      features: of the harmful task.
      thetas: maps by name, shape (d, d), the undefended identity first.
      operators: the attackers.
      keys: one a seed.
      progress: called with the number of operators done. A `KeyboardInterrupt` keeps what was finished.

    Raises:
      InputError: if there is no held-out part, or as `attacks.sweep`.
    """
    if features.heldout is None:
        raise InputError("harmful: has no held-out images to judge attackers on; give a folder with train and test")
    parts = {"fit": features.train, "heldout": features.heldout}
    squared = operators[0].loss is losses.squared
    heavy = [operator for operator in operators if not squared or operator.axes]
    light = [operator for operator in operators if operator not in heavy]
    least = _least_loss(features) if squared else None
    swept: dict[str, Swept] = {}
    for members, dtype in ((light, np.float64), (heavy, np.float32)):
        if not members:
            continue
        done = len(swept)
        told = None if progress is None else lambda made, done=done: progress(done + made)
        targets = {name: _target(parts, features.classes, theta, dtype, squared) for name, theta in thetas.items()}
        try:
            swept |= attacks.sweep(members, targets, keys=keys, least_loss=least, progress=told)
        except KeyboardInterrupt:
            if not swept:
                raise
        if len(swept) < done + len(members):
            break
    ordered = {operator.name: swept[operator.name] for operator in operators if operator.name in swept}
    guessing = 1 - 1 / max(2, features.classes)
    return {name: found._replace(heldout_left=(1 - found.accuracy) / guessing) for name, found in ordered.items()}


def _target(parts: Mapping[str, Labelled], classes: int, theta: np.ndarray, dtype: type, squared: bool) -> Target:
    targets = {name: one_hot(part.labels, classes) for name, part in parts.items()}
    if squared:
        targets["fit"] = centred(targets["fit"])
    tasks = {
        name: Task((np.asarray(part.x, np.float64) @ theta).astype(dtype), targets[name].astype(dtype))
        for name, part in parts.items()
    }
    return Target(tasks["fit"], tasks["heldout"], mapping=np.asarray(theta, dtype))


def _least_loss(features: FeatureSet) -> float:
    """Of any probe on the rows fitted; a map that can be inverted does not change it."""
    fit = Task(
        jnp.asarray(features.train.x, jnp.float64),
        jnp.asarray(centred(one_hot(features.train.labels, features.classes))),
    )
    return 0.5 * float(probe_loss(fit, fit))
