"""The pictures of an attack ladder: rungs across and accuracy up, then steps, images, trials and layers."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cimm_jax.attacks.ladder.by_rung import RANDOM_WEIGHTS, Finding
from cimm_jax.attacks.ladder.rungs import LAYERS
from cimm_jax.attacks.ladder.tried import Reached, best_of
from cimm_jax.attacks.protocol import UNDEFENDED
from cimm_jax.numerics.interval import Interval
from cimm_jax.runs.records import LadderRecord
from cimm_jax.views.blocks import NARROW, TALL, Figure
from cimm_jax.views.draw.ladder import Course, draw_courses, draw_places, draw_rungs
from cimm_jax.views.draw.names import drawn_name
from cimm_jax.views.ladder_tables import best_by, places
from cimm_jax.views.ladder_words import budget_text, climbed, input_of, rung_name
from cimm_jax.views.numbers import percent, place_text
from cimm_jax.views.render.picture import legend_columns

__all__ = ["course_figures", "layers_figure", "layers_text", "rung_figures"]


def rung_figures(record: LadderRecord) -> list[Figure]:
    """The picture of the ladder, one for each budget of images."""
    return [_rung_figure(record, budget.images) for budget in record.budgets]


def course_figures(record: LadderRecord) -> list[Figure]:
    """Accuracy against images, against trials, and against steps on each rung where attackers make more than one."""
    by_images = {name: _by_images(record, name) for name in record.networks}
    figures = [
        _course_figure(
            record,
            by_images,
            label=f"{input_of(record)}s",
            caption=f"Best of all attackers against the {input_of(record)}s that they have.",
        )
    ]
    if trials := _by_trials(record):
        most = budget_text(record, record.budgets[-1].images)
        caption = f"Expected best against trials, an attacker at a setting, in random order; {most}."
        figures.append(_course_figure(record, trials, label="trials", caption=caption))
    return [*figures, *(figure for rung in climbed(record) for figure in _steps_figure(record, rung))]


def layers_figure(record: LadderRecord) -> list[Figure]:
    """What the best head on each cut gets, with most images; nothing where no other layer was taken."""
    cuts, images, guessing = places(record), record.budgets[-1].images, record.judged.guessing
    if not cuts:
        return []
    found = {
        name: [_accuracy(best_by(record, name, images, rung=LAYERS, place=cut)) for cut in cuts]
        for name in record.networks
    }
    names = list(map(place_text, cuts))
    return [
        Figure(
            lambda axes, scheme: draw_places(axes, scheme, names, found, RANDOM_WEIGHTS, guessing),
            alt=f"Best head on each of {len(cuts)} cuts: {layers_text(record)} Every value is in the table below.",
            caption=f"Best head on each cut, {budget_text(record, images)}: which layer leaks most.",
            size=(NARROW, 1.1 + 0.3 * len(cuts) + 0.17 * _legend_lines([*found, "guessing"])),
        )
    ]


def layers_text(record: LadderRecord) -> str:
    """Which cut of each network leaks most."""
    images = record.budgets[-1].images
    best = {
        name: max(found, key=lambda of: of.accuracy.estimate)
        for name in record.networks
        if (found := [of for cut in places(record) if (of := best_by(record, name, images, rung=LAYERS, place=cut))])
    }
    told = "; ".join(f"{name} {place_text(of.place)}, {percent(of.accuracy.estimate)}" for name, of in best.items())
    return f"The cut that leaks most: {told}."


def _rung_figure(record: LadderRecord, images: int) -> Figure:
    rungs = climbed(record)
    best = {name: [best_by(record, name, images, rung=rung) for rung in rungs] for name in record.networks}
    names = [rung_name(rung) for rung in rungs]
    intervals = {name: list(map(_accuracy, found)) for name, found in best.items() if name != RANDOM_WEIGHTS}
    floor = (RANDOM_WEIGHTS, list(map(_accuracy, best[RANDOM_WEIGHTS]))) if RANDOM_WEIGHTS in best else None
    told = "; ".join(
        f"{rung}: {', '.join(f'{network} {_percent(found[place])}' for network, found in best.items())}"
        for place, rung in enumerate(names)
    )
    guessing = record.judged.guessing
    return Figure(
        lambda axes, scheme: draw_rungs(axes, scheme, names, intervals, floor, guessing),
        alt=f"Best held-out accuracy with {budget_text(record, images)}. {told}; guessing {percent(guessing)}.",
        caption=f"What attackers get with {budget_text(record, images)}, from those who touch least to those who touch most.",
        size=(NARROW, TALL - 0.5 + 0.17 * _legend_lines([*best, "guessing"])),
    )


def _steps_figure(record: LadderRecord, rung: int) -> list[Figure]:
    """Of the best attacker of each network, with most images."""
    images = record.budgets[-1].images
    courses, who = {}, {}
    for name in record.networks:
        found = [
            one
            for one in record.tried
            if (one.network, one.images, one.rung) == (name, images, rung) and len(one.steps) > 1
        ]
        if found:
            best = best_of(found)
            courses[name] = Course(best.steps, np.maximum.accumulate(best.curve))
            who[name] = f"{best.attacker} at {place_text(best.place)}"
    if not courses:
        return []
    alike = len(set(who.values())) == 1
    told = next(iter(who.values())) if alike else "; ".join(f"{name} {attacker}" for name, attacker in who.items())
    caption = f"Best against steps, {rung_name(rung)}, {budget_text(record, images)}: {told}."
    return [_course_figure(record, courses, label="steps", caption=caption)]


def _by_images(record: LadderRecord, network: str) -> Course:
    found = {budget.images: best_by(record, network, budget.images) for budget in record.budgets}
    return Course(list(found), [float("nan") if of is None else of.accuracy.estimate for of in found.values()])


def _by_trials(record: LadderRecord) -> dict[str, Course]:
    """Of all attackers, with most images; of random weights there is none."""
    last: dict[str, Finding] = {defence: found[-1].budgets[-1] for defence, found in record.rungs.items()}
    if not last:
        return {}
    expected = {
        UNDEFENDED: next(iter(last.values())).undefended_trials,
        **{name: of.trials for name, of in last.items()},
    }
    return {name: Course(range(1, len(values) + 1), values) for name, values in expected.items()}


def _course_figure(record: LadderRecord, courses: Mapping[str, Course], *, label: str, caption: str) -> Figure:
    guessing = record.judged.guessing
    told = ", ".join(f"{name} {_first_and_last(course.accuracy)}" for name, course in courses.items())
    return Figure(
        lambda axes, scheme: draw_courses(axes, scheme, courses, RANDOM_WEIGHTS, guessing, label),
        alt=f"Held-out accuracy from the fewest {label} to the most: {told}; guessing {percent(guessing)}.",
        caption=caption,
        size=(NARROW, TALL - 0.5 + 0.17 * _legend_lines([*courses, "guessing"])),
    )


def _first_and_last(values: Sequence[float] | np.ndarray) -> str:
    return f"{percent(values[0])} to {percent(values[-1])}"


def _accuracy(of: Reached | None) -> Interval | None:
    return None if of is None else of.accuracy


def _percent(of: Reached | None) -> str:
    return percent(None if of is None else of.accuracy.estimate)


def _legend_lines(names: Iterable[str]) -> int:
    labels = list(map(drawn_name, names))
    return -(-len(labels) // legend_columns(labels))
