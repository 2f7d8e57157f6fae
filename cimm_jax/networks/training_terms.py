"""What a step of training lowers: the primary loss, the distance from the published outputs, and a method's penalties."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import optax

from cimm_jax.networks import functional
from cimm_jax.networks.functional import Split
from cimm_jax.networks.inner_attack import attacked_features
from cimm_jax.networks.kept_head import opposed
from cimm_jax.numerics.penalty import Penalty
from cimm_jax.tasks import Task, TaskPair

if TYPE_CHECKING:
    from cimm_jax.networks.training import TrainingSettings

__all__ = ["Terms", "terms_of"]


class Terms(NamedTuple):
    """What a step's loss is made of.

    Attributes:
      primary: cross-entropy of the primary rows.
      loss: the distance from the published outputs added.
      added: value of each penalty.
      heads: the kept ones, after their steps.
    """

    primary: jax.Array
    loss: jax.Array
    added: list[jax.Array]
    heads: tuple[jax.Array, ...]


def terms_of(params, heads, parts: Split, data, *, cut: str, penalties, settings: "TrainingSettings") -> Terms:
    """The terms of a step.

    Args:
      params: of tail and head.
      heads: kept ones, a penalty with one after the other.
      parts: the network as it is published.
      data: activations and labels of primary rows, activations of harmful ones, targets of both, and the turn.
      cut: where the tail begins.
      penalties: of a method.
      settings: of the training.
    """
    tail, head = params
    primary, labels, harmful, (primary_targets, targets), turn = data
    model = functional.merge(parts._replace(tail=tail, head=head))
    outputs = list(model.pooled_tail(primary, cut).values())
    logits = model.head(outputs[-1])
    classes = jax.nn.one_hot(labels, logits.shape[1], dtype=logits.dtype)
    goal = optax.smooth_labels(classes, settings.label_smoothing)
    cross_entropy = optax.losses.softmax_cross_entropy(logits, goal).mean()
    distance = _distance_from_published(logits, parts, primary, cut, settings)
    loss = cross_entropy if distance is None else cross_entropy + settings.distillation * distance
    if not penalties:
        return Terms(cross_entropy, loss, [], ())
    harmful_outputs = list(model.pooled_tail(harmful, cut).values())
    batches = [
        TaskPair(Task(x, primary_targets), Task(harmful_x, targets))
        for x, harmful_x in zip(outputs, harmful_outputs, strict=True)
    ]

    before, after = iter(heads), []

    def value(penalty: Penalty) -> jax.Array:
        if penalty.against is not None:
            head, shown = opposed(next(before), penalty.against, batches[-1], cross_entropy)
            after.append(head)
            return penalty.value(shown)
        if penalty.after is None:
            return _mean_value(penalty, batches)
        own = harmful[::2][: penalty.after.images], targets[::2][: penalty.after.images]
        moved = attacked_features(parts, tail, cut, penalty.after, turn, own, harmful[1::2])
        return penalty.value(TaskPair(Task(outputs[-1], primary_targets), Task(moved, targets[1::2])))

    return Terms(cross_entropy, loss, [value(penalty) for penalty in penalties], tuple(after))


def _distance_from_published(
    logits: jax.Array, parts: Split, primary: jax.Array, cut: str, settings: "TrainingSettings"
) -> jax.Array | None:
    """Mean KL divergence of the new softmax from the published one; None where nobody asks for it."""
    if not settings.distillation:
        return None
    published = functional.merge(parts)
    wanted = jax.lax.stop_gradient(published.head(published.tail(primary, cut)))
    new, wanted = (jax.nn.log_softmax(values / settings.temperature) for values in (logits, wanted))
    return optax.losses.kl_divergence_with_log_targets(new, wanted).mean()


def _mean_value(penalty: Penalty, batches: Sequence[TaskPair]) -> jax.Array:
    """Of the features, the last of the outputs, or the mean over all of them."""
    looked_at = batches if penalty.everywhere else batches[-1:]
    return sum((penalty.value(batch) for batch in looked_at), jnp.zeros(())) / len(looked_at)
