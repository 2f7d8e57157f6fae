"""From the settings of a deep run to features: network, weights, images, cache."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cimm_jax.commands.shared import progress_bar
from cimm_jax.data.augmentation import augmentation_for
from cimm_jax.data.class_list import read_class_list
from cimm_jax.data.image_set import SplitImages
from cimm_jax.data.image_sources import load_images
from cimm_jax.data.image_views import check_views, with_views
from cimm_jax.errors import InputError
from cimm_jax.networks import Backbone, by_name
from cimm_jax.networks.activation_cache import weights_checksum
from cimm_jax.networks.backbone import FEATURES
from cimm_jax.networks.features import DeepFeatures, FeatureSet, Labelled, feature_set
from cimm_jax.networks.head import Head
from cimm_jax.networks.weights import load_weights

DEEP_SETTINGS = ("model", "weights", "primary", "harmful", "primary_classes", "harmful_classes", "image_rows", "views")
"""Settings that decide what the features are; the others of a deep run say what is done with them."""

TAIL_SETTINGS = ("epochs", "strength", "label_smoothing")
"""Settings of training the last blocks, which maps do not have."""


class DeepData(NamedTuple):
    """A network's features of both tasks.

    Attributes:
      features: of both tasks.
      head: the published head.
      described: what they were made from, for results.json.
    """

    features: DeepFeatures
    head: Head
    described: dict[str, Any]

    def plain_primary(self) -> dict[str, Labelled]:
        """The primary images as they are, without augmented views, by part."""
        train, heldout, _ = self.features.primary
        plain = len(train.labels) // self.described["primary"]["train"]["views"]
        parts = {"train": Labelled(train.x[:plain], train.labels[:plain])}
        return parts if heldout is None else {**parts, "heldout": heldout}


def is_deep(settings: Any) -> bool:
    """Whether settings, of a command or of a results.json, name a network."""
    model = settings.get("model") if isinstance(settings, dict) else getattr(settings, "model", None)
    return model is not None


class DeepInputs(NamedTuple):
    """A network and its images, checked; nothing is computed yet.

    Attributes:
      network: with its weights.
      weights_sha256: checksum of their file.
      images: of the primary and the harmful task.
    """

    network: Backbone
    weights_sha256: str
    images: dict[str, SplitImages]

    def check_batch_size(self, batch_size: int | None) -> None:
        """Raises `InputError` if the batch is not between 1 and the images of the smaller task."""
        least = min(len(split.train) for split in self.images.values())
        if batch_size is not None and not 1 <= batch_size <= least:
            raise InputError(f"batch_size: needs 1 to {least} (the images of the smaller task), got {batch_size}")

    def with_weights(self, path: Path) -> "DeepInputs":
        """The same images under a network of other weights; raises `InputError` as `load_weights`."""
        network = load_weights(self.network.config, path)
        return self._replace(network=network, weights_sha256=weights_checksum(path))

    def outputs(self, cache: Path | None, cut: str = FEATURES) -> dict[str, FeatureSet]:
        """By task, features or activations at another cut, from the cache or computed with progress bars.

        Args:
          cache: folder; None is the user's cache.
          cut: as in `feature_set`.
        """
        folder = default_cache() if cache is None else cache
        return {
            task: _outputs(task, self.network, split, self.weights_sha256, folder, cut)
            for task, split in self.images.items()
        }

    def described(self) -> dict[str, Any]:
        """What the features are made from, for results.json."""
        return {
            "weights_sha256": self.weights_sha256,
            "features": int(head_of(self.network).kernel.shape[0]),
            **{task: _described(split) for task, split in self.images.items()},
        }

    def data(self, cache: Path | None) -> DeepData:
        """Features of both tasks; arguments as in `outputs`."""
        return DeepData(DeepFeatures(**self.outputs(cache)), head_of(self.network), self.described())


def head_of(network: Backbone) -> Head:
    """The network's head as arrays."""
    return Head(np.asarray(network.head.kernel[...]), np.asarray(network.head.bias[...]))  # pyright: ignore


def read_deep_inputs(
    *,
    model: str,
    weights: Path | None,
    primary: str | None,
    harmful: str | None,
    image_rows: int | None,
    strict: bool,
    primary_classes: Sequence[str] = (),
    harmful_classes: Sequence[str] = (),
    views: int = 1,
) -> DeepInputs:
    """Loads the network and looks at every image once.

    Args:
      model: name of the network.
      weights: safetensors file.
      primary: folder or file of the images that its head is for, or a data set of TensorFlow Datasets.
      harmful: the same of the other images.
      image_rows: of all but folders of images, at most how many images of each part.
      strict: refuse images that cannot be decoded.
      primary_classes: names of the primary classes to use, or a file of them; labels stay those of the head. All if empty.
      harmful_classes: names of the harmful classes to use, or a file of them, in the order of their labels. All if empty.
      views: of each training image: as it is, and augmented ones (`image_views`), the same for every seed.

    Raises:
      InputError: if something is missing, unusable, unknown, or the head has other classes than the primary images.
    """
    config = by_name(model)
    given = {"weights": weights, "primary": primary, "harmful": harmful}
    for name, value in given.items():
        if value is None:
            raise InputError(f"{name}: is needed with --model {model}; see cimm immunize --help")
    check_views(views)
    listed = {
        task: read_class_list(names, renumbered=renumbered, setting=f"{task}_classes")
        for task, names, renumbered in (("primary", primary_classes, False), ("harmful", harmful_classes, True))
    }
    path = Path(str(weights))
    network = load_weights(config, path)
    images = {
        task: load_images(str(given[task]), size=config.preprocess.size, only=only, rows=image_rows, strict=strict)
        for task, only in listed.items()
    }
    classes = len(images["primary"].train.classes)
    if classes != config.classes:
        raise InputError(
            f"primary: {primary} has {classes} classes and the head of {model} {config.classes}; give the images that "
            "it was trained for"
        )
    for task, split in images.items():
        preprocess = config.preprocess
        augmentation = augmentation_for(preprocess.size, preprocess.mean, mirror=split.train.mirrored_alike)
        images[task] = split._replace(train=with_views(split.train, views, augmentation))
    return DeepInputs(network, weights_checksum(path), images)


def default_cache() -> Path:
    """cimm_jax/features in $XDG_CACHE_HOME, or in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cimm_jax" / "features"


def _outputs(task: str, network: Backbone, images: SplitImages, checksum: str, cache: Path, cut: str) -> FeatureSet:
    what = "features" if cut == FEATURES else f"activations at {cut}"
    with ExitStack() as bars:

        def bar(part: str, total: int) -> Callable[[int], None]:
            return bars.enter_context(progress_bar(f"{what} of the {task} images, {part}", total))

        return feature_set(network, images, weights_sha256=checksum, cache=cache, cut=cut, progress=bar)


def _described(images: SplitImages) -> dict[str, Any]:
    parts = {name: part for name, part in images._asdict().items() if part is not None}
    return {
        name: {
            "images": len(part),
            "classes": len(part.classes),
            "sha256": part.sha256,
            "skipped": len(part.skipped),
            "views": part.views,
        }
        for name, part in parts.items()
    }
