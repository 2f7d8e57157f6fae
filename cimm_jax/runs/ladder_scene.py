"""What attackers of a ladder find: images of their own, the judge's, and every network with what it makes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from cimm_jax.attacks import UNDEFENDED, are_classes
from cimm_jax.attacks.ladder.by_rung import PRIMARY_ALONE, RANDOM_WEIGHTS
from cimm_jax.attacks.ladder.climb import Rows
from cimm_jax.attacks.ladder.rungs import FINE_TUNING, LAYERS, RUNGS
from cimm_jax.class_targets import labels_of
from cimm_jax.data.image_set import ImageSet
from cimm_jax.data.reserved import chosen_images, rows_in_rounds
from cimm_jax.errors import InputError, naming
from cimm_jax.networks import functional
from cimm_jax.networks.backbone import FEATURES
from cimm_jax.networks.head import head_of
from cimm_jax.networks.places import pooled_outputs
from cimm_jax.networks.weights import load_weights
from cimm_jax.progress import progress_bar
from cimm_jax.resuming import checksum
from cimm_jax.runs.defence import Defence, MapDefence, undefended
from cimm_jax.runs.feature_subject import FeatureSubject
from cimm_jax.runs.network_subject import NetworkSubject
from cimm_jax.runs.published import Published
from cimm_jax.runs.subject import DataSubject, Subject

__all__ = ["BEFORE_MAP", "Exposed", "Scene", "check_can_be_climbed", "open_scene"]

BEFORE_MAP = "before the map"
"""The place of features that a map changes."""


@dataclass(frozen=True)
class Exposed:
    """One network, or one extractor of data, and what it makes of the harmful images.

    Attributes:
      name: of the defence, "undefended", "random weights" or "primary alone".
      kind: "none", "map", "blocks", "random" or "alone".
      weights: checksum of the network's.
      mapping: checksum of the map behind it; empty if there is none.
      places: what it makes of the attackers' rows and of the judge's, by place, "features" among them.
      published: the network itself; None if there is none.
      primary: share of the judge's primary images that its head classifies rightly; None if there is no head.
    """

    name: str
    kind: str
    weights: str
    mapping: str
    places: Mapping[str, tuple[Rows, Rows]]
    published: Published | None
    primary: float | None

    def identity(self, place: str) -> str:
        """Of what it makes of an image there: what a map does not change is the same as without it."""
        if place == BEFORE_MAP:
            return f"{self.weights} {FEATURES}"
        of_network = place in self.places and place != FEATURES
        return f"{self.weights} {place}" if of_network or not self.mapping else f"{self.weights} {self.mapping} {place}"

    @cached_property
    def outputs(self) -> dict[str, tuple[Rows, Rows]]:
        """Features, and what its head says of both: logits, softmax, classes; empty if there is no head."""
        if self.published is None or self.kind == "random":
            return {}
        said: dict[str, dict[int, Rows]] = {name: {} for name in ("logits", "softmax", "classes")}
        for part, rows in enumerate(self.places[FEATURES]):
            logits = np.asarray(self.published.head.logits(rows.x), np.float64)
            likely = np.exp(logits - logits.max(1, keepdims=True))
            said["logits"][part] = Rows(logits, rows.labels)
            said["softmax"][part] = Rows(likely / likely.sum(1, keepdims=True), rows.labels)
            said["classes"][part] = Rows(np.eye(logits.shape[1])[logits.argmax(1)], rows.labels)
        return {FEATURES: self.places[FEATURES], **{name: (parts[0], parts[1]) for name, parts in said.items()}}


@dataclass(frozen=True)
class Scene:
    """All that is attacked.

    Attributes:
      classes: of the harmful task.
      labels: of the attackers' rows, shape (N,).
      judged: labels of the judge's, shape (M,).
      exposed: the undefended network, the defences, random weights.
      absent: rungs that do not exist here, by name, each with the reason.
      own_images: whether no defence saw the attackers' rows.
      checksums: of the images.
      images: attackers', the judge's and the judge's primary ones; None if there is no network.
    """

    classes: int
    labels: np.ndarray
    judged: np.ndarray
    exposed: tuple[Exposed, ...]
    absent: Mapping[str, str]
    own_images: bool
    checksums: Mapping[str, str]
    images: tuple[ImageSet, ImageSet, ImageSet] | None


def open_scene(
    subject: Subject,
    defences: Sequence[Defence],
    *,
    judged: int,
    seed: int,
    with_random: bool = True,
    primary_alone: Path | None = None,
    with_defences_images: bool = False,
) -> Scene:
    """Looks at everything once, with progress bars; a network's activations come from its cache or are computed into it.

    Args:
      subject: what is protected.
      defences: what protects it.
      judged: at most so many held-out rows, of each class alike, judge the attackers.
      seed: draws them, and the random weights.
      with_random: look at random weights, too.
      primary_alone: weights of the same network trained on the primary task alone, to look at too.
      with_defences_images: attackers have the defences' harmful rows beside their own.

    Raises:
      InputError: if the harmful task has no classes or no held-out rows, or the weights cannot be used.
    """
    if judged < 2:
        raise InputError(f"judged: needs at least 2 images, got {judged}")
    check_can_be_climbed(subject)
    if isinstance(subject, DataSubject | FeatureSubject):
        if primary_alone is not None:
            raise InputError("primary_alone: are weights of a network, and there is none; leave it out")
        return _of_data(subject, defences, judged, seed, with_defences_images)
    assert isinstance(subject, NetworkSubject)  # there are no other kinds
    return _of_network(subject, defences, judged, seed, with_random, primary_alone, with_defences_images)


def check_can_be_climbed(subject: Subject) -> None:
    """Raises `InputError` if the harmful task has no classes, or no held-out rows; computes nothing."""
    if isinstance(subject, NetworkSubject):
        if not subject.can_be_judged:
            raise InputError("harmful: has no held-out images to judge attackers on; give a folder with train and test")
        return
    assert isinstance(subject, DataSubject | FeatureSubject)  # there are no other kinds
    if not are_classes(subject.judging_rows.y):
        raise InputError(f"ladder: attackers are judged by accuracy, and {subject.names.harmful} has no classes")
    if len(np.unique(labels_of(subject.attackers_rows.y))) < 2:
        raise InputError(f"ladder: {subject.names.harmful} is one class; give a task such as 2v3, or another data set")


def _of_data(
    subject: DataSubject | FeatureSubject, defences: Sequence[Defence], most: int, seed: int, with_defences_images: bool
) -> Scene:
    fit = subject.all_harmful_rows if with_defences_images else subject.attackers_rows
    heldout = subject.judging_rows
    labels, judged = labels_of(fit.y), labels_of(heldout.y)
    rows = _of_each_class(judged, most, seed)
    exposed = []
    for defence in (undefended(subject), *defences):
        assert isinstance(defence, MapDefence)  # only networks have blocks
        theta = np.asarray(defence.theta)
        parts = (Rows(np.asarray(fit.x) @ theta, labels), Rows(np.asarray(heldout.x)[rows] @ theta, judged[rows]))
        kind = "none" if defence.name == UNDEFENDED else "map"
        exposed.append(Exposed(defence.name, kind, "data", checksum(theta), {FEATURES: parts}, None, None))
    reason = "there are features, and no network that they come from"
    return Scene(
        classes=int(max(labels.max(), judged.max())) + 1,
        labels=labels,
        judged=judged[rows],
        exposed=tuple(exposed),
        absent={RUNGS[number].name: reason for number in (LAYERS, FINE_TUNING)},
        own_images=subject.own_images and not with_defences_images,
        checksums={"fit": checksum([np.asarray(fit.x), labels]), "judged": checksum([np.asarray(heldout.x), rows])},
        images=None,
    )


def _of_network(
    subject: NetworkSubject,
    defences: Sequence[Defence],
    most: int,
    seed: int,
    with_random: bool,
    primary_alone: Path | None,
    with_defences_images: bool,
) -> Scene:
    heldout = subject.images["harmful"].heldout
    assert heldout is not None  # those who ask have looked
    pool = subject.all_harmful_images if with_defences_images else subject.attackers_images
    judge = chosen_images(heldout, _of_each_class(heldout.labels, most, seed))
    primary = subject.judging_primary
    primary = chosen_images(primary, _of_each_class(primary.labels, most, seed))
    published = {defence.name: defence.published(subject) for defence in (undefended(subject), *defences)}
    if with_random and not subject.network_data.of_rows:  # an extractor before any training is the identity
        random = subject.network.config.build(nnx.Rngs(jax.random.key(seed)))
        published[RANDOM_WEIGHTS] = Published(random, None, subject.head)
    if primary_alone is not None:
        if not subject.network.config.classes:
            raise InputError(
                "primary_alone: needs a network with a head of its own, and this one has none; leave it out"
            )
        with naming("primary_alone", "weights"):
            alone = load_weights(subject.network.config, primary_alone)
        published[PRIMARY_ALONE] = Published(alone, None, head_of(alone))
    kinds = {UNDEFENDED: "none", RANDOM_WEIGHTS: "random", PRIMARY_ALONE: "alone"}
    kinds |= {defence.name: "map" if defence.trained_from is None else "blocks" for defence in defences}
    exposed = []
    for name, of in published.items():
        assert of is not None  # there is a network
        weights = checksum(functional.split(of.network))
        seen, inputs = [], of.network.config.preprocess.inputs
        for what, images in (
            (f"attackers' {inputs}", pool),
            (f"the judge's {inputs}", judge),
            (f"primary {inputs}", primary),
        ):
            with progress_bar(f"{name}: {what}", len(images)) as progress:
                outputs = pooled_outputs(
                    of.network, images, weights_sha256=weights, cache=subject.cache, progress=progress
                )
            features = of.mapped(outputs[FEATURES])
            # Before a map stand the features that it maps: they are another place.
            before = {} if of.mapping is None else {BEFORE_MAP: outputs[FEATURES]}
            seen.append((outputs | before | {FEATURES: features}, images.labels))
        (fit, labels), (judged, judged_labels), (kept, kept_labels) = seen
        places = {place: (Rows(fit[place], labels), Rows(judged[place], judged_labels)) for place in fit}
        right = float(np.mean(of.head.logits(kept[FEATURES]).argmax(1) == kept_labels))
        mapping = "" if of.mapping is None else checksum(of.mapping)
        primary_right = None if kinds[name] == "random" else right
        exposed.append(Exposed(name, kinds[name], weights, mapping, places, of, primary_right))
    return Scene(
        classes=len(pool.classes),
        labels=pool.labels,
        judged=judge.labels,
        exposed=tuple(exposed),
        absent={},
        own_images=subject.own_images and not with_defences_images,
        checksums={"fit": pool.sha256, "judged": judge.sha256, "primary": primary.sha256},
        images=(pool, judge, primary),
    )


def _of_each_class(labels: np.ndarray, most: int, seed: int) -> np.ndarray:
    """At most so many rows, ascending, of each class about alike."""
    rows, rounds = rows_in_rounds(labels, np.random.default_rng((seed, 1)))
    return np.sort(rows[np.argsort(rounds, kind="stable")][:most])
