"""Features of two image data sets under one network: what its linear maps are immunized and attacked on."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cimm_jax.class_targets import centred, one_hot
from cimm_jax.data.image_set import ImageSet, SplitImages
from cimm_jax.errors import InputError
from cimm_jax.networks.activation_cache import cached_outputs
from cimm_jax.networks.backbone import FEATURES, Backbone
from cimm_jax.tasks import SplitPair, Task, TaskPair

__all__ = ["DeepFeatures", "FeatureSet", "Labelled", "feature_set"]


class Labelled(NamedTuple):
    """Features and labels of one part of a data set.

    Attributes:
      x: shape (N, d), float32, memory-mapped.
      labels: shape (N,), int64.
    """

    x: np.ndarray
    labels: np.ndarray


class FeatureSet(NamedTuple):
    """Features of one data set.

    Attributes:
      train: the training part.
      heldout: the held-out part; None if there is none.
      classes: how many classes the labels are of.
    """

    train: Labelled
    heldout: Labelled | None
    classes: int

    def changed(self, change: Callable[[np.ndarray], np.ndarray]) -> "FeatureSet":
        """The same images with what a function of x makes of theirs, in both parts."""
        train, heldout = self.train, self.heldout
        return self._replace(
            train=train._replace(x=change(train.x)),
            heldout=None if heldout is None else heldout._replace(x=change(heldout.x)),
        )


class DeepFeatures(NamedTuple):
    """Features of the primary and the harmful task."""

    primary: FeatureSet
    harmful: FeatureSet

    def pair(self, part: str = "train") -> TaskPair | None:
        """The tasks for methods, float64 with centred one-hot targets (N, C); None if a task lacks the part."""
        sets = (self.primary, self.harmful)
        if any(getattr(features, part) is None for features in sets):
            return None
        return TaskPair(*(_task(features, getattr(features, part)) for features in sets))

    def split(self) -> SplitPair:
        """Both parts; raises `InputError` if a task has no held-out part."""
        heldout = self.pair("heldout")
        train = self.pair()
        if heldout is None or train is None:
            raise InputError("primary, harmful: need held-out images for this; give folders with train and test")
        return SplitPair(train, heldout)


def _task(features: FeatureSet, part: Labelled) -> Task:
    targets = one_hot(part.labels, features.classes)
    means_of = one_hot(features.train.labels, features.classes)
    return Task(np.asarray(part.x, np.float64), centred(targets, means_of))


def feature_set(
    model: Backbone,
    images: SplitImages,
    *,
    weights_sha256: str,
    cache: Path,
    cut: str = FEATURES,
    progress: Callable[[str, int], Callable[[int], None]] | None = None,
) -> FeatureSet:
    """Features of a data set, or its activations at another cut, from the cache or computed.

    Args:
      model: the network.
      images: what it looks at.
      weights_sha256: checksum of its weights.
      cache: folder of `feature_cache`.
      cut: where the trunk ends; before "features", arrays have the shape (N, ...) of the activations there.
      progress: (part, images) -> a function that is told how many images are done.
    """

    def features(part: str, images: ImageSet) -> Labelled:
        told = None if progress is None else progress(part, len(images))
        outputs = cached_outputs(cache, model, images, weights_sha256=weights_sha256, cut=cut, progress=told)
        return Labelled(outputs, images.labels)

    train = features("train", images.train)
    heldout = None if images.heldout is None else features("heldout", images.heldout)
    return FeatureSet(train, heldout, len(images.train.classes))
