"""A small vision transformer, trained on CIFAR-10 from nothing, so that a transformer can be immunized without ImageNet.

`vit_mini_cifar10`: 6 blocks of width 96 with 3 heads on patches of 4x4 pixels, 0.46 million parameters, float32. AdamW with
warm-up and a cosine, weight decay on matrices, smoothed labels, padded crops and mirror images, another view of every image in
every epoch. A checkpoint is saved after each epoch, and the same command continues.

    python -m experiments.pretrain_vit --data-dir DIR [--epochs 30] [--out runs/vit]

Writes model.safetensors under the names of the transformers library, for `cimm immunize --model vit_mini_cifar10 --weights
runs/vit/model.safetensors` and `table3_tails --weights`; results.json with loss and held-out accuracy of each epoch; and
training.png.

After 30 epochs on 10,000 images, held-out accuracy is 0.5325, after 0.467 by epoch 12 and 0.520 by epoch 22: 10,000 images
are few for a transformer.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cimm_jax.data.augmentation import augmentation_for
from cimm_jax.data.image_arrays import load_cifar10
from cimm_jax.data.image_set import ImageSet
from cimm_jax.data.image_views import with_views
from cimm_jax.errors import InputError
from cimm_jax.files import output_folder, write_json, write_whole
from cimm_jax.networks import build, by_name, functional
from cimm_jax.networks.backbone import Backbone, Config
from cimm_jax.networks.functional import Split
from cimm_jax.networks.head import head_of
from cimm_jax.networks.tails import tail_features
from cimm_jax.networks.weights import export_weights
from cimm_jax.resuming import Checkpoint
from cimm_jax.runs.defence import MODEL_FILE
from cimm_jax.views.render.picture import png_bytes
from experiments.common import CIFAR, parser

MODEL = "vit_mini_cifar10"
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
    """

    params: Any
    optimizer: Any


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, or goes on; writes the weights, results.json and training.png, and prints the accuracy."""
    given = _arguments(arguments)
    settings = Settings(**{name: getattr(given, name) for name in Settings.__dataclass_fields__})
    path = pretrained(given.data_dir, given.out, settings, rows=given.image_rows)
    print(f"Weights: {path}")


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__, "runs/vit")
    made.add_argument("--epochs", type=int, default=Settings.epochs)
    made.add_argument("--batch-size", type=int, default=Settings.batch_size)
    made.add_argument("--learning-rate", type=float, default=Settings.learning_rate)
    made.add_argument("--weight-decay", type=float, default=Settings.weight_decay)
    made.add_argument("--label-smoothing", type=float, default=Settings.label_smoothing)
    made.add_argument("--image-rows", type=int, help="images of each part")
    return made.parse_args(arguments)


def pretrained(data_dir: Path, out: Path, settings: Settings, *, rows: int | None = None) -> Path:
    """The weights' file, after training what is not trained yet.

    Args:
      data_dir: holds cifar10/.
      out: folder of the weights, the checkpoints, results.json and training.png.
      settings: how.
      rows: at most how many images of each part; all if None.

    Raises:
      InputError: if the images or the folder are unusable, or a batch is larger than the training images.
    """
    images, heldout = load_cifar10(data_dir / CIFAR, rows=rows)
    assert heldout is not None  # the file has both parts, or is refused
    folder = output_folder(out)
    made_by = {"model": MODEL, "settings": asdict(settings), "images": images.sha256}
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    columns += [TextColumn("{task.fields[told]}"), TimeElapsedColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(MODEL, total=settings.epochs * (len(images) // settings.batch_size), told="")
        network, epochs = train(
            by_name(MODEL),
            images,
            heldout,
            settings,
            checkpoint=Checkpoint(folder / "checkpoint", made_by),
            progress=lambda made, told: progress.update(bar, completed=made, told=told),
        )
    path = export_weights(network, folder / MODEL_FILE)
    write_json(folder / "results.json", {**made_by, "rows": len(images), "epochs": epochs})
    write_whole(folder / "training.png", _picture(epochs))
    print(
        f"{MODEL}: held-out accuracy {epochs[-1]['heldout']:.4f} after {len(epochs)} epochs, "
        f"{sum(epoch['seconds'] for epoch in epochs) / 60:.0f} minutes"
    )
    return path


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
    augmentation = augmentation_for(config.preprocess.size, config.preprocess.mean, mirror=images.mirrored_alike)
    views = with_views(images, 1 + settings.epochs, augmentation, seed=settings.seed)
    parts = functional.split(build(config, jax.random.key(settings.seed)))
    params = (parts.tail, parts.head)
    state = State(params, _optimizer(settings, per_epoch * settings.epochs).init(params))
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
    return parts._replace(tail=tail, head=head)


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

    def loss(params: Any) -> jax.Array:
        model = functional.merge(_with(parts, State(params, None)))
        logits = model(model.config.preprocess(pixels))
        targets = jax.nn.one_hot(labels, logits.shape[1], dtype=logits.dtype)
        targets = optax.smooth_labels(targets, settings.label_smoothing)
        return optax.losses.softmax_cross_entropy(logits, targets).mean()

    value, gradient = jax.value_and_grad(loss)(state.params)
    updates, optimizer = _optimizer(settings, steps).update(gradient, state.optimizer, state.params)
    return State(optax.apply_updates(state.params, updates), optimizer), value


def _accuracy(parts: Split, images: ImageSet) -> float:
    """Share of the images, as they are, that are classified rightly."""
    network = functional.merge(parts)
    pixels = np.stack([images.pixels[image] for image in range(len(images))])
    features = tail_features(parts, np.asarray(network.config.preprocess(pixels)), network.cuts[0])
    return float(np.mean(head_of(network).logits(features).argmax(1) == images.labels))


def _picture(epochs: Sequence[dict[str, float]]) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    labels = {"loss": "mean loss of the training batches", "heldout": "held-out accuracy"}
    for axes, (name, label) in zip(figure.subplots(1, 2), labels.items(), strict=True):
        axes.plot(np.arange(1, len(epochs) + 1), [epoch[name] for epoch in epochs], color="#4c5c96")
        axes.set(xlabel="epoch", ylabel=label)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.suptitle(f"{MODEL} on CIFAR-10")
    return png_bytes(figure)


if __name__ == "__main__":
    main()
