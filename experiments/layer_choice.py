"""Which layers to train: a map alone, the last blocks of a network, half of it, or all.

ResNet20 on CIFAR-10 is the published network, MNIST the blocked task, `best_response` the defence: at the output of everything
that it trains, it lowers what the best head in closed form explains of the harmful labels. Here it trains

* map: a linear map behind the features;
* last 1, last 2, last 3: the last one, two or three of the nine blocks;
* half: the last five;
* all: every block, and the stem before them.

All make the same number of steps of the same batches, fewer and smaller ones than docs/results.md has elsewhere, so that
everything fits into half an hour; the map makes 100, which cost little. Of each: the best held-out accuracy by rung of the
ladder, with 20 images a class; accuracy on the primary task, and what is lost of it; processor seconds of the training, the
median over seeds, the first of which compiles; and how many weights were trained. Each seed trains anew, draws attackers'
images and the judge's anew, and has random weights of its own. Intervals are over seeds. Those who fine-tune, who cost as much
as everything else, attack the first --tuned-seeds seeds.

A rung is held where surely, by the interval of the differences over seeds, attackers get less than from random weights.

    python -m experiments.layer_choice --data-dir DIR [--trained map "last 3" all] [--seeds 3] [--out runs/layer_choice]

An interrupted run goes on with the next training when the same command is given again. Run time and result: docs/results.md.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cimm_jax import methods
from cimm_jax.attacks import UNDEFENDED
from cimm_jax.attacks.fine_tuners import standard_fine_tuners
from cimm_jax.attacks.ladder.by_rung import RANDOM_WEIGHTS
from cimm_jax.attacks.ladder.rungs import FINE_TUNING, HEADS, LAYERS, LINEAR, PROBES, RUNGS
from cimm_jax.data.reserved import chosen_images
from cimm_jax.files import output_folder, write_json, write_whole
from cimm_jax.networks import functional
from cimm_jax.numerics.interval import Interval
from cimm_jax.runs.codec import encode
from cimm_jax.runs.defence import Defence
from cimm_jax.runs.immunizing import make_map
from cimm_jax.runs.ladder import LadderSettings, climb
from cimm_jax.runs.ladder_tuning import TuningSettings
from cimm_jax.runs.manifest import make_manifest
from cimm_jax.runs.network_subject import NetworkSubject
from cimm_jax.runs.records import LadderRecord
from cimm_jax.runs.trained_defence import TrainedDefence
from cimm_jax.views.render.picture import legend_below, png_bytes
from cimm_jax.views.render.terminal import print_table
from experiments.behind_maps import images_of_each_class
from experiments.common import parser
from experiments.hidden_blocks import BATCH, METHOD, trained_to_hide
from experiments.intervals import half_width, over_seeds, with_width
from experiments.resumed import resumed
from experiments.table3_deepnets import CONFIGURATIONS, source_of

MAP = "map"
TRAINED = {
    MAP: None,
    "last 1": "layer3.2",
    "last 2": "layer3.1",
    "last 3": "layer3.0",
    "half": "layer2.1",
    "all": "stem",
}
"""What is trained, and the cut that it begins at; fewest weights first."""

FEW = 20
"""Images a class that attackers have."""

RESERVED = 0.5
MAP_STEPS = 100
PLACES = ("layer1.2", "layer2.2", "layer3.1")
"""Whose outputs heads are put on, one by one and all together: one of each stage."""

TUNERS = ("all weights, solved head, AdamW",)
"""Of the standard ones who did best on this network (docs/results.md)."""


def main(arguments: Sequence[str] | None = None) -> Path:
    """Trains and attacks what is not finished, tabulates, draws and says what follows; returns the folder."""
    settings = _settings(arguments)
    jax.config.update("jax_enable_x64", True)
    folder = output_folder(settings.out)
    source = source_of(
        CONFIGURATIONS["resnet20_mnist"],
        settings.data_dir,
        settings.out,
        image_rows=settings.image_rows,
        reserved=RESERVED,
    )
    subject = NetworkSubject(source, settings.cache or folder / "cache")
    asked = ("steps", "judged", "image_rows", "tuned_seeds", "tuning_steps")
    made_by = {"data": encode(subject.network_data), "places": PLACES, "map_steps": MAP_STEPS, **BATCH}
    made_by |= {name: getattr(settings, name) for name in asked}
    wanted = [
        {"trained": trained, "seed": settings.seed + number}
        for number in range(settings.seeds)
        for trained in settings.trained
    ]
    rows = resumed(
        folder / "rows.json", wanted, partial(_row, subject, settings, folder / "ladder"), made_by=made_by, at_once=1
    )
    table = tabulated(rows)
    write_json(folder / "results.json", {"rows": rows, "table": table})
    write_whole(folder / "layer_choice.png", _picture(table))
    _print(table)
    print(f"\n{verdict(table)}\nFigures and picture: {folder}")
    return folder


def _settings(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__, "runs/layer_choice")
    made.add_argument("--trained", nargs="+", choices=tuple(TRAINED), default=tuple(TRAINED), help="what is trained")
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--steps", type=int, default=30, help="of each training but the map's")
    made.add_argument("--image-rows", type=int, default=1000, help="images of each part")
    made.add_argument("--judged", type=int, default=400, help="held-out images that judge attackers")
    made.add_argument("--tuned-seeds", type=int, default=0, help="how many seeds those who fine-tune attack")
    made.add_argument("--tuning-steps", type=int, default=30, help="of those who fine-tune")
    made.add_argument("--cache", type=Path, help="folder that keeps activations between runs; in OUT if left out")
    settings = made.parse_args(arguments)
    if len(set(settings.trained)) < len(settings.trained):
        made.error(f"argument --trained: {' '.join(settings.trained)} names one twice; name each once")
    if settings.seeds < 1:
        made.error(f"argument --seeds: needs at least 1, got {settings.seeds}")
    return settings


def _row(subject: NetworkSubject, settings: argparse.Namespace, kept: Path, trained: str, seed: int) -> dict[str, Any]:
    """One training, attacked: what it cost, and the best accuracy by network and rung."""
    defence, seconds, weights = _trained(subject, settings, TRAINED[trained], seed)
    climbed = (PROBES, LINEAR, HEADS, LAYERS)
    if seed < settings.seed + settings.tuned_seeds:
        climbed = (*climbed, FINE_TUNING)
    standard = standard_fine_tuners(subject.network, classes=len(subject.attackers_images.classes))
    attackers = tuple(one for one in standard.attackers if one.name in TUNERS)
    tuning = TuningSettings(attackers, settings.tuning_steps)
    asked = LadderSettings((), seeds=1, judged=settings.judged, layers=PLACES, rungs=climbed, tuning=tuning, seed=seed)
    manifest = make_manifest("ladder", {}, command_line="", data_sha256=subject.checksums())
    record = climb(manifest, _with_few_images(subject, seed), [defence], asked, kept=kept)
    return {
        "seconds": seconds,
        "weights": weights,
        "primary": {name: of.primary for name, of in record.networks.items()},
        "accuracy": {name: best_by_rung(record, name) for name in record.networks},
    }


def _with_few_images(subject: NetworkSubject, seed: int) -> NetworkSubject:
    """The same subject, whose attackers have so few images, drawn with the seed: nothing is spent on those who have more."""
    few = copy(subject)
    drawn = images_of_each_class(subject.attackers_images.labels, FEW, np.random.default_rng(seed))
    few.attackers_images = chosen_images(subject.attackers_images, drawn)
    return few


def _trained(
    subject: NetworkSubject, settings: argparse.Namespace, cut: str | None, seed: int
) -> tuple[Defence, float, int]:
    """The defence, processor seconds and how many weights were trained, those of the head too."""
    if cut is None:
        subject.pairs()  # whose features are no part of what it costs
        begun = time.process_time()
        defence, _ = make_map(
            subject, methods.by_name(METHOD)(), name=METHOD, seed=seed, steps=MAP_STEPS, with_history=False
        )
        return defence, time.process_time() - begun, subject.features**2
    at = NetworkSubject(subject.source, subject.cache)  # another one is cut elsewhere
    at.cut_at(cut)
    parts = functional.split(at.network, cut)
    weights = sum(leaf.size for leaf in jax.tree.leaves((parts.tail, parts.head)))
    tasks = [at.activations[task].train for task in ("primary", "harmful")]
    begun = time.process_time()
    network = trained_to_hide(at.network, cut, *tasks, seed=seed, steps=settings.steps)
    return TrainedDefence(METHOD, network, cut), time.process_time() - begun, weights


def best_by_rung(record: LadderRecord, network: str) -> dict[str, float]:
    """By rung that was climbed, what the best attacker of a network gets with the most images."""
    most = record.budgets[-1].images
    found: dict[str, float] = {}
    for rung in RUNGS:
        tried = [
            one.best for one in record.tried if (one.network, one.images, one.rung) == (network, most, rung.number)
        ]
        if tried:
            found[rung.name] = max(tried)
    return found


def tabulated(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The undefended network, everything that was trained and random weights, with their figures by seed.

    `accuracy` is by rung, and so is `above`: what is trained minus random weights, seed by seed.
    """
    found = []
    trainings = list(dict.fromkeys(row["trained"] for row in rows))
    for name, network, of in (
        (UNDEFENDED, UNDEFENDED, trainings[0]),
        *((trained, METHOD, trained) for trained in trainings),
        (RANDOM_WEIGHTS, RANDOM_WEIGHTS, trainings[0]),
    ):
        mine = [row for row in rows if row["trained"] == of]
        rungs = mine[0]["accuracy"][network]
        accuracy, floor = ({rung: _where_run(mine, of, rung) for rung in rungs} for of in (network, RANDOM_WEIGHTS))
        defended = network == METHOD
        found.append(
            {
                "network": name,
                "accuracy": accuracy,
                "above": {rung: list(np.subtract(accuracy[rung], floor[rung])) for rung in rungs},
                "primary": None if network == RANDOM_WEIGHTS else [row["primary"][network] for row in mine],
                "seconds": [row["seconds"] for row in mine] if defended else None,
                "weights": mine[0]["weights"] if defended else None,
            }
        )
    return found


def _where_run(rows: Sequence[Mapping[str, Any]], network: str, rung: str) -> list[float]:
    """By seed, of those whose attackers climbed that rung."""
    of_seed = [row["accuracy"][network] for row in rows]
    return [found[rung] for found in of_seed if rung in found]


def held(row: Mapping[str, Any], rung: str) -> bool:
    """Whether surely attackers of this rung get less than from random weights."""
    return over_seeds(row["above"][rung]).high < 0


def points_lost(undefended: Mapping[str, Any], row: Mapping[str, Any]) -> Interval:
    """Of primary accuracy, in hundredths, seed by seed."""
    return over_seeds(100 * np.subtract(undefended["primary"], row["primary"]))


def verdict(table: Sequence[Mapping[str, Any]]) -> str:
    """One sentence that a reader could refute."""
    undefended, *trained, random = table

    def said(row: Mapping[str, Any], rung: int) -> str:
        return f"{over_seeds(row['accuracy'][RUNGS[rung].name]).estimate:.2f}"

    def fewest(rung: int) -> str:
        name = RUNGS[rung].name
        first = next((row for row in trained if held(row, name)), None)
        if first is None:
            return f"nothing holds {name} heads below the {said(random, rung)} of random weights"
        return (
            f"{first['network']} is the least that holds {name} heads ({said(first, rung)}) below random weights "
            f"({said(random, rung)}; undefended {said(undefended, rung)})"
        )

    def points(row: Mapping[str, Any]) -> float:
        return points_lost(undefended, row).estimate

    first, last = trained[0], trained[-1]
    longer = np.median(last["seconds"]) / np.median(first["seconds"])
    tuned = [float(np.mean(row["accuracy"].get(RUNGS[FINE_TUNING].name, np.nan))) for row in trained]
    told = (
        f"With {FEW} images a class, {fewest(LINEAR)}, {fewest(HEADS)}, and on any layer {fewest(LAYERS)}; "
        f"from {first['network']} to {last['network']} training takes {longer:.0f} times as long and the primary accuracy lost "
        f"goes from {points(first):.1f} to {points(last):.1f} points"
    )
    if np.isnan(tuned).all():
        return f"{told}."
    return (
        f"{told}; whoever fine-tunes still gets {min(tuned):.2f} at least (undefended {said(undefended, FINE_TUNING)})."
    )


def _print(table: Sequence[Mapping[str, Any]]) -> None:
    rungs = list(dict.fromkeys(rung for row in table for rung in row["accuracy"]))
    rows = [[row["network"], *(with_width(over_seeds(row["accuracy"][rung])) for rung in rungs)] for row in table]
    print_table(["trained", *rungs], rows, title=f"best held-out accuracy by rung, {FEW} images a class")
    rows = [
        [
            row["network"],
            "" if row["primary"] is None else with_width(over_seeds(row["primary"]), 3),
            "" if row["primary"] is None else with_width(points_lost(table[0], row), 1),
            "" if row["seconds"] is None else f"{np.median(row['seconds']):.1f}",
            "" if row["weights"] is None else f"{row['weights']:,}",
        ]
        for row in table
    ]
    print_table(
        ["trained", "primary accuracy", "points lost", "processor seconds", "weights"],
        rows,
        title="what it costs; seconds are the median over seeds, the first of which compiles",
    )


def _picture(table: Sequence[Mapping[str, Any]]) -> bytes:
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(8.0, 4.6), layout="constrained")
    left, right = drawing.subplots(1, 2, width_ratios=(2, 1))
    undefended, *trained, random = table
    names = [row["network"] for row in trained]
    for rung in table[0]["accuracy"]:
        found = [over_seeds(row["accuracy"][rung]) for row in (undefended, *trained)]
        (line, *_) = left.errorbar(
            range(-1, len(names)),
            [one.estimate for one in found],
            yerr=[half_width(one) for one in found],
            marker="o",
            markersize=4,
            capsize=2,
            label=rung,
        )
        level = over_seeds(random["accuracy"][rung]).estimate
        left.axhline(level, color=line.get_color(), linestyle=":", linewidth=0.9)
    left.set_xticks(range(-1, len(names)), ["nothing", *names], rotation=30)
    left.set(
        ylabel=f"best held-out accuracy, {FEW} images a class; dotted: random weights", ylim=(0, 1), xlabel="trained"
    )
    left.grid(alpha=0.25)
    cost = [float(np.median(row["seconds"])) for row in trained]
    lost = [points_lost(undefended, row) for row in trained]
    right.errorbar(
        cost,
        [one.estimate for one in lost],
        yerr=[half_width(one) for one in lost],
        fmt="o",
        markersize=4,
        capsize=2,
        color="0.2",
    )
    for name, x, y in zip(names, cost, lost, strict=True):
        right.annotate(name, (x, y.estimate), textcoords="offset points", xytext=(4, 4), fontsize=8)
    right.axhline(0, color="0.6", linewidth=0.9)
    right.set(xlabel="processor seconds of training", ylabel="points of primary accuracy lost")
    right.grid(alpha=0.25)
    legend_below(drawing, columns=5)
    return png_bytes(drawing)


if __name__ == "__main__":
    main()
