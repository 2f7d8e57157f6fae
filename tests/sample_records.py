"""Records of every kind, made by hand from the library's own types, and what changes one."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from cimm_jax.attacks.ladder.by_rung import RANDOM_WEIGHTS, findings
from cimm_jax.attacks.ladder.draws import ImageBudget
from cimm_jax.attacks.ladder.rungs import FINE_TUNING, HEADS, LAYERS, LINEAR, PROBES
from cimm_jax.attacks.ladder.tried import Reached, Tried
from cimm_jax.attacks.measures import Deviation, steps_to_reach
from cimm_jax.attacks.outcome import THRESHOLDS, HeldOut, Outcome, wilson
from cimm_jax.attacks.protocol import UNDEFENDED
from cimm_jax.closed_form.allocation import ParetoFront
from cimm_jax.closed_form.heads import PrimaryKept
from cimm_jax.closed_form.limits import Limit, Share
from cimm_jax.closed_form.ridge import RidgePath
from cimm_jax.commands import settings
from cimm_jax.commands.delivery import manifest_of
from cimm_jax.data import TaskNames, ordered_pairs
from cimm_jax.measures.bootstrap import RatioIntervals
from cimm_jax.measures.definition import Conditions, Judgement, Verdict
from cimm_jax.measures.diagnosis import Alignment, BudgetRow, Diagnosis, Protection
from cimm_jax.measures.excess import ExcessCurves, TaskCurves
from cimm_jax.measures.explained import BeforeAfter, Explained
from cimm_jax.measures.groups import GroupedRatio, Mean
from cimm_jax.measures.measured import Measures, PartMeasures
from cimm_jax.measures.ratios import ImmunizationRatio
from cimm_jax.measures.separable import Separable
from cimm_jax.methods import Measured
from cimm_jax.numerics.interval import Interval
from cimm_jax.numerics.spectra import Spectrum
from cimm_jax.runs.network_data import ImagePart, NetworkData
from cimm_jax.runs.records import (
    Attacked,
    AttackRecord,
    Budget,
    DiagnoseRecord,
    DigitPair,
    History,
    ImmunizeRecord,
    LadderNetwork,
    LadderRecord,
    OneOfSeveral,
    PrimaryPaid,
    Record,
    ReportRecord,
    SeveralTasks,
    ShownRun,
    SweepRecord,
    Training,
)
from cimm_jax.runs.source import DataSource, FeatureSource, NetworkSource

ATTACKERS = {"line_search": False, "adam": False, "sgd": False, "newton": True}
"""Whether each is adaptive."""
SPEED = {"undefended": 1.0, "pencil": 0.1, "pencil_no_slower": 0.001}
"""How fast gradient followers learn the harmful task."""
EXTRACTORS = tuple(SPEED)
STEPS = (1, 2, 5, 10, 20)
ATTACK = settings.Attack(
    rows=20, attackers=tuple(ATTACKERS), attack_steps=20, methods=EXTRACTORS[1:], rates=3, seeds=2, out=Path("runs/a")
)
LADDER_ATTACK = settings.Attack(methods=EXTRACTORS[1:2], seeds=2, ladder=True, images_a_class=(20,), out=Path("runs/l"))
IMMUNIZE = settings.Immunize(steps=4, resamples=20, no_rotate=True, json=True)
MAP = settings.Immunize(
    model="small", weights=Path("w.safetensors"), primary="images/p", harmful="images/h", method="pencil"
)
BLOCKS = replace(MAP, method="algorithm1", train_from="layer3.0", epochs=2, views=3)
DIAGNOSE = settings.Diagnose(budgets=("1", "keep"), primary="3", harmful="5")
OWN = settings.Immunize(primary="a.npz", harmful="folder/h", label="name", target="regression", heldout_share=0.3)
OWN_ATTACK = settings.Attack(primary="./p", harmful="h.csv", benign="b.csv", heldout_seed=3, methods=("pencil",))
SWEEP = settings.Sweep(methods=("ill_only",), seeds=1, steps=1, step_length=0.5)

NAMES = TaskNames("digit 0 against digit 1", "digit 2 against digit 3", "digit 4 against digit 5")
NETWORK = NetworkSource("small", Path("w.safetensors"), "images/p", "images/h", harmful_classes=("cat", "dog"), views=3)
FEATURES = FeatureSource(
    Path("/p.npz"),
    Path("/h.npz"),
    Path("/b.csv"),
    "name",
    "regression",
    heldout_share=0.3,
    heldout_seed=7,
    reserved=0.5,
)
PART_NAMES = ("train", "heldout")

LADDER = (
    (PROBES, "adam", "features"),
    (LINEAR, "ridge", "features"),
    (HEADS, "mlp", "features"),
    (LAYERS, "ridge", "layer2.0"),
    (LAYERS, "knn", "layer2.0 + layer3.0"),
    (FINE_TUNING, "adapters of rank 4", "all layers"),
    (FINE_TUNING, "all weights", "all layers"),
)
"""Rung, attacker and place."""
CLIMBED = {
    "undefended": (0.85, 0.87, 0.9, 0.91, 0.95),
    "pencil": (0.45, 0.7, 0.89, 0.9, 0.94),
    "algorithm1": (0.44, 0.46, 0.47, 0.5, 0.93),
    RANDOM_WEIGHTS: (0.42, 0.45, 0.46, 0.47, 0.75),
}
"""What the best attacker of each rung gets with all images."""


def changed(value: Any, *path: Any, to: Any) -> Any:
    """The same but for what is at a path of field names, keys and positions."""
    if not path:
        return to
    first, *rest = path
    if isinstance(value, dict):
        return {key: changed(item, *rest, to=to) if key == first else item for key, item in value.items()}
    if is_dataclass(value):
        return replace(value, **{first: changed(getattr(value, first), *rest, to=to)})  # pyright: ignore
    if hasattr(value, "_fields") and isinstance(first, str):
        return value._replace(**{first: changed(getattr(value, first), *rest, to=to)})
    if isinstance(value, tuple):
        return tuple(changed(item, *rest, to=to) if place == first else item for place, item in enumerate(value))
    raise TypeError(f"{type(value).__name__} has no {first!r}")


def renamed(value: Any, old: str, new: str) -> Any:
    """The same with every key and text `old` replaced."""
    if isinstance(value, dict):
        return {new if key == old else key: renamed(item, old, new) for key, item in value.items()}
    if isinstance(value, tuple):
        items = [renamed(item, old, new) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: renamed(getattr(value, field.name), old, new) for field in fields(value)})
    return new if isinstance(value, str) and value == old else value


def with_breaks(record: AttackRecord, extractor: str, names: Sequence[str], steps: float = 7.0) -> AttackRecord:
    """The same, an extractor broken by these attackers alone."""
    outcomes = {
        name: outcome._replace(
            breaks=name in names,
            breaks_heldout=name in names,
            keeps_accuracy=name in names,
            steps=(steps if name in names else np.inf,) * 3,
            accuracy_steps=steps if name in names else np.inf,
        )
        for name, outcome in record.tasks["harmful"][extractor].items()
    }
    return changed(record, "tasks", "harmful", extractor, to=outcomes)


def with_word(record: LadderRecord, defence: str, number: int, word: str) -> LadderRecord:
    """The same, one rung of a defence with this word, whatever the budget."""
    rung = record.rungs[defence][number]
    budgets = tuple(replace(budget, word=word) for budget in rung.budgets)
    return changed(record, "rungs", defence, number, to=replace(rung, budgets=budgets, word=word))


def without(record: AttackRecord, *extractors: str) -> AttackRecord:
    """The same, some extractors not attacked."""
    tasks = {task: {e: of for e, of in found.items() if e not in extractors} for task, found in record.tasks.items()}
    record = changed(record, "tasks", to=tasks)
    for field in ("extractors", "best_so_far"):
        record = changed(record, field, to={e: of for e, of in getattr(record, field).items() if e not in extractors})
    return record


@cache
def attack_record() -> AttackRecord:
    """Three extractors of a data set, four attackers, three tasks."""
    tasks = {
        task: {
            extractor: {name: _outcome(name, SPEED[extractor] if task == "harmful" else 1.0) for name in ATTACKERS}
            for extractor in EXTRACTORS
        }
        for task in ("harmful", "primary", "benign")
    }
    map_measures = _measures().without_curves()
    return AttackRecord(
        manifest=manifest_of(ATTACK, {"pair.train.primary.x": "5ad0", "benign.heldout.y": "77fe"}),
        source=DataSource("digits", rows=20),
        names=NAMES,
        rows={task: {"train": 20, "heldout": 10} for task in tasks},
        classes=True,
        heldout_by="loss",
        budget=Budget(
            steps=20,
            rates={name: (0.1, 1.0, 10.0) if name in ("adam", "sgd") else () for name in ATTACKERS},
            seeds=2,
            loss="squared",
            attackers=tuple(ATTACKERS),
            finished=tuple(ATTACKERS),
        ),
        records=STEPS,
        extractors={
            EXTRACTORS[0]: Attacked("none", None, None),
            **{name: Attacked("map", map_measures, None) for name in EXTRACTORS[1:]},
        },
        tasks=tasks,
        best_so_far={
            name: {kind: np.exp(-speed * np.arange(1, 8)) for kind in ("gradient", "all")}
            for name, speed in SPEED.items()
        },
        network=None,
    )


@cache
def network_attack_record() -> AttackRecord:
    """A map and trained blocks of a network."""
    of_data, (_, *names) = attack_record(), EXTRACTORS
    measures = replace(_measures().without_curves(), groups=_groups())
    blocks = replace(measures, parts={part: replace(of, share=None) for part, of in measures.parts.items()})
    kinds = {names[0]: Attacked("map", measures, _kept()), names[1]: Attacked("blocks", blocks, _kept())}
    return replace(
        of_data,
        source=NETWORK,
        names=TaskNames("p", "h"),
        heldout_by="errors",
        extractors={**of_data.extractors, **kinds},
        tasks={task: of_data.tasks[task] for task in ("harmful", "primary")},
        network=_network(),
    )


@cache
def immunize_record() -> ImmunizeRecord:
    """A map of a data set, with a course and intervals."""
    return ImmunizeRecord(
        manifest=manifest_of(IMMUNIZE, {"train.primary.x": "5ad0"}),
        source=DataSource("digits", Path("folder")),
        names=NAMES,
        method="algorithm1",
        rows={part: {"primary": 20, "harmful": 20} for part in PART_NAMES},
        measures=_measures(),
        history=History(np.ones(4), np.arange(4), np.linspace(5, 4, 4), np.linspace(6, 9, 4), 1, "PseudoInverse"),
        training=None,
        kept=None,
        network=None,
    )


@cache
def network_map_record() -> ImmunizeRecord:
    """A closed form behind a network."""
    return replace(
        immunize_record(),
        manifest=manifest_of(MAP, _network().checksums()),
        source=NETWORK,
        names=TaskNames("p", "h"),
        method="pencil",
        measures=replace(_measures(), groups=_groups()),
        history=None,
        kept=_kept(),
        network=_network(),
    )


@cache
def several_tasks_record() -> ImmunizeRecord:
    """A map behind a network that blocks two tasks."""
    explained = Explained(40, BeforeAfter(0.61, 0.02), BeforeAfter(0.72, 0.33))
    tasks = (
        OneOfSeveral("h", 12.5, explained, PrimaryPaid(BeforeAfter(0.81, 0.79), 0.93)),
        OneOfSeveral("g", 3.5, None, None),
    )
    network = _network()
    return replace(
        network_map_record(),
        source=replace(NETWORK, harmful_too=("images/g",)),
        network=replace(network, harmful_too={"harmful 2": network.harmful}),
        names=TaskNames("p", "h + g"),
        several=SeveralTasks("heldout", tasks, PrimaryPaid(BeforeAfter(0.81, 0.77), 0.91)),
    )


@cache
def trained_blocks_record() -> ImmunizeRecord:
    """Trained blocks of a network."""
    of_map = network_map_record()
    parts = {part: replace(of, share=None, intervals=None) for part, of in of_map.measures.parts.items()}
    return replace(
        of_map,
        manifest=manifest_of(BLOCKS, _network().checksums()),
        method="algorithm1",
        measures=replace(of_map.measures, parts=parts),
        history=immunize_record().history,
        training=Training("layer3.0", (0.5, 2.0), 2, 12, 0.01, 0.1, 0.05, 1.5),
    )


@cache
def diagnose_record() -> DiagnoseRecord:
    """A pair with targets and held-out rows."""
    protection = Protection(1e-3, 0.8, 0.9, 2.0, ParetoFront(np.array([0.1, 1.0, 10.0]), np.array([0.2, 0.8, 0.9])))
    candidates = np.geomspace(1e-6, 1e-1, 21)
    return DiagnoseRecord(
        manifest_of(DIAGNOSE, {"train.primary.x": "5ad0"}),
        DataSource("digits", primary="3", harmful="5"),
        TaskNames("digit 3", "digit 5", "digit 0 against digit 1"),
        Diagnosis(
            verdict="immunizable",
            reasons=("Because of this.", "And of that."),
            limit=Limit(
                *map(np.asarray, (np.inf, 100.0, np.log(100.0), 50.0, 60.0, 4, 4, True, 0.01, True)),
            ),
            rank_harmful=5,
            primary_only=0,
            harmful_only=1,
            ridge=1e-3,
            ridge_path=RidgePath(*map(jnp.asarray, (1e-3, candidates, 1 + np.log(candidates / 1e-3) ** 2, 0.2))),
            budgets=tuple(
                BudgetRow(budget, 1.0, 10.0, 0.5, _ratio(), _ratio(2.0), 0.9, 1.5) for budget in (1.0, "keep")
            ),
            alignment=Alignment(1.5, np.full((2, 2), 0.5), np.array([10.0, 80.0])),
            mu=np.array([10.0, 1.0, 0.1, 0.01]),
            harmful_energy=np.full(4, 0.25),
            primary_energy=np.array([0.0, 0.0, 0.5, 0.5]),
            undefended=(np.array([0.1]), np.array([0.2])),
            watched=(1000,),
            protection=protection,
            sample_only=protection._replace(ridge=1e-6),
        ),
        outputs={name: _reached(0.8 - 0.2 * number) for number, name in enumerate(("features", "logits"))},
        network=_network(),
        layers={name: Separable(100, 0.4, 0.5, 0.01, 0.1, 0.2) for name in ("layer3.0", "features")},
    )


@cache
def sweep_record() -> SweepRecord:
    """One method on all pairs."""
    shape = (90, 1)
    ones, yes = np.ones(shape), np.ones(shape, bool)
    largest_first = np.r_[2 * ones[:1], ones[1:]]
    ratio = _ratio(largest_first)
    judged = Judgement(ratio, 2 * ones, 3 * ones, Conditions(yes, yes, ~yes))
    measured = Measured(judged, judged, ratio, Share(0.5 * ones, ones, 2 * ones, ~yes))
    return SweepRecord(
        manifest_of(SWEEP, {"train.x": "5ad0"}),
        data="digits",
        kind="single",
        steps=1,
        seeds=1,
        pairs=tuple(DigitPair(*pair) for pair in ordered_pairs()),
        rows={"train": 12, "heldout": 11},
        methods={"ill_only": measured},
    )


@cache
def report_record() -> ReportRecord:
    """A page of one run."""
    of_run = ShownRun("runs/a", attack_record().manifest, "A headline.", ("One claim.",))
    return ReportRecord(
        manifest_of(settings.Report(runs=(Path("runs/a"),))), "A verdict.", {"page": "report.html"}, (of_run,)
    )


@cache
def ladder_record() -> LadderRecord:
    """A map and trained blocks of a network on all rungs, with two budgets of images."""
    budgets = (ImageBudget(20, 60), ImageBudget(None, 400))
    networks = {UNDEFENDED: "none", "pencil": "map", "algorithm1": "blocks", RANDOM_WEIGHTS: "random"}
    judged, primary = HeldOut(900, 0.35), 0.75
    tried = tuple(
        _tried(rung, attacker, place, network, budget.images, CLIMBED[network][rung] - 0.1 * (budget.images == 60))
        for budget in budgets
        for rung, attacker, place in LADDER
        for network in networks
    )
    outputs = {name: _reached(0.8 - 0.2 * number) for number, name in enumerate(("features", "logits", "classes"))}
    return LadderRecord(
        manifest=replace(
            manifest_of(replace(LADDER_ATTACK, runs=(Path("runs/p"), Path("runs/b"))), _network().checksums()),
            command="ladder",
        ),
        source=NETWORK,
        names=TaskNames("p", "h"),
        classes=3,
        judged=judged,
        budgets=budgets,
        seeds=2,
        own_images=False,
        networks={
            name: LadderNetwork(
                kind, None if kind == "random" else primary, outputs if kind in ("none", "blocks") else {}
            )
            for name, kind in networks.items()
        },
        absent={},
        rungs={name: findings(tried, name, judged=judged, primary=primary) for name in ("pencil", "algorithm1")},
        tried=tried,
        peak_bytes=3 << 30,
        network=_network(),
    )


@cache
def data_ladder_record() -> LadderRecord:
    """A map of a data set, which has no layers, no weights to tune and no floor but guessing."""
    of_network = ladder_record()
    tried = tuple(
        replace(one, primary=None)
        for one in of_network.tried
        if one.rung in (PROBES, LINEAR, HEADS) and one.network in (UNDEFENDED, "pencil")
    )
    return replace(
        of_network,
        manifest=replace(manifest_of(LADDER_ATTACK, {"train.primary.x": "5ad0"}), command="ladder"),
        source=FEATURES,
        names=NAMES,
        own_images=True,
        networks={UNDEFENDED: LadderNetwork("none", None, {}), "pencil": LadderNetwork("map", None, {})},
        absent=dict.fromkeys(("layers", "fine-tuning"), "there is no network"),
        rungs={"pencil": findings(tried, "pencil", judged=of_network.judged, primary=None)},
        tried=tried,
        network=None,
    )


def shown_records() -> list[Record]:
    """All that have something to show, one of each command first."""
    return [
        attack_record(),
        immunize_record(),
        diagnose_record(),
        sweep_record(),
        network_attack_record(),
        network_map_record(),
        trained_blocks_record(),
        several_tasks_record(),
        ladder_record(),
        data_ladder_record(),
    ]


def one_of_each_command() -> list[Record]:
    """An attack, an immunization, a diagnosis and a sweep."""
    return shown_records()[:4]


def _outcome(name: str, speed: float) -> Outcome:
    speed = 9.0 if ATTACKERS[name] else speed * {"line_search": 1.0, "adam": 2.0, "sgd": 0.5}[name]
    curve = np.exp(-speed * np.array(STEPS))
    heldout = 0.1 + 0.9 * curve
    steps = tuple(steps_to_reach(STEPS, curve, share) for share in THRESHOLDS)
    return Outcome(
        attacker=name,
        adaptive=ATTACKERS[name],
        trials=3 if name in ("adam", "sgd") else 1,
        rate=1.0 if name in ("adam", "sgd") else float("nan"),
        rate_at_edge=False,
        diverged=0.0,
        left=Interval(*[curve[-1]] * 3),
        heldout_left=Interval(*[heldout[-1]] * 3),
        accuracy=Interval(*[1 - heldout[-1] / 2] * 3),
        accuracy_wilson=wilson(1 - heldout[-1] / 2, 1000),
        norm_ratio=0.5,
        curve=curve,
        heldout_curve=heldout,
        steps=steps,
        heldout_steps=steps,
        undefended_steps=(1.0, 2.0, 5.0),
        undefended_heldout_steps=(1.0, 2.0, 5.0),
        deviation=Deviation(10.0, 11.0, 20.0, 21.0),
        gap=0.2,
        breaks=steps[0] < np.inf,
        breaks_heldout=steps[0] < np.inf,
        keeps_accuracy=steps[0] < np.inf,
        accuracy_steps=steps[0],
        undefended_accuracy_steps=5.0,
    )


def _tried(rung: int, attacker: str, place: str, network: str, images: int, best: float) -> Tried:
    """Three settings, the greatest of which was given up, with two seeds."""
    steps = STEPS if attacker in ("adam", "mlp", "all weights") else (1,)
    trains = rung == FINE_TUNING
    return Tried(
        rung=rung,
        attacker=attacker,
        place=place,
        network=network,
        images=images,
        settings=(0.01, 0.1, 1.0),
        accuracy=(best - 0.2, best, float("nan")),
        by_seed=(best - 0.02, best + 0.02),
        steps=steps,
        curve=(*(best * (1 - 0.5 ** (1 + number)) for number in range(len(steps) - 1)), best),
        primary=(0.6 if attacker == "all weights" else 0.74) if trains and network != RANDOM_WEIGHTS else None,
        diverged=0.5,
        seconds=1.5,
    )


def _reached(share: float) -> Reached:
    return Reached(wilson(share, 900), (share, share), "ridge", "features", 0.1, None)


def _measures() -> Measures:
    steps = np.arange(1001)
    curves = ExcessCurves(
        primary=TaskCurves(np.exp(-0.1 * steps), np.exp(-0.2 * steps)),
        harmful=TaskCurves(np.exp(-0.1 * steps), np.exp(-1e-4 * steps)),
    )
    part = PartMeasures(
        ratios={policy: _ratio() for policy in ("PseudoInverse", "ReleasedCode")},
        share=Share(*map(jnp.asarray, (0.5, 1.0, 2.0, False))),
        intervals=RatioIntervals(*(Interval(place + 1.5, place + 1.0, place + 2.0) for place in range(5))),
        excess=curves,
        verdict=Verdict(True, True, True, True, ("(a) yes: harder", "(b) yes: as easy", "(c) yes: kept")),
        explained=Explained(120, BeforeAfter(0.75, 0.125), BeforeAfter(0.875, 0.375)),
    )
    return Measures(dict.fromkeys(PART_NAMES, part), None)


def _ratio(ones: Any = 1.0) -> ImmunizationRatio:
    spectra = [
        Spectrum(*map(jnp.asarray, ((8.0 + place) * ones, 4.0 * ones, 0.5 * ones)), *_rank_and_floor(ones))
        for place in range(4)
    ]
    return ImmunizationRatio(*map(jnp.asarray, (9.0 * ones, 18.0 * ones, 2.0 * ones)), *spectra)


def _rank_and_floor(ones: Any) -> tuple[np.ndarray, np.ndarray]:
    return np.full(np.shape(ones), 7), np.zeros(np.shape(ones), bool)


def _groups() -> dict[str, GroupedRatio]:
    means = (Mean(9.0, 0.25), Mean(18.0, 0.5), Mean(2.0, 0.125))
    return {policy: GroupedRatio(*means, 20, 36, "") for policy in ("PseudoInverse", "ReleasedCode")}


def _kept() -> dict[str, PrimaryKept]:
    return {part: PrimaryKept(0.75, 0.5, 2e-5, True) for part in PART_NAMES}


@cache
def _network() -> NetworkData:
    parts = {
        part: ImagePart(36, 3, f"{part}0f", 2, views, ("a.png: no image",))
        for part, views in (("train", 3), ("heldout", 1))
    }
    return NetworkData("ab12", 12, parts, {part: replace(of, sha256=f"{part}1f") for part, of in parts.items()})
