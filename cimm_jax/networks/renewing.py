"""Training in two parts with noise between them (`numerics.trained_weights.Renewal`)."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from flax import nnx

from cimm_jax.networks import functional
from cimm_jax.networks.features import Labelled
from cimm_jax.networks.functional import Split
from cimm_jax.networks.training import Trained, TrainingSettings, train_tail
from cimm_jax.numerics.penalty import Penalty
from cimm_jax.numerics.trained_weights import Renewal
from cimm_jax.resuming import Checkpoint

__all__ = ["renewed", "train_and_renew"]


def train_and_renew(
    parts: Split,
    cut: str,
    primary: Labelled,
    harmful: Labelled,
    *,
    renewal: Renewal,
    penalties: Sequence[Penalty],
    settings: TrainingSettings,
    checkpoint: Checkpoint | None = None,
    observe: Callable[[Split], Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Trained:
    """Trains the tail with the penalties, renews it, and trains it without them on the outputs that it had before.

    Each part has a rate that falls, and a folder of its own in the checkpoint's, so that a finished one is not made again. A
    primary accuracy is held in the first.

    Args:
      parts: as in `train_tail`, and so are those that follow.
      cut: where.
      primary: the primary task's activations and labels; both parts look at them.
      harmful: the harmful one's; the first part looks at them.
      renewal: what becomes of the weights, and when.
      penalties: of the first part.
      settings: of both; the distillation is from the published outputs first, and then from those before the noise.
      checkpoint: where to save on the way.
      observe: is shown the network.
      progress: called with the number of steps made, of both parts.

    Returns:
      The losses of both parts, the weights of the penalties in the first, and what was observed first and last.

    Raises:
      InputError: as `train_tail`, or if there are not two steps.
    """
    total = settings.total_steps(len(primary.labels), harmful.labels)
    first = min(max(1, round(renewal.after * total)), total - 1)
    before = replace(settings, steps=first)
    after = replace(settings, steps=total - first, primary_accuracy=None)
    trained = train_tail(
        parts,
        cut,
        primary,
        harmful,
        penalties=penalties,
        settings=before,
        checkpoint=checkpoint and checkpoint.part("unlearned"),
        observe=observe,
        progress=progress,
    )
    distilled = train_tail(
        trained.parts,
        cut,
        primary,
        harmful,
        start=renewed(trained.parts, cut, renewal, settings.seed),
        settings=after,
        checkpoint=checkpoint and checkpoint.part("distilled"),
        observe=observe,
        progress=None if progress is None else lambda made: progress(first + made),
    )
    return Trained(
        distilled.parts,
        np.concatenate([trained.losses, distilled.losses]),
        trained.weights,
        trained.observed[:1] + distilled.observed[-1:],
    )


def renewed(parts: Split, cut: str, renewal: Renewal, seed: int) -> tuple[Any, Any]:
    """Parameters of tail and head, noise in them.

    Args:
      parts: the network, split at the cut.
      cut: where.
      renewal: how much noise.
      seed: of the fresh weights.
    """
    fresh = functional.split(functional.merge(parts).config.build(nnx.Rngs(seed)), cut)

    def mixed(own: jax.Array, new: jax.Array) -> jax.Array:
        return (1 - renewal.shrink) * own + renewal.shrink * renewal.noise * new

    return jax.tree.map(mixed, (parts.tail, parts.head), (fresh.tail, fresh.head))
