"""Images a second of networks here and in PyTorch, eager and with channels last, from the same weights, in turn in one run.

    python -m benchmarks.networks [--rounds 5] [--forms forward training] [--out DIR]

Forward, and a step of training: SGD with momentum of all weights on the cross-entropy of a batch. Batch normalisation with the
stored statistics, as networks are used here and defences train them. float32, with random weights; both have all cores.
Checked: the logits, and those after the steps that were timed, agree.

The ratio is of seconds, PyTorch's over ours: above 1, ours is faster. Needs torch (the extra bench).
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from benchmarks._pictures import dots
from benchmarks._timing import Row, against, arguments, check_agreement, in_turn, print_rows, save
from cimm_jax.networks.efficientnet import EFFICIENTNET_LITE0
from cimm_jax.networks.resnet import RESNET20_CIFAR10
from cimm_jax.networks.vit import VIT_MINI_CIFAR10, VIT_TINY
from cimm_jax.networks.weights import named_tensors

RATE, MOMENTUM = 1e-3, 0.9
TOLERANCE = 1e-3
"""Of the largest logit: float32, thirty layers, some steps."""


class Case(NamedTuple):
    """A network.

    Attributes:
      title: what it is called.
      config: its sizes.
      forward: images in a batch.
      training: the same of a step; 0 where none is timed.
    """

    title: str
    config: Any
    forward: int
    training: int


CASES = (
    Case("ResNet20", RESNET20_CIFAR10, 256, 128),
    Case("EfficientNet-Lite0", EFFICIENTNET_LITE0, 16, 0),
    Case("small transformer", replace(VIT_MINI_CIFAR10, names="timm"), 128, 64),
    Case("ViT-Tiny, 32 pixels", replace(VIT_TINY, names="timm"), 64, 0),
)


class Batch(NamedTuple):
    """Images of shape (N, height, width, 3), float32, and labels."""

    x: np.ndarray
    labels: np.ndarray


def batch_of(config: Any, rows: int) -> Batch:
    """Random images of the network's size."""
    rng, size = np.random.default_rng(0), config.preprocess.size
    return Batch(rng.standard_normal((rows, size, size, 3), np.float32), rng.integers(0, config.classes, rows))


def random_network(config: Any) -> Any:
    """One whose stored statistics and biases are not those of a fresh one."""
    model = config.build(nnx.Rngs(0))
    rng = np.random.default_rng(1)
    for _, part in nnx.iter_graph(model):
        if isinstance(part, nnx.BatchNorm):
            part.mean[...] = jnp.asarray(rng.normal(0, 0.1, part.mean.shape), jnp.float32)
            part.var[...] = jnp.asarray(rng.uniform(0.5, 2, part.var.shape), jnp.float32)
    return model


def forward(case: Case) -> dict[str, Callable[[], Any]]:
    """Logits of a batch."""
    import torch  # pyright: ignore[reportMissingImports]

    from benchmarks._torch_networks import forward_of, images_of, tensors_of

    model, batch = random_network(case.config), batch_of(case.config, case.forward)
    graph, state = nnx.split(model)
    compiled, x = jax.jit(lambda state, x: nnx.merge(graph, state)(x)), jnp.asarray(batch.x)
    calls: dict[str, Callable[[], Any]] = {f"ours, {case.title}, {case.forward} images": lambda: compiled(state, x)}

    def theirs(channels_last: bool) -> Callable[[], Any]:
        tensors = tensors_of(named_tensors(model), channels_last=channels_last)
        images, run = images_of(batch.x, channels_last=channels_last), forward_of(case.config)

        def call() -> torch.Tensor:
            with torch.inference_mode():
                return run(tensors, images)

        return call

    return calls | {"PyTorch": theirs(False), "PyTorch, channels last": theirs(True)}


def training(case: Case) -> dict[str, Callable[[], Any]]:
    """A step, whose result are the logits of the first images after it, computed only to be compared."""
    import torch  # pyright: ignore[reportMissingImports]

    from benchmarks._torch_networks import forward_of, images_of, tensors_of, trainer

    model, batch = random_network(case.config), batch_of(case.config, case.training)
    graph, trained, stored = nnx.split(model, nnx.Param, ...)
    x, labels = jnp.asarray(batch.x), jnp.asarray(batch.labels)
    optimizer = optax.sgd(RATE, momentum=MOMENTUM)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, x, labels):
        def loss(params):
            logits = nnx.merge(graph, params, stored)(x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    ours: dict[str, Any] = {"params": trained, "state": optimizer.init(trained)}

    def our_step() -> Any:
        ours["params"], ours["state"] = jax.block_until_ready(step(ours["params"], ours["state"], x, labels))
        return lambda: nnx.merge(graph, ours["params"], stored)(x[:8])

    arrays = {key: np.array(array) for key, array in named_tensors(model).items()}  # before the first step donates ours

    def theirs(channels_last: bool) -> Callable[[], Any]:
        tensors = tensors_of(arrays, channels_last=channels_last)
        images, targets = images_of(batch.x, channels_last=channels_last), torch.tensor(batch.labels)
        step, run = trainer(case.config, tensors, RATE, MOMENTUM), forward_of(case.config)

        def call() -> Any:
            step(images, targets)
            return lambda: run(tensors, images[:8]).detach()

        return call

    calls = {f"ours, {case.title}, {case.training} images": our_step}
    return calls | {"PyTorch": theirs(False), "PyTorch, channels last": theirs(True)}


def compare(calls: dict[str, Callable[[], Any]], images: int, title: str, rounds: int) -> list[Row]:
    """Prints the table; all have made as many steps when their answers are compared."""
    reference = next(iter(calls))
    answers: dict[str, Any] = {}

    def kept(name: str, call: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            answers[name] = call()
            return answers[name] if isinstance(answers[name], jax.Array) else None

        return run

    timed = in_turn({name: kept(name, call) for name, call in calls.items()}, rounds)
    logits = {name: np.asarray(answer() if callable(answer) else answer) for name, answer in answers.items()}
    expected = logits[reference]
    differences = {name: np.abs(found - expected).max() / np.abs(expected).max() for name, found in logits.items()}
    rows = against(reference, timed, differences)
    print_rows(rows, title=title)
    better = min(row.median for row in rows[1:])
    print(f"{images / rows[0].median:.0f} images a second here, {images / better:.0f} in PyTorch's better layout\n")
    return rows


def main() -> None:
    """Prints the tables; with --out, also networks.json and networks.png."""
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--forms", nargs="+", choices=("forward", "training"), default=["forward", "training"])
    asked = parser.parse_args()
    try:
        import torch  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise SystemExit(
            "torch is not installed, so there is nothing to compare with; install the extra bench"
        ) from None
    rows: dict[str, list[Row]] = {}
    for case in CASES:
        if "forward" in asked.forms:
            title = f"{case.title}, forward"
            rows[title] = compare(forward(case), case.forward, title, asked.rounds)
        if "training" in asked.forms and case.training:
            title = f"{case.title}, a step of training"
            rows[title] = compare(training(case), case.training, title, asked.rounds)
    everything = [row for part in rows.values() for row in part]
    check_agreement(everything, TOLERANCE)
    record = {title: [row._asdict() for row in part] for title, part in rows.items()}
    save(asked.out, "networks", record, dots(everything, title="Networks; seconds, ratios to ours in each group"))


if __name__ == "__main__":
    main()
