"""Do the scalar recurrences of linear extractors hold where blocks are trained? The paper's first open question.

For a linear extractor and K^{-1}, a step along R_ill raises kappa_H and one along R_well lowers kappa_P, by what a recurrence
for each singular value says. Here Algorithm 1 trains a linear extractor as in the paper; the same with the identity layer with
S^{-1}, as networks are trained; perceptrons of three widths and depths on digits; the last one, two or three blocks of ResNet20
(CIFAR-10 kept, MNIST harmful); and a small transformer's last block. Before training and after every second epoch, on fixed
rows in float64, one step along each term alone: how often it changes its own condition number the right way, by how much of
what the recurrences say (their eta is the one that fits the features best, `term_steps`), for steps a tenth, one and
ten times as long as training's; and the same along the slope that training has of it, from 64 rows in float32. Then each term
alone for some steps, against the recurrences carried on from the first spectrum.

The transformer's kappa_H falls in Algorithm 1. Two explanations were guesses: that the last layer normalisation is to blame,
whose hyperplane is the smallest direction of both tasks, so that R_well lifts it for both; and that methods raise kappa_H by
doing without K^{-1}. Trained for that: nothing but the primary task, each term alone, the normalisation kept as it is or left
out, the terms without K^{-1}, and rows and digits enough for R_ill to see the smallest direction (float64, 192 rows a step).

    python -m experiments.nonlinear_recurrences --data-dir DIR [--seeds 3] [--weights FILE] [--out runs/nonlinear_recurrences]

--weights are the transformer's; without, it is first trained for three epochs, into OUT/vit. An interrupted run goes on when
the same command is given again. Run time and result: docs/results.md.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from cimm_jax.files import output_folder, write_json, write_whole
from cimm_jax.numerics.interval import Interval
from cimm_jax.runs.codec import encode
from cimm_jax.views.numbers import format_number
from cimm_jax.views.render.picture import legend_below, png_bytes
from cimm_jax.views.render.terminal import print_table
from experiments.common import parser
from experiments.intervals import over_seeds, with_width
from experiments.recurrence_subjects import (
    EXACT,
    FIXED_ROWS,
    NETWORKS,
    STRENGTH,
    SUBJECTS,
    TRANSFORMER,
    Opened,
    Places,
    linear_moments,
    network_moments,
    opened,
)
from experiments.resumed import resumed
from experiments.term_steps import LOSS, OWN, SIZES, alone_records, log_kappa, smallest_direction, term_records
from experiments.transformer_variants import VARIANTS, trained_course

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RIGHT = {"well": -1, "ill": 1}
"""The sign that the change of each term's own log kappa should have."""

ALONE_STEPS, ALONE_SIZE = 10, 1.0
"""Of each term alone."""

CLOSE = 0.1
"""A prediction has drifted where it is off by more than this share of the change."""

HALF = 0.5
"""Share of the fall of log kappa_H that an explanation has to account for, to be supported."""


class Steps(NamedTuple):
    """Steps of one size along one term, over moments and seeds.

    Attributes:
      right: how many change the term's own condition number the right way.
      of: how many there are.
      ratio: change of log kappa over the predicted one, the median over moments, over seeds; NaN where nothing is predicted.
      other: change of the other task's log kappa over that of its own, the same.
      cosine: between the features' movement and the one that the recurrences assume, the same.
    """

    right: int
    of: int
    ratio: Interval
    other: Interval
    cosine: Interval


def main(arguments: Sequence[str] | None = None) -> Path:
    """Makes what is not finished, tabulates, draws and says what follows; returns results.json."""
    settings = _settings(arguments)
    jax.config.update("jax_enable_x64", True)
    folder = output_folder(settings.out)
    places = Places(settings.data_dir, settings.out, settings.cache, settings.weights, settings.image_rows)
    seeds = range(settings.seed, settings.seed + settings.seeds)
    made_by = {"epochs": settings.epochs, "image_rows": settings.image_rows, "fixed_rows": FIXED_ROWS}
    made_by |= {"weights": str(settings.weights), "strength": STRENGTH}
    at = cache(lambda name: opened(NETWORKS[name], places))
    records = resumed(
        folder / "steps.json",
        [{"subject": name, "seed": seed} for name in settings.subjects for seed in seeds],
        partial(_stepped, at, settings.epochs),
        made_by={**made_by, "alone": [ALONE_STEPS, ALONE_SIZE]},
        at_once=1,
    )
    courses = []
    if TRANSFORMER in settings.subjects:
        courses = resumed(
            folder / "transformer.json",
            [{"variant": name, "seed": seed} for seed in seeds for name in VARIANTS],
            partial(_course, at, settings.epochs),
            made_by=made_by,
            at_once=1,
        )
    table, variants = tabulated(records), by_variant(courses)
    told = {"recurrences": verdict(table, drifts(records)), **guesses(variants)}
    results = {
        "seeds": settings.seeds,
        "steps": encode(table),
        "drift": drifts(records),
        "transformer": encode(variants),
        "verdict": told,
    }
    written = write_json(folder / "results.json", results)
    write_whole(folder / "nonlinear_recurrences.png", _picture(records, courses))
    _print(table, records, variants)
    print("\n".join(("", *told.values(), f"Figures and picture: {folder}")))
    return written


def _settings(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__, "runs/nonlinear_recurrences")
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=SUBJECTS)
    made.add_argument(
        "--epochs", type=int, default=6, help="of each training, after each of which terms are stepped along"
    )
    made.add_argument("--image-rows", type=int, default=1280, help="images of each part")
    made.add_argument("--weights", type=Path, help="file of the transformer's weights, instead of training one")
    made.add_argument("--cache", type=Path, help="folder that keeps activations between runs")
    return made.parse_args(arguments)


def _stepped(at: Any, epochs: int, *, subject: str, seed: int) -> dict[str, Any]:
    """Of one training: condition numbers at each moment, steps along each term there, and each term alone from the first."""
    if subject == EXACT:
        moments = linear_moments(seed=seed, epochs=epochs)
    else:
        moments = network_moments(at(subject), seed=seed, epochs=epochs)
    course = []
    for extractor, params in moments:
        features = {task: extractor.features(params, task) for task in OWN.values()}
        kappas = {task: float(log_kappa(x)) for task, x in features.items()}
        one, other = (np.asarray(smallest_direction(x)) for x in features.values())
        course.append({**kappas, "shared": float(one @ other) ** 2, "steps": term_records(extractor, params)})
    first = moments[0]
    alone = {term: alone_records(*first, term, steps=ALONE_STEPS, size=ALONE_SIZE) for term in OWN}
    return {"course": course, "alone": alone}


def _course(at: Any, epochs: int, *, variant: str, seed: int) -> dict[str, Any]:
    of: Opened = at(TRANSFORMER)
    return {"course": trained_course(of, VARIANTS[variant], seed=seed, epochs=epochs)}


def tabulated(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Steps]]:
    """By subject and kind of step ("ill x1", "ill, trained"), what the steps did."""
    found: dict[str, dict[str, Steps]] = {}
    for subject in dict.fromkeys(record["subject"] for record in records):
        by_seed: list[dict[str, list[Mapping[str, Any]]]] = []
        for record in (record for record in records if record["subject"] == subject):
            kinds: dict[str, list[Mapping[str, Any]]] = {}
            for step in (step for moment in record["course"] for step in moment["steps"]):
                kinds.setdefault(_kind(step), []).append(step)
            by_seed.append(kinds)
        found[subject] = {kind: _steps([kinds[kind] for kinds in by_seed]) for kind in by_seed[0] if kind != LOSS}
    return found


def _kind(step: Mapping[str, Any]) -> str:
    return f"{step['term']} x{step['size']:g}" if "predicted" in step else step["term"]


def _steps(by_seed: Sequence[Sequence[Mapping[str, Any]]]) -> Steps:
    """Of steps of one kind, a sequence a seed."""
    term = by_seed[0][0]["term"].split(",")[0]
    own = OWN[term]
    other = next(task for task in OWN.values() if task != own)
    flat = [step for steps in by_seed for step in steps]

    def median(numerator: str, denominator: str | None) -> Interval:
        return over_seeds(
            [
                np.median([step[numerator] / (step[denominator] if denominator else 1) for step in steps])
                for steps in by_seed
            ]
        )

    nothing = Interval(np.nan, np.nan, np.nan)
    is_predicted = "predicted" in flat[0]
    return Steps(
        sum(step[own] * RIGHT[term] > 0 for step in flat),
        len(flat),
        median(own, "predicted") if is_predicted else nothing,
        median(other, own),
        median("cosine", None) if is_predicted else nothing,
    )


def drifts(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """By subject and term alone, means over seeds: the first step at which the prediction has drifted, the changes at the end.

    A prediction that never drifts is said to have one step more than there are.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for subject in dict.fromkeys(record["subject"] for record in records):
        mine = [record["alone"] for record in records if record["subject"] == subject]
        found[subject] = {
            term: {
                "drifted": float(np.mean([_drifted(alone[term]) for alone in mine])),
                **{key: float(np.mean([alone[term][key][-1] for alone in mine])) for key in ("observed", "predicted")},
            }
            for term in OWN
        }
    return found


def _drifted(alone: Mapping[str, Sequence[float]]) -> int:
    observed, told = (np.asarray(alone[key]) for key in ("observed", "predicted"))
    off = np.flatnonzero(~(np.abs(told - observed) <= CLOSE * np.abs(observed)))
    return int(off[0]) + 1 if len(off) else len(observed) + 1


class Variant(NamedTuple):
    """What a way of training makes of the transformer, over seeds.

    Attributes:
      harmful: change of log kappa_H.
      primary: change of log kappa_P.
      shared: squared cosine of both tasks' smallest directions in the end.
      normal: squared cosine of the harmful one with the hyperplane's normal, in the end.
      lifted: change of the log of the harmful features' mean square along that normal.
    """

    harmful: Interval
    primary: Interval
    shared: Interval
    normal: Interval
    lifted: Interval


def by_variant(records: Sequence[Mapping[str, Any]]) -> dict[str, Variant]:
    """By way of training, from the first moment to the last; the ends themselves for what is a cosine."""
    found = {}
    for name in dict.fromkeys(record["variant"] for record in records):
        mine = [record["course"] for record in records if record["variant"] == name]
        changed = {
            key: over_seeds([course[-1][key] - course[0][key] for course in mine])
            for key in ("harmful", "primary", "lifted")
        }
        ends = {key: over_seeds([course[-1][key] for course in mine]) for key in ("shared", "normal")}
        found[name] = Variant(**changed, **ends)
    return found


def verdict(table: Mapping[str, Mapping[str, Steps]], drift: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """One sentence on the recurrences that a reader could refute."""
    networks = [name for name in table if name != EXACT]
    exact = ""
    if EXACT in table:
        off = max(
            abs(end - 1)
            for kind, steps in table[EXACT].items()
            if "x" in kind
            for end in (steps.ratio.low, steps.ratio.high)
        )
        exact = f"For the linear extractor with K^-1 the recurrences are exact (off by {off:.0e} of a change at most); "
    counted = " and ".join(
        f"{_name(term)}'s step {what} in {_sum(table, networks, f'{term} x1')} (training's own slope of it in "
        f"{_sum(table, networks, f'{term}, trained')})"
        for term, what in (("ill", "raises kappa_H"), ("well", "lowers kappa_P"))
    )
    ratios, drifted = (
        " and ".join(f"{of(term)} along {_name(term)}" for term in ("ill", "well"))
        for of in (
            lambda term: _range((table[name][f"{term} x1"].ratio.estimate for name in networks), 2),
            lambda term: _range((drift[name][term]["drifted"] for name in networks), 0),
        )
    )
    return (
        f"Verdict: {exact}with the layer S^-1, {counted}; the change of log kappa is {ratios} of the predicted one (median of "
        f"each subject), and what is predicted from the first spectrum on is off by a tenth at step {drifted} of "
        f"{ALONE_STEPS} ({ALONE_STEPS + 1}: never)."
    )


def _name(term: str) -> str:
    return f"R_{term}"


def _sum(table: Mapping[str, Mapping[str, Steps]], names: Iterable[str], kind: str) -> str:
    steps = [table[name][kind] for name in names]
    return f"{sum(one.right for one in steps)} of {sum(one.of for one in steps)} steps"


def _range(values: Iterable[float], digits: int) -> str:
    """Like "0.02 to 0.14", or one number where the ends are written alike."""
    found = list(values)
    ends = dict.fromkeys(f"{end:.{digits}f}" for end in (min(found), max(found)))
    return " to ".join(ends)


def guesses(variants: Mapping[str, Variant]) -> dict[str, str]:
    """A sentence for each of the two explanations of why the transformer's kappa_H falls; none without its figures."""
    if not variants:
        return {}
    fall = {name: -of.harmful.estimate for name, of in variants.items()}
    whole = fall["Algorithm 1"]
    begun = f"Algorithm 1 changes the transformer's kappa_H by a factor of {_factor(-whole)}"
    if whole <= 0:
        return {"normalisation": f"{begun}: it does not fall here, and neither explanation can be tested."}
    changes = {name: _factor(of.harmful.estimate) for name, of in variants.items()}
    well, without, kept = (fall[name] / whole for name in ("R_well", "normalisation left out", "normalisation kept"))
    blamed = _word(well >= HALF and max(without, kept) < HALF, (well, without, kept))
    normalisation = (
        f"That the last normalisation is to blame is {blamed}: {begun}, plain training by {changes['plain']}, R_well alone by "
        f"{changes['R_well']}, Algorithm 1 with the normalisation's scale and shift kept by {changes['normalisation kept']}, "
        f"with the normalisation left out by {changes['normalisation left out']}."
    )
    layered, bare = (
        [variants[f"{name}{without}"].harmful.estimate for name in ("R_ill", "Algorithm 1")]
        for without in ("", " without K^-1")
    )
    raised = _word(min(bare) > 0 and max(layered) <= 0, (*layered, *bare))
    preconditioned = (
        f"That what raises kappa_H is what goes without K^-1 is {raised}: with it R_ill alone changes kappa_H by a factor of "
        f"{_factor(layered[0])} and Algorithm 1 by {_factor(layered[1])}, without it by {_factor(bare[0])} and "
        f"{_factor(bare[1])}."
    )
    return {"normalisation": normalisation, "preconditioner": preconditioned}


def _word(is_supported: bool, figures: Iterable[float]) -> str:
    """Of an explanation; nothing is said where a training diverged that it rests on."""
    if not np.isfinite(list(figures)).all():
        return "undecided, since a training diverged"
    return "supported" if is_supported else "refuted"


def _factor(logarithm: float) -> str:
    return format_number(float(np.exp(logarithm)))


def _print(
    table: Mapping[str, Mapping[str, Steps]], records: Sequence[Mapping[str, Any]], variants: Mapping[str, Variant]
) -> None:
    drift = drifts(records)
    for term, task in OWN.items():
        does = "lowers" if RIGHT[term] < 0 else "raises"
        columns = ["subject", f"{does} it", "training's slope", *(f"over predicted, x{size:g}" for size in SIZES)]
        columns += [
            "cosine",
            "other task's",
            f"drifts at step ({ALONE_STEPS + 1}: never)",
            "alone: observed",
            "predicted",
        ]
        rows = []
        for subject, kinds in table.items():
            own, trained = kinds[f"{term} x1"], kinds.get(f"{term}, trained")
            alone = drift[subject][term]
            rows.append(
                [
                    subject,
                    f"{own.right} of {own.of}",
                    "" if trained is None else f"{trained.right} of {trained.of}",
                    *(with_width(kinds[f"{term} x{size:g}"].ratio, 3) for size in SIZES),
                    with_width(own.cosine),
                    with_width(own.other),
                    f"{alone['drifted']:.1f}",
                    *(f"{alone[key]:.3f}" for key in ("observed", "predicted")),
                ]
            )
        title = f"R_{term} and log kappa of the {task} task: steps along it alone, 95 % intervals over seeds"
        print_table(columns, rows, title=title)
    if variants:
        columns = ["trained", "(i)", "log (i)", "(ii)", "log (ii)", "smallest directions shared", "along the normal"]
        columns += ["log of what is along it"]
        rows = [
            [
                name,
                _factor(of.harmful.estimate),
                with_width(of.harmful),
                _factor(of.primary.estimate),
                with_width(of.primary),
                *(with_width(value) for value in (of.shared, of.normal, of.lifted)),
            ]
            for name, of in variants.items()
        ]
        print_table(columns, rows, title="The transformer's last block, from before training to the end")


def _picture(records: Sequence[Mapping[str, Any]], courses: Sequence[Mapping[str, Any]]) -> bytes:
    from matplotlib.figure import Figure

    table = tabulated(records)
    drawing = Figure(figsize=(16.0, 5.6), layout="constrained")
    ratios, alone, course = drawing.subplots(1, 3)
    _draw_ratios(ratios, table)
    for number, subject in enumerate(table):
        mine = [record["alone"]["ill"] for record in records if record["subject"] == subject]
        for key, style in (("observed", "-"), ("predicted", ":")):
            changes = np.mean([[0.0, *one[key]] for one in mine], axis=0)
            alone.plot(changes, style, color=f"C{number}", label=subject if style == "-" else None)
    alone.set(xlabel="steps along R_ill alone", ylabel="change of log kappa_H (dotted: predicted)", yscale="symlog")
    for number, name in enumerate(dict.fromkeys(record["variant"] for record in courses)):
        mine = [[at["harmful"] for at in record["course"]] for record in courses if record["variant"] == name]
        changes = np.mean([np.asarray(one) - one[0] for one in mine], axis=0)
        course.plot(changes, "-" if number < 10 else "--", color=f"C{number % 10}", marker=".", label=name)
    course.set(xlabel="epochs of training the transformer's last block", ylabel="change of log kappa_H")
    for axes in (ratios, alone, course):
        axes.axhline(0, color="0.6", linewidth=0.8)
        axes.grid(alpha=0.25)
    legend_below(drawing, columns=7)
    return png_bytes(drawing)


def _draw_ratios(axes: "Axes", table: Mapping[str, Mapping[str, Steps]]) -> None:
    """Change over prediction of each subject, a mark a term and size of step."""
    for term, marker in (("ill", "^"), ("well", "v")):
        for number, size in enumerate(SIZES):
            values = [kinds[f"{term} x{size:g}"].ratio for kinds in table.values()]
            axes.errorbar(
                np.arange(len(values)) + 0.12 * (number - 1),
                [value.estimate for value in values],
                yerr=[value.high - value.estimate for value in values],
                fmt=marker,
                markersize=5,
                color="C3" if term == "ill" else "C0",
                alpha=(0.35, 0.7, 1.0)[number],
                label=f"R_{term}, steps x{size:g}",
            )
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xticks(range(len(table)), list(table), rotation=60, ha="right", fontsize=8)
    axes.set_yscale("symlog", linthresh=0.1)
    axes.set(ylabel="change of log kappa over the predicted one")


if __name__ == "__main__":
    main()
