"""Training of a network from nothing, for experiments whose published weights nobody has.

AdamW with warm-up and a cosine, weight decay on matrices, smoothed labels, padded crops and mirror images, each image seen
otherwise in every epoch. Batch normalisations use the batch and keep running statistics.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from cimm_jax.data.augmentation import augmentation_for
from cimm_jax.data.image_set import ImageSet
from cimm_jax.data.image_views import with_views
from cimm_jax.errors import InputError
from cimm_jax.networks import build, functional
from cimm_jax.networks.backbone import Backbone, Config
from cimm_jax.networks.functional import Split
from cimm_jax.networks.head import head_of
from cimm_jax.networks.preprocess import Preprocess
from cimm_jax.networks.tails import tail_features
from cimm_jax.resuming import Checkpoint

WARMUP = 0.1
LONGEST_GRADIENT = 1.0


@dataclass(frozen=True)
class Settings:
    """How the network is trained.

    Attributes:
      epochs: times through the training images.
      batch_size: images a step; those of an epoch that fill no batch are left out.
      learning_rate: the highest; it rises over the first tenth of the steps and falls along a cosine.
      weight_decay: of AdamW, for arrays with more than one axis.
      label_smoothing: share of a target that goes to all classes alike.
      seed: seeds the parameters, the order of the images and their views.
    """

    epochs: int = 30
    batch_size: int = 100
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    seed: int = 0

    def __post_init__(self):
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: needs at least 1, got {getattr(self, name)}")
        if not 0 < self.learning_rate < float("inf"):
            raise InputError(f"learning_rate: needs a positive finite number, got {self.learning_rate}")
        if not 0 <= self.weight_decay < float("inf"):
            raise InputError(f"weight_decay: needs a finite number of at least 0, got {self.weight_decay}")
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"label_smoothing: needs a number from 0 to below 1, got {self.label_smoothing}")


class State(NamedTuple):
    """What a step changes.

    Attributes:
      params: of the parts and of the head, float32.
      optimizer: state of the optimizer.
      statistics: of batch normalisations.
    """

    params: Any
    optimizer: Any
    statistics: Any


def train(
    config: Config,
    images: ImageSet,
    heldout: ImageSet,
    settings: Settings,
    *,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[int, str], None] | None = None,
) -> tuple[Backbone, list[dict[str, float]]]:
    """Trains a network from fresh parameters.

    Args:
      config: sizes of the network.
      images: to train on.
      heldout: to judge accuracy on.
      settings: how.
      checkpoint: where to save after each epoch, and to go on from.
      progress: called with the number of steps made, and with what is known of them.

    Returns:
      The network, and of each epoch the mean loss, the held-out accuracy and the seconds it took.

    Raises:
      InputError: if a batch is larger than the training images.
    """
    count = len(images)
    if settings.batch_size > count:
        raise InputError(f"batch_size: needs 1 to {count} (the training images), got {settings.batch_size}")
    per_epoch = count // settings.batch_size
    preprocess = config.preprocess
    assert isinstance(preprocess, Preprocess)  # the networks trained here take images
    augmentation = augmentation_for(preprocess.size, preprocess.mean, mirror=images.mirrored_alike)
    views = with_views(images, 1 + settings.epochs, augmentation, seed=settings.seed)
    parts = functional.split(build(config, jax.random.key(settings.seed)))
    params = (parts.tail, parts.head)
    optimizer = _optimizer(settings, per_epoch * settings.epochs)
    state = State(params, optimizer.init(params), parts.batch_stats)
    epochs = []
    if checkpoint is not None:
        checkpoint = checkpoint.that_depends_on(settings=asdict(settings), images=images.sha256)
        if (saved := checkpoint.restore(lambda notes: state)) is not None:
            state, notes = saved
            epochs = notes["epochs"]
    for epoch in range(len(epochs), settings.epochs):
        start, losses = time.monotonic(), []
        order = np.random.default_rng((settings.seed, epoch)).permutation(count)
        for chosen in order[: per_epoch * settings.batch_size].reshape(per_epoch, -1):
            # The first view of each image is the image as it is.
            pixels = np.stack([views.pixels[(1 + epoch) * count + image] for image in chosen])
            labels = images.labels[chosen]
            state, loss = _step(state, parts, pixels, labels, settings=settings, steps=per_epoch * settings.epochs)
            losses.append(float(loss))
            if progress is not None:
                accuracy = f", accuracy {epochs[-1]['heldout']:.3f}" if epochs else ""
                progress(epoch * per_epoch + len(losses), f"loss {losses[-1]:.3f}{accuracy}")
        accuracy = _accuracy(_with(parts, state), heldout)
        epochs.append({"loss": float(np.mean(losses)), "heldout": accuracy, "seconds": time.monotonic() - start})
        if checkpoint is not None:
            checkpoint.save(state, {"epochs": epochs})
    return functional.merge(_with(parts, state)), epochs


def _with(parts: Split, state: State) -> Split:
    tail, head = state.params
    return parts._replace(tail=tail, head=head, batch_stats=state.statistics)


def _optimizer(settings: Settings, steps: int) -> optax.GradientTransformation:
    warmup = max(1, round(WARMUP * steps))
    rate = optax.warmup_cosine_decay_schedule(0.0, settings.learning_rate, warmup, max(steps, warmup + 1))

    def matrices(params: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf.ndim > 1, params)

    return optax.chain(
        optax.clip_by_global_norm(LONGEST_GRADIENT),
        optax.adamw(rate, weight_decay=settings.weight_decay, mask=matrices),
    )


@partial(jax.jit, static_argnames=("settings", "steps"))
def _step(
    state: State, parts: Split, pixels: np.ndarray, labels: np.ndarray, *, settings: Settings, steps: int
) -> tuple[State, jax.Array]:
    """One of so many steps, on uint8 pixels (B, size, size, 3) and labels (B,); the new state and the loss before it."""

    def loss(params: Any) -> tuple[jax.Array, Any]:
        now = _with(parts, state._replace(params=params))
        model = functional.merge(now)
        features, statistics = functional.train_tail(now, model.config.preprocess(pixels), model.cuts[0])
        logits = model.head(features)
        targets = jax.nn.one_hot(labels, logits.shape[1], dtype=logits.dtype)
        targets = optax.smooth_labels(targets, settings.label_smoothing)
        return optax.losses.softmax_cross_entropy(logits, targets).mean(), statistics

    (value, statistics), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
    updates, optimizer = _optimizer(settings, steps).update(gradient, state.optimizer, state.params)
    return State(optax.apply_updates(state.params, updates), optimizer, statistics), value


def _accuracy(parts: Split, images: ImageSet) -> float:
    """Share of the images, as they are, that are classified rightly."""
    network = functional.merge(parts)
    pixels = np.stack([images.pixels[image] for image in range(len(images))])
    features = tail_features(parts, np.asarray(network.config.preprocess(pixels)), network.cuts[0])
    return float(np.mean(head_of(network).logits(features).argmax(1) == images.labels))
