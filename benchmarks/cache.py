"""An epoch of training a network's last blocks with the cached trunk against recomputing the trunk, in turn in one run.

    python -m benchmarks.cache [--rows 256] [--batch 64] [--rounds 5] [--weights-dir DIR] [--out DIR]

ResNet20's last block and its last two, and ResNet56's last two; with a folder of weights (weights/ in the data folder of
`cimm reproduce table3`), also EfficientNet-Lite0's last block. Without one, weights are random. float32, on the CPU.

An epoch is one step of SGD with momentum on the cross-entropy of each batch, in one compiled call. With the cache a batch is
read from the memory-mapped file; without it, its bytes go through preprocessing and trunk in the same call. Images are random
and in memory: decoding files would make recomputing slower still. Answers: features of all images after an epoch either way.
"""

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks._pictures import dots
from benchmarks._timing import Row, against, arguments, check_agreement, in_turn, print_rows, relative_difference, save
from cimm_jax.data.image_set import ArrayPixels, ImageSet
from cimm_jax.errors import InputError
from cimm_jax.networks import build, by_name, functional
from cimm_jax.networks.activation_cache import cached_outputs
from cimm_jax.networks.backbone import Backbone
from cimm_jax.networks.weights import load_weights

TOLERANCE = 1e-3
WEIGHTS = {
    **{name: f"{name}.safetensors" for name in ("resnet20_cifar10", "resnet56_cifar10")},
    "efficientnet_lite0": "efficientnet_lite0_imagenet.safetensors",
}
LEARNING_RATE = 1e-3


class Case(NamedTuple):
    """Blocks that are trained.

    Attributes:
      title: what they are called.
      model: name of the network.
      cut: where its trunk ends.
    """

    title: str
    model: str
    cut: str


CASES = (
    Case("ResNet20, last block", "resnet20_cifar10", "layer3.2"),
    Case("ResNet20, last two blocks", "resnet20_cifar10", "layer3.1"),
    Case("ResNet56, last two blocks", "resnet56_cifar10", "layer3.7"),
)
WITH_WEIGHTS = Case("EfficientNet-Lite0, last block", "efficientnet_lite0", "block15")


class Epochs(NamedTuple):
    """Both ways of training one epoch.

    Attributes:
      calls: by name, the cached one first; each gives tail and head after an epoch.
      difference: largest relative difference of the features after it.
    """

    calls: dict[str, Callable[[], Any]]
    difference: float


def load(model: str, weights_dir: Path | None) -> Backbone:
    """The network with published weights, or with random ones if there is no folder."""
    if weights_dir is None:
        return build(model, jax.random.key(0))
    return load_weights(by_name(model), weights_dir / WEIGHTS[model])


def random_images(model: Backbone, rows: int) -> ImageSet:
    """Images of the network's size with labels of its head's classes."""
    rng, config = np.random.default_rng(0), model.config
    pixels = rng.integers(0, 256, (rows, *config.preprocess.shape), np.uint8)
    return ImageSet(ArrayPixels(pixels), rng.integers(0, config.classes, rows), ("any",), "random")


def epochs(model: Backbone, cut: str, images: ImageSet, batch: int, cache: Path) -> Epochs:
    """Prepares both ways; fills the cache."""
    parts = functional.split(model, cut)
    cached = cached_outputs(cache, model, images, weights_sha256="", cut=cut, batch_rows=min(batch, len(images)))
    pixels = np.stack([images.pixels[index] for index in range(len(images))])
    optimizer = optax.sgd(LEARNING_RATE, momentum=0.9)

    def recomputed(bytes_: jax.Array) -> jax.Array:
        return functional.trunk(parts, model.config.preprocess(bytes_), cut)

    @partial(jax.jit, static_argnames="trunk")
    def step(params, state, x, labels, trunk):
        activations = jax.lax.stop_gradient(trunk(x))

        def loss(params):
            trained = functional.merge(parts._replace(tail=params[0], head=params[1]))
            logits = trained.head(trained.tail(activations, cut))
            return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    def epoch(x: np.ndarray, trunk: Callable[[jax.Array], jax.Array]) -> Any:
        params = (parts.tail, parts.head)
        state = optimizer.init(params)
        for start in range(0, len(images) - batch + 1, batch):
            rows = slice(start, start + batch)
            params, state = step(params, state, x[rows], images.labels[rows], trunk)
        return params

    def features(tail: Any, x: np.ndarray, trunk: Callable[[jax.Array], jax.Array]) -> np.ndarray:
        trained, starts = parts._replace(tail=tail), range(0, len(x), batch)
        return np.concatenate([functional.tail(trained, trunk(jnp.asarray(x[i : i + batch])), cut) for i in starts])

    ways = {"cached trunk": (cached, _as_it_is), "trunk recomputed": (pixels, recomputed)}
    ours, other = (features(epoch(*way)[0], *way) for way in ways.values())
    return Epochs({name: partial(epoch, *way) for name, way in ways.items()}, relative_difference(other, ours))


def _as_it_is(activations: jax.Array) -> jax.Array:
    return activations


def measure(case: Case, asked: argparse.Namespace) -> list[Row]:
    """Prints the table of a case."""
    model = load(case.model, asked.weights_dir)
    with tempfile.TemporaryDirectory() as folder:
        made = epochs(model, case.cut, random_images(model, asked.rows), asked.batch, Path(folder))
        names = {name: f"{case.title}: {name}" for name in made.calls}
        timed = in_turn({names[name]: call for name, call in made.calls.items()}, asked.rounds)
    rows = against(names["cached trunk"], timed, {names["trunk recomputed"]: made.difference})
    print_rows(rows, title=f"An epoch of {asked.rows} images in batches of {asked.batch}: {case.title}")
    return rows


def main() -> None:
    """Prints the tables; with --out, also cache.json and cache.png."""
    parser = arguments(__doc__, rows=256, batch=64, rounds=5)
    parser.add_argument("--weights-dir", type=Path, help="folder with weights; with it EfficientNet-Lite0 is timed too")
    asked = parser.parse_args()
    if asked.batch > asked.rows:
        parser.error(f"--batch: needs at most the {asked.rows} rows, got {asked.batch}")
    cases = CASES if asked.weights_dir is None else (*CASES, WITH_WEIGHTS)
    try:
        rows = [row for case in cases for row in measure(case, asked)]
    except InputError as error:
        raise SystemExit(f"benchmarks.cache: {error}") from error
    check_agreement(rows, TOLERANCE)
    record = {**vars(asked), "weights_dir": str(asked.weights_dir), "out": str(asked.out)}
    record["rows_timed"] = [row._asdict() for row in rows]
    save(asked.out, "cache", record, dots(rows, title="An epoch of last blocks; ratios to the cached trunk"))


if __name__ == "__main__":
    main()
