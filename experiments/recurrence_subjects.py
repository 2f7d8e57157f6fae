"""What `nonlinear_recurrences` trains, at some moments of a training by Algorithm 1: there, each term can be stepped along.

A linear extractor with the paper's K^{-1}; the same with the identity layer that networks are trained with; perceptrons on
digits; ResNet20's last blocks; a transformer's last block. Training is in float32, as networks are; what is stepped
along and measured at a moment is in float64.
"""

from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cimm_jax import methods
from cimm_jax.closed_form.fitted_head import fit_head
from cimm_jax.data.class_list import ClassList
from cimm_jax.data.image_arrays import DIGITS_SIZE
from cimm_jax.data.image_set import ImageSet, SplitImages
from cimm_jax.data.image_sources import DIGITS, load_images
from cimm_jax.methods import Method
from cimm_jax.methods.stepping import Run, advance, start
from cimm_jax.networks import build, functional
from cimm_jax.networks.backbone import Backbone
from cimm_jax.networks.features import Labelled
from cimm_jax.networks.functional import Split
from cimm_jax.networks.head import with_head
from cimm_jax.networks.linear import LinearConfig
from cimm_jax.networks.perceptron import MLP_DIGITS, PerceptronConfig
from cimm_jax.networks.preprocess import Preprocess
from cimm_jax.networks.training import TrainingSettings, train_tail
from cimm_jax.numerics import losses
from cimm_jax.numerics.hessian import probe_hessian
from cimm_jax.numerics.penalty import Penalty
from cimm_jax.numerics.preconditioning import preconditioned_gram
from cimm_jax.numerics.products import product
from cimm_jax.numerics.regularizers import ill_direction, r_ill, r_well, well_direction
from cimm_jax.numerics.spectra import eigenpairs
from cimm_jax.runs.network_subject import NetworkSubject
from cimm_jax.tasks import TaskPair
from experiments.lambda_pareto import digits_apart
from experiments.pretrain_digits import SETTINGS
from experiments.pretrain_vit import pretrained
from experiments.pretraining import Settings, train
from experiments.table3_deepnets import CONFIGURATIONS, source_of
from experiments.table3_tails import RATES
from experiments.term_steps import LOSS, OWN, Extractor

STRENGTH = 10.0
BATCH_ROWS = 64
FIXED_ROWS = 256
"""Of each task, that are measured on."""

EVERY = 2
"""Epochs from one moment to the next."""

LINEAR_STEPS, LINEAR_RATE = 40, 3e-3
"""In the place of an epoch, and how long each is in lengths of theta (the default optimizer's)."""

VIT_EPOCHS = 3
"""That a transformer is trained for unless somebody has one."""


class Blocks(NamedTuple):
    """Blocks that are trained.

    Attributes:
      network: "linear", "perceptron", or a configuration of `table3_deepnets`.
      cut: where they begin.
      depth: how many.
      width: features.
    """

    network: str
    cut: str
    depth: int
    width: int


EXACT = "linear, K^-1"
TRANSFORMER = "transformer, 1 block"
NETWORKS = {
    "linear, S^-1": Blocks("linear", "linear", 1, 64),
    **{f"perceptron {width}, 1 layer": Blocks("perceptron", "layer2", 1, width) for width in (32, 64, 128)},
    **{f"perceptron 64, {depth} layers": Blocks("perceptron", f"layer{3 - depth}", depth, 64) for depth in (2, 3)},
    **{
        f"resnet20, {depth} block{'s' if depth > 1 else ''}": Blocks("resnet20_mnist", f"layer3.{3 - depth}", depth, 64)
        for depth in (1, 2, 3)
    },
    TRANSFORMER: Blocks("vit_mnist", "block5", 1, 96),
}
SUBJECTS = (EXACT, *NETWORKS)


class Places(NamedTuple):
    """Where data are, and what is made of them.

    Attributes:
      data_dir: holds cifar10/, mnist/ and weights/.
      out: where a transformer is trained.
      cache: of activations; None is the user's.
      weights: of a transformer; None trains one.
      image_rows: images of each part.
    """

    data_dir: Path
    out: Path
    cache: Path | None
    weights: Path | None
    image_rows: int


class Opened(NamedTuple):
    """A network, and activations at the cut with labels.

    Attributes:
      network: with its head.
      cut: where training begins.
      primary: of the primary task.
      harmful: of the harmful one.
    """

    network: Backbone
    cut: str
    primary: Labelled
    harmful: Labelled


class Moment(NamedTuple):
    """An extractor in the course of its training.

    Attributes:
      extractor: whose terms can be stepped along.
      params: there, float64.
    """

    extractor: Extractor
    params: Any


class Rows(NamedTuple):
    """Rows of both tasks at the cut, float32.

    Attributes:
      primary: of the primary task.
      labels: of these.
      harmful: of the harmful one.
    """

    primary: np.ndarray
    labels: np.ndarray
    harmful: np.ndarray

    def wide(self) -> "Rows":
        """The same in float64."""
        return self._replace(primary=np.asarray(self.primary, np.float64), harmful=np.asarray(self.harmful, np.float64))


def opened(blocks: Blocks, places: Places) -> Opened:
    """The network and its activations; perceptrons and transformers are trained if need be."""
    if blocks.network in CONFIGURATIONS:
        return _images(blocks, places)
    return _digits(blocks)


def trained_parts(
    of: Opened,
    penalties: Sequence[Penalty],
    *,
    seed: int,
    epochs: int,
    batch_rows: int = BATCH_ROWS,
    longest_gradient: float | None = None,
) -> tuple[list[Split], np.ndarray]:
    """The network before training and after each epoch, and the weights of the penalties."""
    kept: list[Split] = []
    settings = TrainingSettings(
        epochs=epochs,
        batch_rows=batch_rows,
        learning_rate=RATES[STRENGTH],
        strength=STRENGTH,
        longest_gradient=longest_gradient,
        seed=seed,
    )
    trained = train_tail(
        functional.split(of.network, of.cut),
        of.cut,
        of.primary,
        of.harmful,
        penalties=penalties,
        settings=settings,
        observe=kept.append,
    )
    return kept, trained.weights


def drawn_rows(of: Opened, count: int, rng: np.random.Generator) -> Rows:
    """So many rows of each task, or as many as there are."""
    primary, harmful = (rng.permutation(len(task.labels))[:count] for task in (of.primary, of.harmful))
    return Rows(of.primary.x[primary], of.primary.labels[primary], of.harmful.x[harmful])


def network_moments(of: Opened, *, seed: int, epochs: int) -> list[Moment]:
    """Before training by Algorithm 1, and after every second epoch."""
    parts, weights = trained_parts(of, methods.algorithm1().penalties or (), seed=seed, epochs=epochs)
    rng, rate = np.random.default_rng(seed), RATES[STRENGTH]
    fixed, batch = (drawn_rows(of, count, rng) for count in (FIXED_ROWS, BATCH_ROWS))
    sizes = {LOSS: rate, **{term: rate * float(weight) for term, weight in zip(OWN, weights, strict=True)}}
    return [_network_moment(at, of.cut, fixed.wide(), batch, sizes) for at in parts[::EVERY]]


def linear_moments(*, seed: int, epochs: int) -> list[Moment]:
    """The same of a linear extractor on embedded digits, with Algorithm 1 as in the paper."""
    method, pair = methods.algorithm1(), jax.tree.map(jnp.asarray, digits_apart(seed).train)
    run = _begun(method, jax.random.key(seed), pair)
    found = [_linear_moment(run.state, pair)]
    for _ in range(epochs // EVERY):
        run = _onward(method, run, pair)
        found.append(_linear_moment(run.state, pair))
    return found


def wide(tree: Any) -> Any:
    """Arrays as float64."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), tree)


def _images(blocks: Blocks, places: Places) -> Opened:
    configuration = CONFIGURATIONS[blocks.network]
    weights = None
    if not configuration.weights:
        weights = places.weights or pretrained(places.data_dir, places.out / "vit", Settings(epochs=VIT_EPOCHS))
    source = source_of(configuration, places.data_dir, places.out, image_rows=places.image_rows, weights=weights)
    subject = NetworkSubject(source, places.cache)
    subject.cut_at(blocks.cut)
    sets = subject.activations
    return Opened(subject.network, blocks.cut, sets["primary"].train, sets["harmful"].train)


def _digits(blocks: Blocks) -> Opened:
    """Digits 0 to 4 are kept, 5 to 9 harmful."""
    network, primary = _digits_network(blocks.network, blocks.width)
    harmful = _digits_of("56789", renumbered=True).train
    parts = functional.split(network, blocks.cut)

    def activations(of: ImageSet) -> Labelled:
        return Labelled(np.asarray(functional.trunk(parts, _input(network, of), blocks.cut)), of.labels)

    return Opened(network, blocks.cut, activations(primary), activations(harmful))


@cache
def _digits_network(kind: str, width: int) -> tuple[Backbone, ImageSet]:
    """A perceptron, trained, or a linear extractor with a fitted head; and the primary images."""
    images, heldout = _digits_of("01234", renumbered=False)
    assert heldout is not None  # they come in two parts
    if kind == "perceptron":
        config = PerceptronConfig(DIGITS_SIZE**2, (width,) * 3, MLP_DIGITS.classes, preprocess=MLP_DIGITS.preprocess)
        return train(config, images, heldout, SETTINGS)[0], images
    plain = build(LinearConfig(width, width, MLP_DIGITS.classes, preprocess=MLP_DIGITS.preprocess), jax.random.key(0))
    features = np.asarray(plain.features(_input(plain, images)))
    return with_head(plain, fit_head(features, images.labels, MLP_DIGITS.classes)), images


def _digits_of(names: str, *, renumbered: bool) -> SplitImages:
    return load_images(DIGITS, size=DIGITS_SIZE, only=ClassList(tuple(names), renumbered=renumbered))


def _input(network: Backbone, images: ImageSet) -> jax.Array:
    """What the network takes, rows of pixels."""
    preprocess = network.config.preprocess
    assert isinstance(preprocess, Preprocess)  # all networks here take images
    x = preprocess(np.stack([images.pixels[number] for number in range(len(images))]))
    return x.reshape(len(x), -1)


_features = jax.jit(functional.tail, static_argnames="cut")


def _value(tail: Any, parts: Split, x: jax.Array, labels: jax.Array | None, cut: str, term: str) -> jax.Array:
    now = parts._replace(tail=tail)
    features = functional.tail(now, x, cut)
    if term == LOSS:
        assert labels is not None  # of primary rows
        logits = functional.merge(now).head(features)
        return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    gram = preconditioned_gram(features)
    return r_well(gram) if term == "well" else r_ill(gram)


_slope = jax.jit(jax.grad(_value), static_argnames=("cut", "term"))


def _network_moment(parts: Split, cut: str, fixed: Rows, batch: Rows, sizes: Mapping[str, float]) -> Moment:
    exact = wide(parts)

    def features(tail: Any, task: str) -> jax.Array:
        return _features(exact._replace(tail=tail), getattr(fixed, task), cut)

    def slope(tail: Any, term: str) -> Any:
        x, labels = (fixed.harmful, None) if term == "ill" else (fixed.primary, fixed.labels)
        return _slope(tail, exact, x, labels, cut, term)

    def trained(tail: Any, term: str) -> Any:
        narrow = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tail)
        x, labels = (batch.harmful, None) if term == "ill" else (batch.primary, batch.labels)
        return wide(_slope(narrow, parts, x, labels, cut, term))

    return Moment(Extractor(features, slope, trained, sizes, layered=True), exact.tail)


_begun = jax.jit(start, static_argnums=0)


@partial(jax.jit, static_argnums=0)
def _onward(method: Method, run: Run, pair: TaskPair) -> Run:
    return advance(method, run, pair, steps=EVERY * LINEAR_STEPS)[0]


def _linear_moment(state: Any, pair: TaskPair) -> Moment:
    """Of a state of Algorithm 1 on a linear extractor; a step of a term is as long as the optimizer would make it."""

    def features(theta: jax.Array, task: str) -> jax.Array:
        return product(getattr(pair, task).x, theta)

    def slope(theta: jax.Array, term: str) -> jax.Array:
        return _linear_slope(theta, state, pair, term)

    length = float(jnp.linalg.norm(state.theta))
    sizes = {term: LINEAR_RATE * length / float(jnp.linalg.norm(slope(state.theta, term))) for term in (*OWN, LOSS)}
    return Moment(Extractor(features, slope, None, sizes, layered=False), state.theta)


@partial(jax.jit, static_argnames="term")
def _linear_slope(theta: jax.Array, state: Any, pair: TaskPair, term: str) -> jax.Array:
    """With K^{-1}, cancelled."""
    if term == LOSS:
        return jax.grad(
            lambda theta: losses.squared(product(pair.primary.x, product(theta, state.omega)), pair.primary.y)
        )(theta)
    k, direction = (state.k_primary, well_direction) if term == "well" else (state.k_harmful, ill_direction)
    return direction(theta, eigenpairs(probe_hessian(theta, k)))
