"""`cimm attack`: what every attacker of a sweep gets from immunized extractors, and what the protection costs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import methodcaller
from pathlib import Path

from cimm_jax import attacks
from cimm_jax.commands.delivery import deliver, manifest_of
from cimm_jax.commands.settings import LADDER, SWEEP, Attack, network_weights, refuse_foreign
from cimm_jax.errors import check_count, naming
from cimm_jax.locks import only_one_in
from cimm_jax.methods import Method
from cimm_jax.methods.run import check_method
from cimm_jax.numerics import losses
from cimm_jax.progress import progress_bar
from cimm_jax.runs.attacking import attack, check_attackers, read_defences, read_runs
from cimm_jax.runs.defence import Defence
from cimm_jax.runs.immunizing import make_map
from cimm_jax.runs.kept_traces import KeptTraces
from cimm_jax.runs.places import check_made_from, moved
from cimm_jax.runs.records import ImmunizeRecord
from cimm_jax.runs.run_folder import RESULTS_FILE
from cimm_jax.runs.source import DataSource, FeatureSource, NetworkSource, Source
from cimm_jax.runs.subject import Subject, open_subject

__all__ = ["run_attack"]


def run_attack(settings: Attack) -> None:
    """Reads or makes defences, attacks, writes and prints what broke which first.

    Raises:
      InputError: if a setting is unusable or one of another kind of run, before anything is computed.
      KeyboardInterrupt: after everything that had been finished was written and printed.
    """
    seeds = (3 if settings.ladder else 5) if settings.seeds is None else settings.seeds
    check_count(seeds, "seeds")
    runs = read_runs(settings.runs, partial(_located, settings))
    source = _source(settings, runs)
    networked = isinstance(source, NetworkSource)
    refuse_foreign(settings, settings.kind_of(source), LADDER if settings.ladder else SWEEP)
    methods = {} if runs else settings.build()
    for name, method in methods.items():
        check_method(method, "methods", name)
    steps = 300 if settings.immunization_steps is None else settings.immunization_steps
    check_count(steps, "immunization_steps")
    climb, operators = None, ()
    if settings.ladder:
        from cimm_jax.commands.attack_ladder import climb_into, ladder_settings  # they need flax
        from cimm_jax.runs.ladder_scene import check_can_be_climbed

        check = check_can_be_climbed
        climb = partial(climb_into, asked=ladder_settings(settings, seeds), json=settings.json)
    else:
        # Of features of many classes, whoever brought them; those of data sets are of one or two.
        affordable = networked or (isinstance(source, FeatureSource) and source.target == "classes")
        operators = _operators(settings, runs, affordable=affordable)
        check = methodcaller("check_loss", operators[0].loss)
    subject = open_subject(source, settings.cache)
    check(subject)
    subject.check_batch_size(settings.batch_size)
    for method in methods.values():
        subject.check_method(method)
    if not isinstance(source, DataSource) or (source.data_dir is not None and settings.data_dir is None):
        check_made_from(subject, runs)
    defences = read_defences(runs, settings.runs, subject) if runs else []
    with only_one_in(settings.out) as folder:
        manifest = manifest_of(settings, subject.checksums())
        defences = defences or _made(methods, subject, settings, steps)
        if climb is not None:
            climb(folder, manifest=manifest, subject=subject, defences=defences)
            return
        record, interrupted = attack(
            manifest,
            subject,
            defences,
            operators,
            seeds=seeds,
            seed=settings.seed,
            runs=runs,
            harmful_only=settings.harmful_only,
            kept=folder,
        )
        deliver(folder, record, json=settings.json)
        if interrupted:
            raise KeyboardInterrupt(f"{interrupted}, see {folder / RESULTS_FILE}; the same command runs the others")
        KeptTraces.remove(folder)


def _operators(
    settings: Attack, runs: Mapping[str, ImmunizeRecord], *, affordable: bool
) -> tuple[attacks.Operator, ...]:
    """The attackers of a sweep."""
    check_attackers(settings.attackers or (), runs)
    loss = getattr(losses, settings.loss or "squared")
    maps = all(record.training is None for record in runs.values())
    rates = "rates" if settings.attack_rates is None else "attack_rates"
    with naming("attack_steps", "steps"), naming("schedules", "schedule"), naming(rates, "rates"):
        return attacks.standard_operators(
            settings.attackers or attacks.standard_names(loss, affordable=affordable, maps=maps),
            steps=1000 if settings.attack_steps is None else settings.attack_steps,
            rates=settings.attack_rates or (9 if settings.rates is None else settings.rates),
            schedules=settings.schedules or ("constant",),
            loss=loss,
        )


def _source(settings: Attack, runs: Mapping[str, ImmunizeRecord]) -> Source:
    """Of the runs, or what is asked for."""
    if not runs:
        return settings.source
    source = next(iter(runs.values())).source
    if isinstance(source, NetworkSource):
        return source
    if isinstance(source, FeatureSource):
        return replace(source, benign=None if settings.benign is None else Path(settings.benign).absolute())
    return replace(source, benign=settings.benign)


def _located(settings: Attack, source: Source) -> Source:
    """A record's source with files where they were said to be."""
    if isinstance(source, DataSource):
        return moved(source, {"data_dir": settings.data_dir})
    given = {name: getattr(settings, name) for name in ("primary", "harmful")}
    if isinstance(source, NetworkSource):
        weights = network_weights(settings.weights, settings.model)
        return moved(source, {"model": settings.model, "weights": weights, **given})
    return moved(source, {name: None if text is None else Path(text).absolute() for name, text in given.items()})


def _made(methods: Mapping[str, Method], subject: Subject, settings: Attack, steps: int) -> Sequence[Defence]:
    """Defences that the methods make now, with a progress bar."""
    defences = []
    with progress_bar("immunizing", len(methods)) as progress:
        for number, (name, method) in enumerate(methods.items()):
            defence, _ = make_map(
                subject,
                method,
                name=name,
                seed=settings.seed,
                steps=steps,
                batch_size=settings.batch_size,
                with_history=False,
                with_progress=False,
            )
            defences.append(defence)
            progress(number + 1)
    return defences
