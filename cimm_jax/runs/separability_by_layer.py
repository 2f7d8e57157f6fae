"""How far the tasks can be told apart at every layer of a network, or in the features of data."""

import numpy as np

from cimm_jax.class_targets import one_hot
from cimm_jax.data.image_set import ImageSet
from cimm_jax.data.reserved import chosen_images
from cimm_jax.measures.explained import MOST_ROWS
from cimm_jax.measures.separable import Separable, separability
from cimm_jax.networks import functional
from cimm_jax.networks.backbone import FEATURES
from cimm_jax.networks.places import pooled_outputs
from cimm_jax.progress import progress_bar
from cimm_jax.resuming import checksum
from cimm_jax.runs.feature_subject import FeatureSubject
from cimm_jax.runs.network_subject import NetworkSubject
from cimm_jax.runs.subject import Subject
from cimm_jax.tasks import Task, TaskPair

__all__ = ["separable_layers"]


def separable_layers(subject: Subject, seed: int = 0) -> dict[str, Separable]:
    """By layer, the features last; of data, of the features alone, and empty where no labels tell rows apart.

    Args:
      subject: what is to be protected. Some of its training rows are looked at, with progress bars.
      seed: draws them.
    """
    if not isinstance(subject, NetworkSubject):
        if isinstance(subject, FeatureSubject) and subject.is_large:
            pair = subject.some_rows(2 * MOST_ROWS, seed)
        else:
            pair = subject.pairs()["train"]
        return {FEATURES: separability(pair, seed)} if all(map(_is_told_apart, pair)) else {}
    weights = checksum(functional.split(subject.network))
    seen: dict[str, tuple[dict[str, np.ndarray], np.ndarray]] = {}
    for task, split in subject.images.items():
        images = _some(split.train, seed)
        with progress_bar(f"some of the {task} images at every layer", len(images)) as progress:
            outputs = pooled_outputs(
                subject.network, images, weights_sha256=weights, cache=subject.cache, progress=progress
            )
        seen[task] = outputs, one_hot(np.unique(images.labels, return_inverse=True)[1])
    return {
        place: separability(
            TaskPair(*(Task(np.asarray(seen[task][0][place], np.float64), seen[task][1]) for task in TaskPair._fields)),
            seed,
        )
        for place in seen["primary"][0]
    }


def _is_told_apart(task: Task) -> bool:
    return task.y is not None and bool(np.any(np.asarray(task.y) != np.asarray(task.y)[:1]))


def _some(images: ImageSet, seed: int) -> ImageSet:
    rows = np.random.default_rng(seed).permutation(len(images))[: 2 * MOST_ROWS]
    return chosen_images(images, np.sort(rows))
