"""A small perceptron, trained on some of the embedded digits: the network that the demo publishes, defends and attacks.

    python -m experiments.pretrain_digits [--classes 0 1 2 3 4] [--out runs/digits-network]

`mlp_digits`: 64 pixels, layers of 128, 64 and 32, ten outputs, of which those of other digits stay unused. Writes
model.safetensors. Some seconds; held-out accuracy on the digits 0 to 4 is 0.993.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cimm_jax.data.class_list import ClassList
from cimm_jax.data.image_arrays import DIGITS_SIZE
from cimm_jax.data.image_sources import DIGITS, load_images
from cimm_jax.files import output_folder
from cimm_jax.networks import by_name
from cimm_jax.networks.weights import export_weights
from cimm_jax.progress import progress_bar
from cimm_jax.runs.published_file import MODEL_FILE
from experiments.pretraining import Settings, train

MODEL = "mlp_digits"
SETTINGS = Settings(epochs=30, batch_size=50, learning_rate=3e-3, label_smoothing=0.0)


def main(arguments: Sequence[str] | None = None) -> Path:
    """Trains, writes the weights, prints the accuracy; returns the weights' file."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--classes", nargs="+", default=["0", "1", "2", "3", "4"])
    made.add_argument("--out", type=Path, default=Path("runs/digits-network"))
    made.add_argument("--seed", type=int, default=0)
    given = made.parse_args(arguments)
    config = by_name(MODEL)
    only = ClassList(tuple(given.classes), renumbered=False)
    images, heldout = load_images(DIGITS, size=DIGITS_SIZE, only=only)
    assert heldout is not None  # they come in two parts
    settings = replace(SETTINGS, seed=given.seed)
    total = settings.epochs * (len(images) // settings.batch_size)
    with progress_bar(MODEL, total) as progress:
        network, epochs = train(config, images, heldout, settings, progress=lambda number, _: progress(number))
    path = export_weights(network, output_folder(given.out) / MODEL_FILE)
    print(f"{MODEL}: held-out accuracy {epochs[-1]['heldout']:.3f} on {', '.join(given.classes)}; weights: {path}")
    return path


if __name__ == "__main__":
    main()
