"""What `benchmarks.convergence` prints and draws."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks._rates import INVERSE_SMOOTHNESS, LINE_SEARCH, OPTIMAL_CONSTANT
from cimm_jax.views.draw.scheme import LIGHT
from cimm_jax.views.numbers import format_number
from cimm_jax.views.render.picture import legend_below, png_bytes
from cimm_jax.views.render.terminal import print_table

NAN = float("nan")

SLOWER = 10
"""A slow-down worth the name, in times the undefended extractor's steps."""


class Row(NamedTuple):
    """One rule for step lengths on one extractor's features of one task. Every progress is 1 - rate of a step.

    Attributes:
      extractor: name.
      task: "harmful" or "primary".
      rule: name.
      kappa: condition number.
      rank: directions that count.
      floored: whether rounding decided that.
      slowest_energy: share of the label energy on the direction of least curvature.
      bound: guaranteed progress.
      labels: progress of the last step towards the labels.
      labels_steps: which step that was; fewer than were asked for if the probe was finished.
      halved_at_most: steps guaranteed to halve the excess loss.
      attained: progress of what must attain the bound: the asymptote of a constant step, the worst start of a line search.
      attained_on_features: the worst start on the features themselves; NaN if float64 cannot show it, or for constant steps.
      halved_after: steps that did halve it; infinity if none did.
      norm_ratio: Eq. 16 after all steps; NaN for constant steps.
      norm_ratio_at_most: its bound.
      wrong: checks that failed.
    """

    extractor: str
    task: str
    rule: str
    kappa: float
    rank: int
    floored: bool
    slowest_energy: float
    bound: float
    labels: float
    labels_steps: int
    halved_at_most: float
    attained: float = NAN
    attained_on_features: float = NAN
    halved_after: float = NAN
    norm_ratio: float = NAN
    norm_ratio_at_most: float = NAN
    wrong: tuple[str, ...] = ()


def print_rates(rule: str, rows: Sequence[Row], steps: int) -> None:
    """One rule's table."""
    searched = rule == LINE_SEARCH.name
    columns = ["extractor", "task", "kappa", "rank", "1 - rate: bound"]
    columns += ["worst start", "on the features"] if searched else ["asymptote", "label energy there"]
    columns += ["labels", "at step", "steps to halve: bound", "measured"]
    columns += ["norm ratio: bound", "measured"] if searched else []
    cells = [
        [
            row.extractor,
            row.task,
            row.kappa,
            f"{row.rank}{'*' * row.floored}",
            row.bound,
            row.attained,
            _on_features(row) if searched else row.slowest_energy,
            row.labels,
            row.labels_steps,
            row.halved_at_most,
            row.halved_after if np.isfinite(row.halved_after) else f"> {steps}",
            *([row.norm_ratio_at_most, row.norm_ratio] if searched else []),
            "NO" if row.wrong else "yes",
        ]
        for row in rows
        if row.rule == rule
    ]
    what = "excess loss" if searched else "error"
    title = f"{rule}: contraction of the {what} a step, {steps} steps; kappa by PseudoInverse()"
    print_table([*columns, "answer right"], cells, title=title)


def _on_features(row: Row) -> str:
    return "beyond float64" if np.isnan(row.attained_on_features) else format_number(row.attained_on_features)


def print_optimizers(found: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]], steps: int) -> None:
    """Steps to 50, 80 and 95 %, by task, extractor and optimizer."""
    optimizers = list(next(iter(next(iter(found.values())).values())))
    rows = [
        [extractor, task, *(" / ".join(_count(count, steps) for count in by[name]) for name in optimizers)]
        for task, extractors in found.items()
        for extractor, by in extractors.items()
    ]
    title = "Recorded steps to 50 / 80 / 95 % of what the best undefended attacker learns, best learning rate of 9"
    print_table(["extractor", "task", *optimizers], rows, title=title)


def _count(count: float, steps: int) -> str:
    return f"{count:.0f}" if np.isfinite(count) else f"> {steps}"


def sentences(rows: Sequence[Row], steps: int) -> list[str]:
    """Where the theory predicts what was measured, and where it does not matter."""
    constant = [row for row in rows if row.rule == INVERSE_SMOOTHNESS.name]
    return [
        _attained(rows),
        _reached(constant, steps),
        *_slow_down([row for row in constant if row.task == "harmful"]),
        _irrelevant(constant),
    ]


def _attained(rows: Sequence[Row]) -> str:
    off = {
        name: max(abs(row.attained / row.bound - 1) for row in rows if row.rule == name)
        for name in (INVERSE_SMOOTHNESS.name, OPTIMAL_CONSTANT.name, LINE_SEARCH.name)
    }
    kappas = [row.kappa for row in rows]
    unseen = [row for row in rows if row.rule == LINE_SEARCH.name and np.isnan(row.attained_on_features)]
    return (
        f"Where theory is right: for kappa from {min(kappas):.3g} to {max(kappas):.3g} the asymptote of the constant steps 1/L "
        f"and 2/(L + mu) and the worst start of the line search have the 1 - rate that the bound says, within "
        f"{' / '.join(f'{value:.0e}' for value in off.values())} of it. On the features themselves the worst start could not "
        f"be measured in float64 for {len(unseen)} of {len(rows) // len(off)} rows."
    )


def _reached(rows: Sequence[Row], steps: int) -> str:
    faster = np.asarray([row.labels / row.bound for row in rows])
    reached = faster < 1.01
    told = f"Steps of 1/L towards the labels: {reached.sum()} of {len(rows)} rows are at the bound after {steps} steps"
    if reached.all():
        return f"{told}."
    median = np.median(faster[~reached])
    return f"{told}; the 1 - rate of the others is still larger, in the median by a factor of {median:.3g}."


def _slow_down(rows: Sequence[Row]) -> list[str]:
    from scipy.stats import spearmanr

    before, after = rows[0], rows[1:]
    largest, slowest = (max(after, key=key) for key in (lambda row: row.kappa, lambda row: row.halved_after))
    titles = {largest.extractor: ["the largest kappa"]}
    titles.setdefault(slowest.extractor, []).append("the slowest probe")
    told = [
        f"Harmful task, steps of 1/L, {' and '.join(titles[row.extractor])} ({row.extractor}): kappa {before.kappa:.3g} -> "
        f"{row.kappa:.3g}; by the bound half the loss takes {row.halved_at_most / before.halved_at_most:.3g} times the steps "
        f"({before.halved_at_most:.3g} -> {row.halved_at_most:.3g}), with the labels "
        f"{row.halved_after / before.halved_after:.3g} times ({before.halved_after:.3g} -> {row.halved_after:.3g})."
        for row in after
        if row.extractor in titles
    ]
    predicted, measured = (
        {row.extractor for row in after if getattr(row, steps) >= SLOWER * getattr(before, steps)}
        for steps in ("halved_at_most", "halved_after")
    )
    rank = spearmanr([row.kappa for row in rows], [row.halved_after for row in rows])[0]
    told.append(
        f"A slow-down of the harmful task by a factor of {SLOWER} or more: predicted by kappa and measured for "
        f"{_names(predicted & measured)}; predicted, but not seen with these labels, for {_names(predicted - measured)}; "
        f"measured without being predicted for {_names(measured - predicted)}. Over the {len(rows)} extractors, kappa and the "
        f"steps measured have a rank correlation of {rank:.2f}."
    )
    return told


def _names(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _irrelevant(rows: Sequence[Row]) -> str:
    ratios = np.asarray([row.halved_at_most / row.halved_after for row in rows])
    extreme, nearest = (rows[int(place)] for place in (ratios.argmax(), ratios.argmin()))
    told = [
        f"{row.extractor} on the {row.task} task ({row.halved_at_most:.3g} by the bound, {row.halved_after:.3g} measured, "
        f"{row.slowest_energy:.1e} of the label energy on the slowest direction)"
        for row in (extreme, nearest)
    ]
    return (
        f"Where labels make it irrelevant: half the loss took fewer steps than the bound says by a median factor of "
        f"{np.median(ratios):.3g}; in {(ratios < 2).sum()} of {len(rows)} rows by less than 2. Furthest off is {told[0]}, "
        f"nearest {told[1]}."
    )


def picture(rows: Sequence[Row], data: str) -> bytes:
    """PNG bytes: measured 1 - rate against the bound; what attains it filled, the labels' last step hollow."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    rules = (INVERSE_SMOOTHNESS.name, OPTIMAL_CONSTANT.name, LINE_SEARCH.name)
    least = min(row.bound for row in rows) / 3
    for axes, rule in zip(figure.subplots(1, len(rules), sharey=True), rules, strict=True):
        axes.plot([least, 1.5], [least, 1.5], color="#777777", linewidth=1)
        for task, colour in LIGHT.tasks.items():
            mine = [row for row in rows if (row.rule, row.task) == (rule, task)]
            bound = [row.bound for row in mine]
            attained = "worst start" if rule == LINE_SEARCH.name else "asymptote"
            axes.plot(bound, [row.attained for row in mine], "o", color=colour, label=f"{task}, {attained}")
            axes.plot(bound, [row.labels for row in mine], "o", color=colour, fillstyle="none", label=f"{task}, labels")
        axes.set(xscale="log", yscale="log", xlabel="1 - rate, bound", title=rule)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.axes[0].set_ylabel("1 - rate, measured")
    legend_below(figure, columns=3)
    figure.suptitle(f"{data}: contraction a step, measured against the bound")
    return png_bytes(figure)
