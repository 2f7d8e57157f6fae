"""The sweep for tasks of many classes on many features: it stays affordable, and held-out rows are judged by errors.

A probe on d features of C classes costs d^2 C numbers a step, also on the reduced problem (`attacks.problem`), but d C for
optimizers that commute with rotations, and little for those that solve. So the former run in float32, as networks are
trained, and all others in float64, where ill-conditioned features hide nothing from them.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.attacks._sweep import Swept, sweep
from cimm_jax.attacks.catalogue import Operator
from cimm_jax.attacks.protocol import Target, Trace
from cimm_jax.class_targets import centred, one_hot
from cimm_jax.numerics import losses
from cimm_jax.numerics.least_squares import probe_loss
from cimm_jax.tasks import SplitTask, Task

__all__ = ["class_task", "sweep_classes"]


def class_task(
    train: tuple[np.ndarray, np.ndarray], heldout: tuple[np.ndarray, np.ndarray], *, classes: int, squared: bool
) -> SplitTask:
    """Features and labels as a task that probes are fitted to, float64.

    With the squared loss, targets to fit are one-hot minus their means: "excess loss left" is then of what tells classes
    apart.

    Args:
      train: features of shape (N, d) and labels of shape (N,) to fit on.
      heldout: the same to be judged on.
      classes: how many the labels are of.
      squared: whether the loss is the squared one.
    """
    targets = one_hot(train[1], classes)
    fit = Task(np.asarray(train[0], np.float64), centred(targets) if squared else targets)
    return SplitTask(fit, Task(np.asarray(heldout[0], np.float64), one_hot(heldout[1], classes)))


def sweep_classes(
    operators: Sequence[Operator],
    targets: Mapping[str, Target],
    *,
    keys: jax.Array,
    done: Mapping[str, Trace] = MappingProxyType({}),
    finished: Callable[[Operator, Trace], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Swept]:
    """`sweep` in two precisions, for tasks of classes (`class_task`).

    "Excess loss left" is above the least that any probe reaches on the first target and on every other that is no invertible
    map of it. `heldout_left` is the share of held-out rows classified wrongly, over that of guessing: of losses on 196 one-hot
    columns, 98 % are a constant.

    Args:
      operators: the attackers.
      targets: float64 features by extractor, the undefended one first.
      keys: one a seed.
      done: as in `sweep`.
      finished: as in `sweep`.
      progress: called with the number of operators done.

    Raises:
      InputError: as `sweep`.
    """
    squared = operators[0].loss is losses.squared
    first, *others = targets.values()
    least = None
    if squared:
        least = min(_least_loss(target) for target in (first, *(t for t in others if t.mapping is None)))
    heavy = [operator for operator in operators if not squared or operator.axes]
    light = [operator for operator in operators if operator not in heavy]
    swept: dict[str, Swept] = {}
    for members, dtype in ((light, np.float64), (heavy, np.float32)):
        if not members:
            continue
        before = len(swept)
        swept |= sweep(
            members,
            {name: target.cast(dtype) for name, target in targets.items()},
            keys=keys,
            least_loss=least,
            done=done,
            finished=finished,
            progress=None if progress is None else lambda made, before=before: progress(before + made),
        )
    ordered = {operator.name: swept[operator.name] for operator in operators}
    guessing = 1 - 1 / _classes_used(first)
    return {name: found._replace(heldout_left=(1 - found.accuracy) / guessing) for name, found in ordered.items()}


def _classes_used(target: Target) -> int:
    """Classes that the rows fitted are of, at least 2; some may have been left out of a data set."""
    y = np.asarray(target.fit.y)
    return 2 if y.ndim == 1 or y.shape[1] == 1 else max(2, len(np.unique(y.argmax(1))))


def _least_loss(target: Target) -> float:
    """Of any probe on the rows fitted."""
    fit = Task(jnp.asarray(target.fit.x, jnp.float64), jnp.asarray(target.fit.y, jnp.float64))
    return 0.5 * float(probe_loss(fit, fit, target.amplification))
