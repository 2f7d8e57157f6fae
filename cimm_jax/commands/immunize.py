"""`cimm immunize`: one subject, one method, a verdict; the subject may be data or a network, the defence a map or blocks."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cimm_jax.closed_form.erasure import check_rank
from cimm_jax.commands.delivery import deliver, manifest_of
from cimm_jax.commands.settings import BLOCKS, DATA, EXTRACTOR, MAP, Immunize, refuse_foreign
from cimm_jax.commands.tracking import check_trackers, track
from cimm_jax.errors import InputError, naming
from cimm_jax.locks import only_one_in
from cimm_jax.measures.bootstrap import check_resamples
from cimm_jax.methods import KNOWN, LEARNED_RIDGE, LIGHT_RIDGE, Method
from cimm_jax.methods.run import check_method, check_steps
from cimm_jax.networks import check_model
from cimm_jax.runs.defence import Defence, MapDefence
from cimm_jax.runs.immunizing import immunize_record, make_map, maps_alone, train_blocks, training_settings
from cimm_jax.runs.records import History, ImmunizeRecord, Training
from cimm_jax.runs.subject import Subject, open_subject

if TYPE_CHECKING:
    from cimm_jax.networks.training import TrainingSettings

__all__ = ["Made", "Prepared", "defend", "measured", "prepare", "run_immunize"]


class Prepared(NamedTuple):
    """What is asked for, checked and loaded.

    Attributes:
      settings: with what kinds of run have by default filled in.
      method: how to protect.
      subject: what to protect.
      steps: of a method that is no closed form.
      training: how blocks are trained; None for a map.
    """

    settings: Immunize
    method: Method
    subject: Subject
    steps: int
    training: "TrainingSettings | None"


class Made(NamedTuple):
    """What a method made.

    Attributes:
      defence: the map, or the network.
      history: the course, where it was recorded.
      training: of blocks; None for a map.
      alone: of several harmful tasks, maps for each by itself (`maps_alone`).
    """

    defence: Defence
    history: History | None
    training: Training | None
    alone: tuple[MapDefence | None, ...] = ()


def run_immunize(settings: Immunize) -> None:
    """Immunizes, writes what is to be published first, then measures, writes and prints.

    Raises:
      InputError: as `prepare`.
      KeyboardInterrupt: with what happens when the command is repeated.
    """
    prepared = prepare(settings)
    with only_one_in(settings.out) as folder:
        made = defend(prepared, folder / "checkpoint")
        published = made.defence.write(folder, prepared.subject)
        record = measured(prepared, made)
        deliver(folder, record, json=settings.json, beside=published)
        track(settings.track, folder, record)


def prepare(settings: Immunize, subject: Subject | None = None) -> Prepared:
    """Checks everything and computes nothing.

    Args:
      settings: what is asked for.
      subject: what to protect; None opens what the settings name.

    Raises:
      InputError: if a setting is unusable or one of another kind of run.
    """
    refuse_foreign(settings, settings.kind)
    check_trackers(settings.track)
    settings = _with_network_defaults(settings)
    method = settings.build()
    steps = 300 if settings.steps is None else settings.steps
    check_steps(steps)
    if settings.resamples is not None:
        check_resamples(settings.resamples)
    trains = settings.kind in (BLOCKS, EXTRACTOR)
    if trains:
        _check_trains(settings, method)
    else:
        check_method(method, called=settings.method)
    subject = subject or _subject(settings)
    if subject.network_data is not None:  # whose features take long; those of data are here
        harmful = [of["train"] for task, of in subject.network_data.tasks.items() if task != "primary"]
        check_rank(settings.rank, subject.features, sum(images.classes - 1 for images in harmful))
    subject.check_batch_size(settings.batch_size)
    subject.check_method(method)
    training = _training_settings(settings, method, subject) if trains else None
    return Prepared(settings, method, subject, steps, training)


def defend(prepared: Prepared, checkpoint: Path) -> Made:
    """Makes the defence, with progress bars.

    Args:
      prepared: what is asked for.
      checkpoint: folder where the training of blocks goes on if it is interrupted.

    Raises:
      InputError: if training made the features useless.
      KeyboardInterrupt: with what happens when the same is asked for again.
    """
    settings, method, subject, steps, training = prepared
    if training is None:
        defence, history = make_map(
            subject,
            method,
            name=settings.method,
            seed=settings.seed,
            steps=steps,
            batch_size=settings.batch_size,
            with_history=settings.kind == DATA,
        )
        alone = maps_alone(subject, method, name=settings.method, seed=settings.seed)
        return Made(defence, history, None, alone)
    from cimm_jax.runs.network_subject import NetworkSubject

    assert isinstance(subject, NetworkSubject)  # only networks have blocks
    return Made(*train_blocks(subject, method, training, name=settings.method, folder=checkpoint))


def measured(prepared: Prepared, made: Made) -> ImmunizeRecord:
    """What was made, measured."""
    settings, subject = prepared.settings, prepared.subject
    return immunize_record(
        manifest_of(settings, subject.checksums()),
        subject,
        made.defence,
        seed=settings.seed,
        resamples=settings.resamples,
        history=made.history,
        training=made.training,
        alone=made.alone,
    )


def _with_network_defaults(settings: Immunize) -> Immunize:
    """`pencil` of a network looks at labels, with a light ridge: the head absorbs the map, so the primary pays nothing.

    Blocks that learn it are given a heavier one.
    """
    if settings.kind not in (MAP, BLOCKS, EXTRACTOR) or settings.method != "pencil" or settings.objective == "kappa":
        return settings
    ridge = LIGHT_RIDGE if settings.kind == MAP else LEARNED_RIDGE
    return replace(settings, objective="signal", ridge=ridge if settings.ridge is None else settings.ridge)


def _subject(settings: Immunize) -> Subject:
    """What is protected; raises `InputError` for what is missing or cannot be used."""
    if settings.model is not None:
        check_model(settings.model)
    subject = open_subject(settings.source, settings.cache)
    if settings.train_from is not None:
        from cimm_jax.runs.network_subject import NetworkSubject

        assert isinstance(subject, NetworkSubject)  # only networks have blocks
        with naming("train_from", "cut"):
            subject.cut_at(settings.train_from)
    return subject


def _check_trains(settings: Immunize, method: Method) -> None:
    """Raises `InputError` if the method trains no blocks, or has nothing that a strength balances."""
    if not method.trains_blocks:
        known = ", ".join(name for name, factory in KNOWN.items() if factory().trains_blocks)
        what = "blocks of a network" if settings.kind == BLOCKS else "extractor, and makes maps only"
        raise InputError(f"method: {settings.method!r} trains no {what}; choose one of {known}")
    if settings.strength is not None and all(penalty.weight is not None for penalty in method.penalties or ()):
        raise InputError("strength: is of balanced penalties, and every weight was given; leave it out")


def _training_settings(settings: Immunize, method: Method, subject: Subject) -> "TrainingSettings":
    from cimm_jax.runs.network_subject import NetworkSubject

    assert isinstance(subject, NetworkSubject)  # only networks have blocks
    names = ("epochs", "steps", "learning_rate", "strength", "label_smoothing", "distillation", "primary_accuracy")
    with naming("harmful_batch_size", "harmful_rows"), naming("batch_size", "batch_rows"):
        found = training_settings(
            method,
            subject,
            seed=settings.seed,
            batch_rows=settings.batch_size,
            harmful_rows=settings.harmful_batch_size,
            **{name: getattr(settings, name) for name in names},
        )
        found.check_divides()
    return found
