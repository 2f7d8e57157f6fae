"""Attacks defences of a subject, the undefended extractor with the same sweep."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np

from cimm_jax import attacks, interruption
from cimm_jax.attacks import UNDEFENDED, Operator, Swept, Target, Trace
from cimm_jax.errors import InputError
from cimm_jax.measures.measured import measure
from cimm_jax.numerics.threads import blas_threads_for
from cimm_jax.progress import progress_bar
from cimm_jax.runs.defence import Defence, MapDefence, undefended
from cimm_jax.runs.kept_traces import KeptTraces
from cimm_jax.runs.records import Attacked, AttackRecord, Budget, ImmunizeRecord, Manifest
from cimm_jax.runs.run_folder import read_record_of
from cimm_jax.runs.source import Source, check_same_source
from cimm_jax.runs.subject import Subject
from cimm_jax.tasks import SplitTask

__all__ = ["attack", "check_attackers", "read_defences", "read_runs"]


def read_runs(
    folders: Sequence[Path], located: Callable[[Source], Source] = lambda source: source
) -> dict[str, ImmunizeRecord]:
    """The records of `cimm immunize` in the folders, by the folders' names; they must be of one subject.

    Args:
      folders: of the runs.
      located: gives a source of a record the places where its files are on this machine (`places.moved`).

    Raises:
      InputError: if a folder is no such run, is damaged or of another version, or two runs differ in their subject or not in
        their names.
    """
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        raise InputError(f"runs: {', '.join(names)}: two folders have the same name; rename one")
    records = {name: read_record_of(folder, ImmunizeRecord) for name, folder in zip(names, folders, strict=True)}
    records = {name: replace(record, source=located(record.source)) for name, record in records.items()}
    check_same_source({name: record.source for name, record in records.items()})
    return records


def read_defences(records: Mapping[str, ImmunizeRecord], folders: Sequence[Path], subject: Subject) -> list[Defence]:
    """What the runs published; a subject of trained blocks is cut where they begin.

    Raises:
      InputError: if a file is missing, damaged or does not fit the subject.
    """
    defences: list[Defence] = []
    for folder, (name, record) in zip(folders, records.items(), strict=True):
        if record.training is None:
            defences.append(MapDefence.read(name, folder))
            continue
        from cimm_jax.networks.backbone import FEATURES
        from cimm_jax.runs.network_subject import NetworkSubject
        from cimm_jax.runs.trained_defence import TrainedDefence

        assert isinstance(subject, NetworkSubject)  # only networks have blocks
        if subject.cut == FEATURES:
            subject.cut_at(record.training.trained_from)
        defences.append(TrainedDefence.read(name, folder, subject, record.training.trained_from))
    for defence in defences:
        defence.check(subject)
    return defences


def attack(
    manifest: Manifest,
    subject: Subject,
    defences: Sequence[Defence],
    operators: Sequence[Operator],
    *,
    seeds: int,
    seed: int,
    runs: Mapping[str, ImmunizeRecord] | None = None,
    harmful_only: bool = False,
    kept: Path | None = None,
) -> tuple[AttackRecord, str]:
    """Every operator against every defence and the undefended extractor, task by task, with progress bars.

    Ctrl-C and SIGTERM end it with what is finished.

    Args:
      manifest: how the record is made.
      subject: what is protected.
      defences: what protects it; names differ.
      operators: the attackers, of one loss and one number of steps.
      seeds: of each attacker that uses randomness.
      seed: seeds them.
      runs: records of defences that were read, which need not be measured again.
      harmful_only: leave out what the other tasks pay.
      kept: folder that keeps what is finished (`KeptTraces`), so that the same attack need not run it again.

    Returns:
      The record, and what was finished when somebody interrupted; empty if nobody did.

    Raises:
      InputError: if attackers or tasks cannot be used.
      KeyboardInterrupt: if nothing at all was finished.
    """
    loss = operators[0].loss
    tasks = {name: task for name, task in subject.attacked(loss).items() if name == "harmful" or not harmful_only}
    keys = jax.random.split(jax.random.key(seed), seeds)
    everything = [undefended(subject), *defences]
    sweeps = {
        name: partial(_sweep, subject, everything, name, task, operators, keys, kept, manifest)
        for name, task in tasks.items()
    }
    with blas_threads_for(subject.features):
        swept, interrupted = _swept_by_task(sweeps, len(operators))
        extractors = {UNDEFENDED: Attacked("none", None, None)}
        extractors |= {defence.name: _attacked(defence, subject, runs or {}, seed) for defence in defences}
    records, names = operators[0].records, list(extractors)
    record = AttackRecord(
        manifest=manifest,
        source=subject.source,
        names=subject.names,
        rows={task: {part: len(t.x) for part, t in tasks[task]._asdict().items()} for task in swept},
        classes=attacks.are_classes(tasks["harmful"].heldout.y),
        heldout_by="errors" if subject.by_errors else "loss",
        budget=Budget(
            steps=records[-1],
            rates={operator.name: operator.rates if operator.has_rate else () for operator in operators},
            seeds=seeds,
            loss=loss.__name__,
            attackers=tuple(operator.name for operator in operators),
            finished=tuple(swept["harmful"]),
        ),
        records=records,
        extractors=extractors,
        tasks={
            task: attacks.outcomes(found, names, records, attacks.HeldOut.of(tasks[task].heldout.y))
            for task, found in swept.items()
        },
        best_so_far=_best_so_far(swept["harmful"], names),
        network=subject.network_data,
    )
    return record, interrupted


def check_attackers(names: Sequence[str], runs: Mapping[str, ImmunizeRecord]) -> None:
    """Raises `InputError` if an attacker would undo a map that some run did not make."""
    if all(record.training is None for record in runs.values()):
        return
    for name in names:
        if attacks.UNDO in name:
            raise InputError(f"attackers: {name!r} needs runs that made a map; trained blocks have none")


def _sweep(
    subject: Subject,
    defences: Sequence[Defence],
    task: str,
    plain: SplitTask,
    operators: Sequence[Operator],
    keys: jax.Array,
    kept: Path | None,
    manifest: Manifest,
    *,
    progress: Callable[[int], None],
) -> tuple[dict[str, Swept], bool]:
    """What is finished of one task, and whether somebody interrupted; raises `KeyboardInterrupt` if nothing is finished."""
    loss = operators[0].loss
    targets = {defence.name: defence.target(subject, task, plain, loss) for defence in defences}
    if any(target.mapping is None for target in targets.values()):
        targets = {name: _without_map(target) for name, target in targets.items()}
    run = attacks.sweep_classes if subject.by_errors else attacks.sweep
    made_by = {"task": task, "by_errors": subject.by_errors, "versions": manifest.versions}
    store = None if kept is None else KeptTraces(kept, made_by, targets, keys)
    done = {} if store is None else store.read(operators)

    def finished(operator: Operator, trace: Trace) -> None:
        done[operator.name] = trace
        if store is not None:
            store.write(operator, trace)

    try:
        return run(operators, targets, keys=keys, done=dict(done), finished=finished, progress=progress), False
    except KeyboardInterrupt:
        if not done:
            raise
        interruption.taken()
        members = [operator for operator in operators if operator.name in done]
        return run(members, targets, keys=keys, done=done), True


def _without_map(target: Target) -> Target:
    return target._replace(mapping=None)


def _swept_by_task(
    sweeps: Mapping[str, Callable[..., tuple[dict[str, Swept], bool]]], attackers: int
) -> tuple[dict[str, dict[str, Swept]], str]:
    """By task and attacker, and what was finished when somebody interrupted, which ends it; raises that if nothing was."""
    swept: dict[str, dict[str, Swept]] = {}
    for task, sweep in sweeps.items():
        with progress_bar(f"attacking the {task} task", attackers) as progress:
            try:
                swept[task], interrupted = sweep(progress=progress)
            except KeyboardInterrupt:
                if not swept:
                    raise
                interruption.taken()
                interrupted = True
        if interrupted:
            last, found = list(swept.items())[-1]
            return swept, f"{len(found)} of {attackers} attackers were finished on the {last} task"
    return swept, ""


def _attacked(defence: Defence, subject: Subject, runs: Mapping[str, ImmunizeRecord], seed: int) -> Attacked:
    kind = "map" if defence.trained_from is None else "blocks"
    if (run := runs.get(defence.name)) is not None:
        return Attacked(kind, run.measures.without_curves(), run.kept)
    return Attacked(
        kind, measure(defence.extractions(subject), seed=seed + 1, with_curves=False), defence.kept(subject)
    )


def _best_so_far(swept: Mapping[str, Swept], extractors: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """Expected least excess loss left after 1, 2, ... trials (an attacker at a rate), by extractor and kind of attacker."""
    kinds = {"gradient": [s for s in swept.values() if not s.operator.adaptive], "all": list(swept.values())}
    return {
        extractor: {
            kind: attacks.best_so_far(np.concatenate([s.left[index, ..., -1].mean(-1) for s in members]))
            for kind, members in kinds.items()
            if members
        }
        for index, extractor in enumerate(extractors)
    }
