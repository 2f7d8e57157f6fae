"""Makes a defence of a subject and measures it, be it a map or trained blocks."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.errors import InputError
from cimm_jax.measures.extraction import Extraction
from cimm_jax.measures.measured import measure
from cimm_jax.methods import Method, immunize
from cimm_jax.numerics.spectra import PseudoInverse, feature_condition_number
from cimm_jax.numerics.threads import blas_threads_for
from cimm_jax.progress import phase, progress_bar
from cimm_jax.resuming import Checkpoint
from cimm_jax.runs.codec import encode
from cimm_jax.runs.defence import Defence, MapDefence
from cimm_jax.runs.judging_several import judge_several
from cimm_jax.runs.manifest import versions
from cimm_jax.runs.records import History, ImmunizeRecord, Manifest, Training
from cimm_jax.runs.several_harmful import SeveralHarmful
from cimm_jax.runs.subject import Subject

if TYPE_CHECKING:
    from cimm_jax.networks.functional import Split
    from cimm_jax.networks.training import TrainingSettings
    from cimm_jax.runs.learned_map import Aim
    from cimm_jax.runs.network_subject import NetworkSubject
    from cimm_jax.runs.trained_defence import TrainedDefence

__all__ = [
    "BATCH_ROWS",
    "GOES_ON",
    "HUGE",
    "LARGE",
    "POLICY",
    "immunize_record",
    "make_map",
    "maps_alone",
    "train_blocks",
    "training_settings",
]

BATCH_ROWS = 64
"""Of each task in a step where blocks are trained, unless a method's recipe or somebody says otherwise."""

GOES_ON = "training goes on where it was when the same command is given again"

POLICY = PseudoInverse()
"""Condition numbers on the way are measured under it."""

LARGE = 1e8
"""Rows times squared features above which a part gets few resamples."""

HUGE = 1e9
"""Of training rows the same, above which no part gets any: each is four decompositions, and all would take most of the time."""


def make_map(
    subject: Subject,
    method: Method,
    *,
    name: str,
    seed: int,
    steps: int,
    batch_size: int | None = None,
    with_history: bool = True,
    with_progress: bool = True,
) -> tuple[MapDefence, History | None]:
    """The map that a method makes of a subject's features.

    Args:
      subject: what is protected.
      method: how.
      name: of the method.
      seed: seeds it.
      steps: of a method that is no closed form.
      batch_size: rows of each task a step; None is all.
      with_history: look at the condition numbers at every step, which with many features costs more than the steps.
      with_progress: draw a progress bar.

    Raises:
      InputError: as `methods.immunize`.
    """
    steps = 1 if method.closed_form else steps
    pair = subject.pairs()["train"]
    bar = progress_bar(f"{name} on {subject.title}", steps) if with_progress else nullcontext()
    with blas_threads_for(subject.features), bar as progress:
        result = immunize(
            method,
            pair,
            key=jax.random.key(seed),
            steps=steps,
            batch_size=batch_size,
            record_every=1 if with_history else steps,
            progress=progress,
        )
    if method.closed_form or not with_history:
        return MapDefence(name, result.theta), None
    info = jax.tree.map(np.asarray, result.history)
    history = History(
        loss=info.loss,
        kappa_steps=np.arange(len(info.loss)),
        kappa_primary=info.kappa_primary,
        kappa_harmful=info.kappa_harmful,
        floored=int(info.floored.sum()),
        policy=type(POLICY).__name__,
    )
    return MapDefence(name, result.theta), history


def maps_alone(subject: Subject, method: Method, *, name: str, seed: int) -> tuple[MapDefence | None, ...]:
    """Of several harmful tasks, the map for each by itself; none of another subject, or of a method that takes steps.

    None stands for a task that the method refuses by itself, as an eraser does of more directions than it has.
    """
    if not isinstance(subject, SeveralHarmful) or not method.closed_form:
        return ()
    found: list[MapDefence | None] = []
    for one in subject.each:
        try:
            found.append(make_map(one, method, name=name, seed=seed, steps=1, with_progress=False)[0])
        except InputError:
            found.append(None)
    return tuple(found)


def training_settings(method: Method, subject: "NetworkSubject", *, seed: int, **given: Any) -> "TrainingSettings":
    """How a method's blocks are trained: its recipe, and what was given instead; batches are no larger than the images allow.

    Args:
      method: one that trains blocks.
      subject: whose images they are.
      seed: of the order of the rows.
      **given: further settings of `TrainingSettings`; None is the recipe's, or for `batch_rows` at last `BATCH_ROWS`.

    Raises:
      InputError: if a setting is out of range, where harmful rows come two by two there are not two a class in a batch, or
        there is nothing to renew blocks by.
    """
    from cimm_jax.networks.training import TrainingSettings

    told = {name: value for name, value in given.items() if value is not None}
    if "epochs" in told and told.get("steps") is None:
        told["steps"] = None
    steps = {} if subject.default_steps is None else {"steps": subject.default_steps}
    settings = TrainingSettings(**{"batch_rows": BATCH_ROWS, **dict(method.recipe), **steps, **told, "seed": seed})
    if method.renewal is not None:
        if not settings.distillation:
            raise InputError("distillation: is what this method recovers by after the noise; give more than 0")
        if settings.steps is not None and settings.steps < 2:
            raise InputError(f"steps: needs some before the noise and some after it, got {settings.steps}")
    primary, harmful = (len(subject.images[task].train) for task in ("primary", "harmful"))
    primary = settings.trained_rows(primary)
    if settings.harmful_rows is None:
        return replace(settings, batch_rows=min(settings.batch_rows, primary, harmful))
    classes = len(subject.images["harmful"].train.classes)
    if settings.in_pairs and told.get("harmful_rows", 2 * classes) < 2 * classes:
        raise InputError(
            f"harmful_rows: needs at least {2 * classes}, two rows of each of {classes} classes, got {told['harmful_rows']}"
        )
    harmful_rows = min(max(settings.harmful_rows, 2 * classes if settings.in_pairs else 1), harmful)
    return replace(settings, batch_rows=min(settings.batch_rows, primary), harmful_rows=harmful_rows)


def train_blocks(
    subject: "NetworkSubject", method: Method, settings: "TrainingSettings", *, name: str, folder: Path
) -> "tuple[TrainedDefence, History, Training]":
    """The blocks behind the subject's cut, trained with a method's penalties, or to give what its closed form gives.

    It goes on where it was interrupted.

    Args:
      subject: cut where training begins (`NetworkSubject.cut_at`).
      method: one that trains blocks (`Method.trains_blocks`).
      settings: how.
      name: of the method.
      folder: of the checkpoints.

    Raises:
      InputError: if training made the features useless.
      KeyboardInterrupt: with what happens when the command is repeated.
    """
    from cimm_jax.networks import functional
    from cimm_jax.networks.head import with_head
    from cimm_jax.networks.renewing import train_and_renew
    from cimm_jax.networks.tails import tail_features
    from cimm_jax.networks.training import train_tail
    from cimm_jax.runs.trained_defence import TrainedDefence

    cut, sets = subject.cut, subject.activations
    primary, harmful = sets["primary"].train, sets["harmful"].train
    made_by = {"method": name, "network": encode(subject.network_data), "versions": versions()}
    total = settings.total_steps(len(primary.labels), harmful.labels)
    renewing = None if method.renewal is None else partial(train_and_renew, renewal=method.renewal)
    train = renewing or partial(train_tail, few=method.few)
    parts, aim = functional.split(subject.network, cut), _aim(method, subject, name, settings.seed)
    begun = {}
    if aim.head is not None:
        begun_with = functional.split(with_head(subject.network, aim.head), cut)
        begun = {"targets": aim.targets, "start": (begun_with.tail, begun_with.head)}
    with (
        blas_threads_for(subject.features),
        progress_bar(f"{name} on {subject.title} from {cut}", total) as progress,
    ):
        try:
            trained = train(
                parts,
                cut,
                primary,
                harmful,
                penalties=aim.penalties,
                **begun,
                settings=settings,
                checkpoint=Checkpoint(folder, made_by),
                observe=lambda parts: _kappas(parts, subject),
                progress=progress,
            )
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(GOES_ON) from interrupt
    history = History(
        loss=trained.losses,
        kappa_steps=np.linspace(0, len(trained.losses), len(trained.observed)),
        **{f"kappa_{task}": np.asarray([now[task] for now in trained.observed]) for task in sets},
        floored=sum(bool(now["floored"]) for now in trained.observed),
        policy=type(POLICY).__name__,
    )
    for task, images in sets.items():  # training rows were looked at on the way
        if images.heldout is not None:
            _check_alive(tail_features(trained.parts, images.heldout.x, cut), task)
    told = {field: value for field, value in asdict(settings).items() if field != "seed"}
    training = Training(trained_from=cut, lambdas=tuple(map(float, trained.weights)), **told)
    return TrainedDefence(name, functional.merge(trained.parts), cut), history, training


def immunize_record(
    manifest: Manifest,
    subject: Subject,
    defence: Defence,
    *,
    seed: int,
    resamples: int | None = None,
    history: History | None = None,
    training: Training | None = None,
    alone: Sequence[MapDefence | None] = (),
) -> ImmunizeRecord:
    """Measures a defence.

    Args:
      manifest: how it was made.
      subject: what is protected.
      defence: what protects it.
      seed: of the run.
      resamples: bootstrap resamples; None is as many as the size of the data suggests, and none for a network.
      history: the course of the immunization.
      training: of trained blocks.
      alone: of several harmful tasks, maps for each by itself (`maps_alone`).
    """
    networked = subject.network_data is not None
    training_rows = max(len(task.x) for task in subject.pairs()["train"])
    huge = training_rows * subject.features**2 > HUGE

    def counted(extraction: Extraction) -> int | None:
        if resamples is not None or networked:
            return resamples
        rows, features = extraction.before.harmful.x.shape
        if huge:
            return None
        return 200 if rows * features**2 <= LARGE else 20

    with blas_threads_for(subject.features), phase(f"measuring what {defence.name} made"):
        measures = measure(defence.extractions(subject), seed=seed + 1, resamples=counted, in_groups=networked)
        kept = defence.kept(subject)
        several = None
        if isinstance(subject, SeveralHarmful):
            assert isinstance(defence, MapDefence)  # blocks are trained against one task
            several = judge_several(subject, defence, alone)
    return ImmunizeRecord(
        manifest=manifest,
        source=subject.source,
        names=subject.names,
        method=defence.name,
        rows={
            part: {task: len(rows.x) for task, rows in pair._asdict().items()} for part, pair in subject.pairs().items()
        },
        measures=measures,
        history=history,
        training=training,
        kept=kept,
        network=subject.network_data,
        several=several,
    )


def _aim(method: Method, subject: "NetworkSubject", name: str, seed: int) -> "Aim":
    """The method's penalties, or what makes blocks learn its closed form."""
    from cimm_jax.runs.learned_map import Aim, to_learn

    if method.penalties is not None:
        return Aim(method.penalties)
    defence, _ = make_map(subject, method, name=f"the map of {name}", seed=seed, steps=1)
    published = subject.published
    return to_learn(jnp.asarray(defence.theta), published.primary.train.x, published.harmful.train.x, subject.head)


def _check_alive(features: np.ndarray, task: str) -> None:
    if not np.isfinite(features).all() or not features.any():
        raise InputError(
            f"learning_rate: training made the {task} features zero or infinite; choose a smaller one, or smaller lambdas"
        )


def _kappas(parts: "Split", subject: "NetworkSubject") -> dict[str, float]:
    """Condition numbers of both tasks' training rows, and whether a floor decided one."""
    from cimm_jax.networks.tails import tail_features

    found: dict[str, float] = {"floored": False}
    for task, images in subject.activations.items():
        features = tail_features(parts, images.train.x, subject.cut)
        _check_alive(features, task)
        spectrum = feature_condition_number(jnp.asarray(features), POLICY)
        found[task] = float(spectrum.kappa)
        found["floored"] = bool(found["floored"]) or bool(spectrum.floored)
    return found
