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
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cimm_jax.data.image_arrays import load_cifar10
from cimm_jax.files import output_folder, write_json, write_whole
from cimm_jax.networks import by_name
from cimm_jax.networks.weights import export_weights
from cimm_jax.resuming import Checkpoint
from cimm_jax.runs.published_file import MODEL_FILE
from cimm_jax.views.render.picture import png_bytes
from experiments.common import CIFAR, parser
from experiments.pretraining import Settings, train

MODEL = "vit_mini_cifar10"


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
