"""Somebody's own features with a small extractor behind them, whose blocks are trained as those of a network are."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import jax.numpy as jnp
import numpy as np

from cimm_jax.data import feature_tasks
from cimm_jax.data.feature_table import FeatureParts
from cimm_jax.data.image_set import ArrayPixels, ImageSet, SplitImages
from cimm_jax.errors import InputError
from cimm_jax.networks import functional
from cimm_jax.networks.features import FeatureSet, Labelled
from cimm_jax.networks.residual import FIRST_BLOCK, residual_extractor
from cimm_jax.resuming import checksum
from cimm_jax.runs.feature_subject import FeatureSubject
from cimm_jax.runs.network_data import ImagePart, NetworkData
from cimm_jax.runs.network_subject import NetworkSubject, default_cache
from cimm_jax.runs.source import FeatureSource

__all__ = ["EXTRACTORS", "STEPS", "ExtractorSubject"]

EXTRACTORS = ("residual",)
"""What can be trained behind features."""

STEPS = 800
"""A step is quick here, and after the 200 of networks a kernel on all rows still reads much (docs/own_features.md)."""


class ExtractorSubject(NetworkSubject):
    """A network whose images are rows of features, and which is the identity on standardised ones until it is trained.

    Its head is fitted in closed form to the primary training rows. Undefended features are the standardised ones: by the mean
    and the deviation of each feature over the training rows of both tasks, each task counting as much.

    Args:
      source: which files, and how they are read.
      features: by the name of the task, instead of what its file has.
      cache: folder where attackers keep the outputs of the blocks; None is the user's. Training keeps none.

    Raises:
      InputError: as `FeatureSubject`, and if a task has no labels, they are amounts, there is a benign task, or a number is too
        large for float32.
    """

    default_steps = STEPS

    def __init__(
        self,
        source: FeatureSource,
        features: Mapping[str, FeatureParts] = MappingProxyType({}),
        cache: Path | None = None,
    ):
        if source.extractor not in EXTRACTORS:
            raise InputError(f"extractor: {source.extractor!r} is unknown; choose one of {', '.join(EXTRACTORS)}")
        if source.target != "classes":
            raise InputError("extractor: is trained on classes, and --target regression has amounts; leave one out")
        if source.benign is not None:
            raise InputError("benign: an extractor has no third task; leave it out")
        plain = FeatureSubject(source, features)
        for task in ("primary", "harmful"):
            plain.check_labels(task, "an extractor is trained on them")
        self.cut = FIRST_BLOCK
        self.cache = default_cache() if cache is None else cache
        self.source, self.names, self.own_images = plain.source, plain.names, plain.own_images
        self.images = {
            task: SplitImages(*(_rows(part, of.classes, task) for part in (of.train, of.heldout)))
            for task, of in plain.tasks.items()
        }
        classes = plain.tasks["harmful"].classes
        self.attackers_images = (
            _rows(plain.attackers, classes, "harmful") if plain.own_images else self._train("harmful")
        )
        self.all_harmful_images = _rows(plain.all_harmful, classes, "harmful")
        self.judging_primary = self.images["primary"].heldout or self._train("primary")
        self._inputs = "rows"
        moments = _moments([np.asarray(plain.tasks[task].train.x, np.float64) for task in ("primary", "harmful")])
        self._loaded = residual_extractor(*moments, classes=len(plain.tasks["primary"].classes))
        parts = functional.split(self._loaded)
        self.network_data = NetworkData(
            checksum((parts.tail, parts.batch_stats)),
            plain.features,
            head_is_fitted=True,
            primary=_described(self.images["primary"]),
            harmful=_described(self.images["harmful"]),
            of_rows=True,
        )

    def _train(self, task: str) -> ImageSet:
        return self.images[task].train

    def _outputs(self, task: str, images: SplitImages) -> FeatureSet:
        """Nothing is kept on disk: what comes before the cut is quick."""
        del task

        def activations(part: ImageSet) -> Labelled:
            pixels = np.stack([part.pixels[row] for row in range(len(part))])
            found = functional.trunk(functional.split(self._loaded), jnp.asarray(pixels), self.cut)
            return Labelled(np.asarray(found), part.labels)

        heldout = None if images.heldout is None else activations(images.heldout)
        return FeatureSet(activations(images.train), heldout, len(images.train.classes))


def _rows(rows: feature_tasks.Rows, classes: tuple[str, ...], task: str) -> ImageSet:
    """Rows in the place of images."""
    assert rows.labels is not None  # they were looked for
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which is looked for
        x = np.asarray(rows.x).astype(np.float32)
    if not np.isfinite(x).all():
        raise InputError(f"{task}: has features too large for float32, in which an extractor computes; scale them")
    return ImageSet(ArrayPixels(x), rows.labels, classes, checksum((x, rows.labels)))


def _moments(tasks: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each feature, shape (d,), of tasks that count alike; 1 for one that float32 sees constant."""
    mean = np.mean([x.mean(0) for x in tasks], axis=0)
    deviation = np.sqrt(np.mean([np.square(x - mean).mean(0) for x in tasks], axis=0))
    varies = deviation > np.finfo(np.float32).eps * np.maximum(deviation.max(), np.abs(mean))
    return mean, np.where(varies, deviation, 1)


def _described(images: SplitImages) -> dict[str, ImagePart]:
    parts = {name: part for name, part in images._asdict().items() if part is not None}
    return {name: ImagePart(len(part), len(part.classes), part.sha256, 0, 1, ()) for name, part in parts.items()}
