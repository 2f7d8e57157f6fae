"""What stands in for a harmful task in a defence: other images, changed ones, other data, moments; and how alike it is."""

from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits

from cimm_jax.closed_form.limits import pair_limit
from cimm_jax.data.image_set import ImageSet
from cimm_jax.measures.diagnosis import alignment
from cimm_jax.networks import functional
from cimm_jax.networks.backbone import Backbone
from cimm_jax.networks.features import Labelled
from cimm_jax.networks.tails import tail_features
from cimm_jax.runs.network_subject import NetworkSubject
from cimm_jax.tasks import Task, TaskPair
from experiments.behind_maps import centred_task

CLASSES = 10
CUT = "layer3.2"
"""Where the blocks begin that are trained: the last one."""

TARGET = "the target"
BATCH = 250
WHITENING_RIDGE = 1e-3
"""Of the mean eigenvalue, where directions of labels are compared."""

FILLED = 0.8
"""Share of the rows that so many classes have on average which a proxy of some classes gets, however many they have: programs
of one shape are compiled once."""

SAME = 1e-5
"""Rows that are closer than this share of a row's length are one image."""


class Proxy(NamedTuple):
    """What a defence is made from.

    Attributes:
      x: features of the published network, shape (N, d), float64.
      labels: shape (N,), from 0.
      activations: at `CUT`, shape (N, ...), float32; None of what comes from no images.
    """

    x: np.ndarray
    labels: np.ndarray
    activations: np.ndarray | None = None


class Scene(NamedTuple):
    """Images and features that all seeds share.

    Attributes:
      network: the published one.
      primary: the primary training images.
      kept: activations at `CUT` and labels of primary images that judge what is kept.
      pixels: of the harmful images that the defender could have, uint8, shape (N, 32, 32, 3).
      labels: of these.
      attackers: the attackers' images.
      judge: those that judge.
    """

    network: Backbone
    primary: Proxy
    kept: Labelled
    pixels: np.ndarray
    labels: np.ndarray
    attackers: Proxy
    judge: Proxy


def open_scene(subject: NetworkSubject) -> Scene:
    """Of a subject that reserves harmful images for attackers; it is cut where blocks begin."""
    subject.cut_at(CUT)
    network, sets = subject.network, subject.activations
    heldout, kept = sets["harmful"].heldout, sets["primary"].heldout
    assert heldout is not None
    assert kept is not None  # both come in two parts
    defenders = subject.images["harmful"].train
    return Scene(
        network,
        _seen(network, sets["primary"].train),
        kept,
        _pixels(defenders),
        defenders.labels,
        of_images(network, _pixels(subject.attackers_images), subject.attackers_images.labels),
        _seen(network, heldout),
    )


def of_images(network: Backbone, pixels: np.ndarray, labels: np.ndarray) -> Proxy:
    """Images of shape (N, 32, 32, 3), uint8, under the network."""
    parts = functional.split(network, CUT)
    filled = np.concatenate([pixels, np.zeros((-len(pixels) % BATCH, *pixels.shape[1:]), pixels.dtype)])
    outputs = [
        np.asarray(_trunk(parts, network.config.preprocess(filled[start : start + BATCH]), CUT))
        for start in range(0, len(filled), BATCH)
    ]
    return _seen(network, Labelled(np.concatenate(outputs)[: len(pixels)], labels))


_trunk = jax.jit(functional.trunk, static_argnames="cut")


def _seen(network: Backbone, of: Labelled) -> Proxy:
    activations = np.asarray(of.x)
    return Proxy(tail_features(functional.split(network, CUT), activations, CUT), of.labels, activations)


def _pixels(images: ImageSet) -> np.ndarray:
    return np.stack([images.pixels[number] for number in range(len(images))])


def proxies(scene: Scene, rows: int, rng: np.random.Generator) -> dict[str, Proxy]:
    """All of them, by name; at most so many rows each."""
    chosen = rng.permutation(len(scene.labels))[:rows]
    pixels, labels = scene.pixels[chosen], scene.labels[chosen]
    seen = partial(of_images, scene.network)
    other, order = seen(pixels, labels), rng.permutation(CLASSES)
    own = rng.permutation(len(scene.attackers.labels))[:rows]
    found = {TARGET: some(scene.attackers, own), "other images": other}
    for count in (8, 5, 2):
        of_these = np.flatnonzero(np.isin(labels, order[:count]))
        found[f"{count} of {CLASSES} classes"] = some(other, of_these[: round(FILLED * count / CLASSES * len(labels))])
    for strength in (32, 96):
        noise = rng.normal(0, strength, pixels.shape)
        found[f"noise of {strength}"] = seen(np.clip(pixels + noise, 0, 255).astype(np.uint8), labels)
    found["moved and mirrored"] = seen(_moved(pixels, rng), labels)
    found["inverted"] = seen(255 - pixels, labels)
    small, of_small = load_digits(return_X_y=True)
    blown_up = np.kron(small.reshape(-1, 8, 8), np.ones((4, 4))) * (255 / 16)
    digits = rng.permutation(len(small))[:rows]
    found["another data set"] = seen(
        np.repeat(blown_up[digits][..., None], 3, -1).astype(np.uint8), np.asarray(of_small)[digits]
    )
    found["moments of classes"] = drawn_from_moments(other, rng)
    found["no labels"] = other._replace(labels=_clusters(other.x, rng))
    nothing = seen(rng.integers(0, 256, pixels.shape, np.uint8), labels)
    found["images of noise"] = nothing._replace(labels=_clusters(nothing.x, rng))
    return found


def some(of: Proxy, rows: np.ndarray) -> Proxy:
    """Some of its rows, by their places."""
    return Proxy(of.x[rows], of.labels[rows], None if of.activations is None else of.activations[rows])


def _moved(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """By up to four pixels along both sides, and half of them mirrored."""
    moved = [np.roll(image, rng.integers(-4, 5, 2), (0, 1)) for image in pixels]
    return np.stack(
        [image[:, ::-1] if flip else image for image, flip in zip(moved, rng.random(len(moved)) < 0.5, strict=True)]
    )


def drawn_from_moments(of: Proxy, rng: np.random.Generator) -> Proxy:
    """Normal numbers with the means of the classes and the covariance within them."""
    means = np.stack([of.x[of.labels == label].mean(0) for label in range(CLASSES)])
    within = np.cov((of.x - means[of.labels]).T)
    return Proxy(means[of.labels] + rng.multivariate_normal(np.zeros(len(within)), within, len(of.x)), of.labels)


def _clusters(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    clusters = KMeans(CLASSES, n_init=4, random_state=int(rng.integers(2**31)))  # pyright: ignore
    return clusters.fit_predict(x).astype(np.int64)


def task_of(of: Proxy) -> Task:
    """Its features, with centred one-hot targets."""
    return centred_task(of.x, of.labels)


def share_of_target(proxy: Proxy, target: Proxy) -> float:
    """Share of the proxy's rows that are rows of the target: what is no proxy has some."""
    length = np.linalg.norm(target.x, axis=1).mean()
    return float(np.mean(cdist(proxy.x, target.x).min(1) <= SAME * length))


def likeness(proxy: Proxy, target: Proxy) -> dict[str, float]:
    """Of a proxy to the target, by several measures; larger is more alike but for the limit."""
    pair = TaskPair(task_of(proxy), task_of(target))
    k_proxy, k_target = (task.x.T @ task.x for task in pair)
    cosine = np.sum(k_proxy * k_target) / (np.linalg.norm(k_proxy) * np.linalg.norm(k_target))
    return {
        "label directions": shared_directions(*pair),
        "alignment": float(alignment(pair).score),
        "cosine": float(cosine),
        "log limit": float(pair_limit(pair).log_rir),
    }


def shared_directions(proxy: Task, target: Task) -> float:
    """Share of the target's label signal, whitened by its covariance, in the span of the proxy's label directions."""
    centred_x = [task.x - task.x.mean(0) for task in (proxy, target)]
    covariance = centred_x[1].T @ centred_x[1] / len(centred_x[1])
    values, vectors = np.linalg.eigh(covariance)
    whitening = (vectors / np.sqrt(values + WHITENING_RIDGE * values.mean())) @ vectors.T
    signals = [
        whitening @ x.T @ np.asarray(task.y) / len(x) for x, task in zip(centred_x, (proxy, target), strict=True)
    ]
    span, sigma, _ = np.linalg.svd(signals[0], full_matrices=False)
    span = span[:, sigma > 1e-8 * sigma[0]]
    return float(np.sum((span.T @ signals[1]) ** 2) / np.sum(signals[1] ** 2))
