"""A network whose features are protected: its images, its activations at a cut, its features, all computed once."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import jax
import jax.numpy as jnp

from cimm_jax.attacks import class_task
from cimm_jax.closed_form.fitted_head import fit_head
from cimm_jax.closed_form.heads import Head
from cimm_jax.data.augmentation import augmentation_for
from cimm_jax.data.class_list import ClassList, read_class_list
from cimm_jax.data.image_set import ImageSet, SplitImages
from cimm_jax.data.image_sources import load_images
from cimm_jax.data.image_views import check_views, with_views
from cimm_jax.data.registry import TaskNames
from cimm_jax.data.reserved import check_share, chosen_images, heldout_rows, reserved_rows
from cimm_jax.data.text_sources import load_texts, of_one_length
from cimm_jax.data.text_tokens import SHORTEST
from cimm_jax.errors import InputError, naming
from cimm_jax.files import cache_home
from cimm_jax.methods import Method
from cimm_jax.networks import config_of, definition_of, functional
from cimm_jax.networks.backbone import FEATURES, Backbone
from cimm_jax.networks.features import DeepFeatures, FeatureSet, Labelled, feature_set
from cimm_jax.networks.head import head_of, with_head
from cimm_jax.networks.preprocess import Preprocess
from cimm_jax.networks.rows import Rows
from cimm_jax.networks.sources import tokenizer_of
from cimm_jax.networks.tails import features_behind
from cimm_jax.networks.tokens import Tokens
from cimm_jax.networks.weight_files import weights_checksum
from cimm_jax.networks.weights import load_weights
from cimm_jax.numerics import losses
from cimm_jax.progress import progress_bar
from cimm_jax.runs.network_data import NAMED_FILES, ImagePart, NetworkData
from cimm_jax.runs.source import NetworkSource
from cimm_jax.tasks import SplitTask, TaskPair, check_pair

__all__ = ["NetworkSubject", "attacked_task", "default_cache", "pairs_of"]


class NetworkSubject:
    """A network and its images; features are computed when they are asked for, with progress bars, and kept.

    Attributes:
      source: what opened it, with the names of classes where a file of them was given.
      names: what people call the tasks.
      images: of the primary and the harmful task, as defences see them.
      own_images: whether attackers have images that no defence sees.
      attackers_images: harmful images that attackers have: those reserved or, if there are none, the defences'.
      all_harmful_images: the attackers' and the defences' harmful training images.
      judging_primary: the primary images to judge by: held-out ones, if there are any.
      network_data: what features are made from.
      cache: folder of the cache.
      cut: where the activations that features are computed from are cached; "features" caches these themselves.

    Args:
      source: which network and images.
      cache: folder of the cache; None is the user's.

    Raises:
      InputError: if something is missing, unusable, unknown, of one class only, or the head has other classes than the primary
        images.
    """

    by_errors = True
    default_steps: int | None = None
    """Of a training, instead of the method's own; None leaves these."""

    def __init__(self, source: NetworkSource, cache: Path | None = None):
        self.cut = FEATURES
        self.cache = default_cache() if cache is None else cache
        config = config_of(source.model, source.weights)
        check_views(source.views)
        check_share(source.reserved)
        check_share(source.primary_heldout, "primary_heldout")
        only = {
            task: read_class_list(getattr(source, f"{task}_classes"), renumbered=renumbered, setting=f"{task}_classes")
            for task, renumbered in (("primary", not config.classes), ("harmful", True))
        }
        # Names, where a file of them was given: a record that is read elsewhere finds no file there, or another.
        listed_names = {f"{task}_classes": listed.names for task, listed in only.items() if listed is not None}
        self.source = replace(source, **listed_names)
        self._loaded = load_weights(config, source.weights)
        self._inputs = config.preprocess.inputs
        assert not isinstance(config.preprocess, Rows)  # they are of extractors alone
        if isinstance(config.preprocess, Tokens):
            images = _texts(source, only, config.preprocess)
        else:
            images = {task: _images(source, task, listed, config.preprocess) for task, listed in only.items()}
        classes = len(images["primary"].train.classes)
        if config.classes not in (0, classes):
            raise InputError(
                f"primary: {source.primary} has {classes} classes and the head of {source.title} {config.classes}; give the "
                "images that it was trained for"
            )
        for task, split in images.items():
            if len(split.train.classes) < 2:
                raise InputError(
                    f"{task}: {getattr(source, task)} has {self._inputs} of one class only; give {self._inputs} of at least two"
                )
        images["primary"] = _held_out(images["primary"], source.primary_heldout)
        self.own_images = source.reserved > 0
        self.all_harmful_images = images["harmful"].train
        images["harmful"], self.attackers_images = _reserved(images["harmful"], source.reserved)
        self.judging_primary = images["primary"].heldout or images["primary"].train
        self.images = {task: _with_views(split, source.views, config.preprocess) for task, split in images.items()}
        self.names = TaskNames(*(_name(getattr(source, task), listed) for task, listed in only.items()))
        self.network_data = NetworkData(
            weights_checksum(source.weights),
            int(head_of(self._loaded).kernel.shape[0]),
            definition_sha256=definition_of(source.model),
            head_is_fitted=not config.classes,
            primary=_described(self.images["primary"]),
            harmful=_described(self.images["harmful"]),
        )

    @property
    def title(self) -> str:
        """The network's name."""
        return self.source.title

    @property
    def features(self) -> int:
        """That the head looks at."""
        return self.network_data.features

    @property
    def network(self) -> Backbone:
        """With its published weights; where they have no head, with one fitted to the primary training images."""
        return self._headed

    @cached_property
    def _headed(self) -> Backbone:
        if not self.network_data.head_is_fitted:
            return self._loaded
        plain = self.plain_primary(self.published)["train"]
        return with_head(self._loaded, fit_head(plain.x, plain.labels, len(self.images["primary"].train.classes)))

    @property
    def head(self) -> Head:
        """The published head, or the fitted one."""
        return head_of(self.network)

    def cut_at(self, cut: str) -> None:
        """From now on, features are computed from cached activations at this cut.

        Raises:
          InputError: with the known ones, unless blocks stand behind the cut.
        """
        cuts = self._loaded.cuts[:-1]

        def has_weights(cut: str) -> bool:
            return bool(jax.tree.leaves(functional.split(self._loaded, cut).tail))

        if cut not in cuts or not has_weights(cut):
            known = ", ".join(filter(has_weights, cuts))
            raise InputError(f"train_from: {cut!r} is no cut with blocks behind it; choose one of {known}")
        self.cut = cut

    @cached_property
    def activations(self) -> dict[str, FeatureSet]:
        """By task, the published network's activations at the cut, from the cache or computed."""
        return {task: self._outputs(task, split) for task, split in self.images.items()}

    @cached_property
    def published(self) -> DeepFeatures:
        """Features of the published network."""
        if self.cut == FEATURES:
            return DeepFeatures(**self.activations)
        return DeepFeatures(**features_behind(functional.split(self._loaded, self.cut), self.activations, self.cut))

    def pairs(self) -> dict[str, TaskPair]:
        """Features with centred one-hot targets, float64, on the device."""
        return pairs_of(self.published)

    def attacked(self, loss: losses.Loss) -> dict[str, SplitTask]:
        """New probes of the harmful classes, and of the primary ones if there are held-out images of them."""
        self.check_loss(loss)
        sets = {"harmful": self.published.harmful, "primary": self.published.primary}
        return {task: attacked_task(features, loss) for task, features in sets.items() if features.heldout is not None}

    @property
    def can_be_judged(self) -> bool:
        """Whether there are held-out harmful images."""
        return self.images["harmful"].heldout is not None

    def check_loss(self, loss: losses.Loss) -> None:
        """Raises `InputError` if the loss cannot be used, or there are no held-out harmful images; computes nothing."""
        if self.images["harmful"].heldout is None:
            raise InputError(
                f"harmful: has no held-out {self._inputs} to judge attackers on; give a folder with train and test"
            )
        for task, split in self.images.items():
            if loss is losses.softmax and split.heldout is not None and len(split.train.classes) == 2:
                raise InputError(f"loss: the {task} task has two classes; use --loss logistic")

    def checksums(self) -> dict[str, str]:
        """Of the weights and the images."""
        return self.network_data.checksums()

    def check_batch_size(self, batch_size: int | None) -> None:
        """As the protocol has it."""
        least = self.rows_of_smaller_task
        if batch_size is not None and not 1 <= batch_size <= least:
            raise InputError(f"batch_size: needs 1 to {least} (the images of the smaller task), got {batch_size}")

    def check_method(self, method: Method) -> None:
        """All images have labels."""

    @property
    def rows_of_smaller_task(self) -> int:
        """Training images of the task that has fewer."""
        return min(len(split.train) for split in self.images.values())

    def published_primary(self) -> dict[str, Labelled]:
        """Published features of the plain primary images."""
        return self.plain_primary(self.published)

    def plain_primary(self, features: DeepFeatures) -> dict[str, Labelled]:
        """The primary images as they are, without augmented views, by part."""
        train, heldout, _ = features.primary
        plain = len(train.labels) // self.images["primary"].train.views
        parts = {"train": Labelled(train.x[:plain], train.labels[:plain])}
        return parts if heldout is None else {**parts, "heldout": heldout}

    def _outputs(self, task: str, images: SplitImages) -> FeatureSet:
        what = "features" if self.cut == FEATURES else f"activations at {self.cut}"
        checksum = self.network_data.weights_sha256
        with ExitStack() as bars:

            def bar(part: str, total: int) -> Callable[[int], None]:
                return bars.enter_context(progress_bar(f"{what} of the {task} {self._inputs}, {part}", total))

            return feature_set(
                self._loaded, images, weights_sha256=checksum, cache=self.cache, cut=self.cut, progress=bar
            )


def pairs_of(features: DeepFeatures) -> dict[str, TaskPair]:
    """Features as checked tasks by part, on the device; raises `InputError` if they are unusable."""
    found = {part: pair for part in ("train", "heldout") if (pair := features.pair(part)) is not None}
    for part, pair in found.items():
        check_pair(pair, part, needs_labels=True)
    return {part: jax.tree.map(jnp.asarray, pair) for part, pair in found.items()}  # as one tree it would be sorted


def attacked_task(features: FeatureSet, loss: losses.Loss) -> SplitTask:
    """Features of both parts as a task of classes."""
    assert features.heldout is not None  # those who ask have looked
    return class_task(features.train, features.heldout, classes=features.classes, squared=loss is losses.squared)


def default_cache() -> Path:
    """Of features and activations, in `files.cache_home`."""
    return cache_home() / "features"


def _images(source: NetworkSource, task: str, listed: ClassList | None, preprocess: Preprocess) -> SplitImages:
    if source.text_length is not None:
        raise InputError(f"text_length: is of text networks, and {source.title} takes images; leave it out")
    with naming(task, "images"):
        return load_images(
            getattr(source, task),
            size=preprocess.size,
            only=listed,
            image_rows=source.image_rows,
            strict=source.strict,
            fit=preprocess.fit,
        )


def _texts(source: NetworkSource, only: Mapping[str, ClassList | None], tokens: Tokens) -> dict[str, SplitImages]:
    length = tokens.length if source.text_length is None else source.text_length
    if not SHORTEST <= length <= tokens.length:
        raise InputError(
            f"text_length: needs {SHORTEST} to {tokens.length} tokens, as {source.title} takes, got {length}; leave it out to "
            "take them all"
        )
    tokenizer, found = tokenizer_of(source.model, source.weights), {}
    for task, listed in only.items():
        with naming(task, "texts"):
            found[task] = load_texts(
                getattr(source, task),
                tokenizer=tokenizer,
                length=length,
                vocabulary=tokens.vocabulary,
                special=tokens.special,
                only=listed,
                rows=source.image_rows,
                strict=source.strict,
            )
    return of_one_length(found)


def _reserved(images: SplitImages, share: float) -> tuple[SplitImages, ImageSet]:
    """Images that defences see, and those that attackers have."""
    left, taken = reserved_rows(images.train.labels, share, "harmful images")
    if not len(taken):
        return images, images.train
    return images._replace(train=chosen_images(images.train, left)), chosen_images(images.train, taken)


def _held_out(images: SplitImages, share: float) -> SplitImages:
    """With a share of the images held out, if one is asked for."""
    if not share:
        return images
    if images.heldout is not None:
        raise InputError("primary_heldout: the primary images have a held-out part of their own; leave it out")
    left, held = heldout_rows(len(images.train), share)
    return SplitImages(chosen_images(images.train, left), chosen_images(images.train, held))


def _with_views(split: SplitImages, views: int, preprocess: Preprocess | Tokens) -> SplitImages:
    if isinstance(preprocess, Tokens):
        if views != 1:
            raise InputError("views: are of images, and this network takes texts; leave it out")
        return split
    augmentation = augmentation_for(preprocess.size, preprocess.mean, mirror=split.train.mirrored_alike)
    return split._replace(train=with_views(split.train, views, augmentation))


def _name(source: str, only: ClassList | None) -> str:
    name = source if source.startswith("tfds:") else Path(source).name
    return name if only is None else f"{len(only.names)} classes of {name}"


def _described(images: SplitImages) -> dict[str, ImagePart]:
    return {
        name: ImagePart(
            len(part),
            len(part.classes),
            part.sha256,
            len(part.skipped),
            part.views,
            part.skipped[:NAMED_FILES],
            None if part.cut_short is None else int(part.cut_short.sum()),
        )
        for name, part in images._asdict().items()
        if part is not None
    }
