"""Tables that several kinds of run share."""

import math
from collections.abc import Callable, Mapping, Sequence

from cimm_jax.attacks.ladder.tried import Reached
from cimm_jax.closed_form.heads import PrimaryKept
from cimm_jax.closed_form.limits import Share
from cimm_jax.measures.definition import Verdict
from cimm_jax.measures.groups import GroupedRatio, Mean
from cimm_jax.measures.measured import Measures, PartMeasures
from cimm_jax.measures.ratios import ImmunizationRatio
from cimm_jax.numerics.interval import Interval
from cimm_jax.runs.network_data import ImagePart, NetworkData
from cimm_jax.views.blocks import Card, Cell, Facts, Section, Table, Text
from cimm_jax.views.numbers import format_number, interval_text, percent, place_text

__all__ = [
    "PARTS",
    "PART_COLUMNS",
    "POLICIES",
    "before_after",
    "between",
    "group_table",
    "kept_table",
    "network_facts",
    "outputs_section",
    "ratio_table",
    "reached_cell",
    "seeds_text",
    "verdict_card",
]

PARTS = {"train": "training", "heldout": "held-out"}
"""The two parts of a data set, as people call them."""

POLICIES = (
    "Each condition number stands under a named policy: PseudoInverse takes the smallest non-zero singular value (Eq. 1 of the "
    "paper), ReleasedCode is the rule of the paper's released code, here only to compare with published figures. Numbers under "
    "different policies are not comparable. Share of the limit: log RIR over the log of the largest RIR that any linear "
    "extractor can have, both as seen in the primary task's range. Floored: a floor or the arithmetic decided one of the four "
    "condition numbers. Intervals are those of resampled rows, whose least eigenvalues lie lower: an estimate may lie outside."
)

OUTPUTS = (
    "The best head on what the published head says of the blocked task, with all that attackers have, beside the same on the "
    "features. No defence that keeps an output can prevent what that output gives."
)

PART_COLUMNS: tuple[tuple[str, Callable[[PartMeasures], Cell]], ...] = (
    ("share of the limit", lambda of: Cell("") if of.share is None else _share(of.share)),
)
"""What else is measured of a part, by header: a new measure is one line here."""


def ratio_table(measured: Mapping[str, Measures], first: str) -> list[Table | Text]:
    """Ratios of extractors by part and policy, with everything they rest on.

    Args:
      measured: by extractor.
      first: header of their column.
    """
    intervals = any(part.intervals is not None for found in measured.values() for part in found.parts.values())
    columns = [first, "rows", "policy", "(i) harmful", "(ii) primary", "RIR"]
    columns += ["RIR, 95 % of resamples", "(i), 95 %", "(ii), 95 %"] if intervals else []
    columns += [header for header, _ in PART_COLUMNS]
    columns += ["kappa, harmful", "kappa, primary", "rank, harmful", "rank, primary", "floored"]
    groups = [
        (
            name,
            [
                _ratio_row(PARTS[part], policy, ratio, of, intervals)
                for part, of in found.parts.items()
                for policy, ratio in of.ratios.items()
            ],
        )
        for name, found in measured.items()
    ]
    return [Table("Condition numbers, after over before", columns, groups), Text(POLICIES, quiet=True)]


def group_table(groups: Mapping[str, GroupedRatio] | None) -> list[Table | Text]:
    """Ratios of groups of rows by policy (Eq. 17); nothing without groups."""
    if not groups:
        return []
    one = next(iter(groups.values()))
    rows = [
        (policy, [[Cell(_with_error(mean)) for mean in (found.harmful_ratio, found.primary_ratio, found.rir)]])
        for policy, found in groups.items()
    ]
    caption = f"{one.groups} groups of {one.rows} training rows (Eq. 17), mean (standard error)"
    warning = [Text(f"Warning: {one.warning}.")] if one.warning else []
    return [Table(caption, ["policy", "(i) harmful", "(ii) primary", "RIR"], rows), *warning]


def kept_table(kept: Mapping[str, Mapping[str, PrimaryKept]], first: str) -> Table:
    """What the primary task as published lost, by extractor and part."""
    columns = [
        first,
        "images",
        "accuracy before",
        "accuracy after",
        "outputs changed by at most",
        "counts as unchanged",
    ]
    groups = [
        (
            name,
            [
                [
                    PARTS[part],
                    Cell(f"{found.accuracy_before:.4f}"),
                    Cell(f"{found.accuracy_after:.4f}"),
                    Cell(f"{found.largest_change:.1e}"),
                    "yes" if found.unchanged else "NO",
                ]
                for part, found in parts.items()
            ],
        )
        for name, parts in kept.items()
    ]
    return Table("The primary task as it is published, float32 outputs", columns, groups)


def verdict_card(part: str, verdict: Verdict) -> Card:
    """Definition 3.1 on the rows of one part, with its reasons."""
    label = f"{'immunized' if verdict.immunized else 'NOT immunized'} by Definition 3.1"
    text = f"{'. '.join(verdict.reasons)}."
    return Card(f"{PARTS[part].capitalize()} rows:", "good" if verdict.immunized else "bad", label, text)


def network_facts(network: NetworkData | None) -> list[Facts]:
    """What features were made from; nothing without a network."""
    if network is None:
        return []
    facts: list[tuple[str, object]] = [("features", network.features)]
    inputs = network.inputs
    if network.of_rows:
        facts.append(("extractor", "residual blocks behind the features, the identity on standardised ones at first"))
    if network.head_is_fitted:
        facts.append(("head", f"none in the weights; fitted to the primary training {inputs}, by ridge regression"))
    for task, of in network.tasks.items():
        for part, images in of.items():
            views = f", {images.views} views of each" if images.views > 1 else ""
            text = (
                f"{images.images} {inputs} of {images.classes} classes{views}{_cut_text(images)}{_skipped_text(images)}"
            )
            facts.append((f"{task}, {PARTS[part]}", text))
    return [Facts(facts)]


def outputs_section(by_network: Mapping[str, Mapping[str, Reached]]) -> Section:
    """What the outputs of the published head give away, by network and what is looked at; empty where there is no head."""
    said = {name: outputs for name, outputs in by_network.items() if outputs}
    columns = list(dict.fromkeys(output for outputs in said.values() for output in outputs))
    groups = [(name, [[reached_cell(outputs.get(output)) for output in columns]]) for name, outputs in said.items()]
    caption = "What the published outputs alone give an attacker"
    table = Table(caption, ["network", *columns], groups)
    return Section("The output floor", [table, Text(OUTPUTS, quiet=True)] if said else [])


def reached_cell(of: Reached | None) -> Cell:
    """What the best of several attackers got: accuracy, its interval, who it was and where."""
    if of is None:
        return Cell("-")
    setting = "" if math.isnan(of.setting) else f" at {format_number(of.setting)}"
    lines = [between(of.accuracy), f"{of.attacker}{setting}, {place_text(of.place)}", *seeds_text(of.seeds)]
    lines += [] if of.primary is None else [f"primary {percent(of.primary)}"]
    return Cell(percent(of.accuracy.estimate), tuple(lines))


def seeds_text(accuracies: Sequence[float]) -> list[str]:
    """Least and greatest accuracy of any seed; nothing where all are alike."""
    low, high = percent(min(accuracies)), percent(max(accuracies))
    return [] if low == high else [f"seeds {low} to {high}"]


def between(interval: Interval) -> str:
    """Like "65 % to 75 %"."""
    return f"{percent(interval.low)} to {percent(interval.high)}"


def _cut_text(texts: ImagePart) -> str:
    return f", {texts.cut_texts} of them cut at the longest that the network is given" if texts.cut_texts else ""


def _skipped_text(images: ImagePart) -> str:
    if not images.skipped and not images.skipped_files:
        return ""
    more = images.skipped - len(images.skipped_files)
    named = "; ".join([*images.skipped_files, *([f"{more} more"] if more > 0 else [])])
    why = "could not be decoded" if images.cut_texts is None else "had no text"
    return f"; {images.skipped} {why} and were skipped ({named})"


def _ratio_row(rows: str, policy: str, ratio: ImmunizationRatio, of: PartMeasures, intervals: bool) -> list[object]:
    defined = policy == "PseudoInverse"
    row: list[object] = [rows, policy, ratio.harmful_ratio, ratio.primary_ratio, ratio.rir]
    if intervals:
        found = of.intervals if defined else None
        shown = (None,) * 3 if found is None else (found.rir, found.harmful_ratio, found.primary_ratio)
        row += [Cell("" if interval is None else interval_text(interval.low, interval.high)) for interval in shown]
    row += [shown(of) if defined else Cell("") for _, shown in PART_COLUMNS]
    for task in _TASKS:
        now, then = getattr(ratio, task), getattr(ratio, f"{task}_reference")
        interval = getattr(of.intervals, f"kappa_{task}") if of.intervals is not None and defined else None
        row.append(before_after(now.kappa, then.kappa, interval))
    row += [before_after(getattr(ratio, task).rank, getattr(ratio, f"{task}_reference").rank) for task in _TASKS]
    return [*row, "yes" if bool(ratio.floored) else "no"]


_TASKS = ("harmful", "primary")


def _share(of: Share) -> Cell:
    return Cell(percent(of.share), (f"log {format_number(of.log_rir)} of {format_number(of.limit)}",))


def before_after(after: object, before: object, interval: Interval | None = None) -> Cell:
    """A number with its interval and what it was before below it, if it was another."""
    now, then = format_number(after), format_number(before)
    lines = [] if interval is None else [interval_text(interval.low, interval.high)]
    return Cell(now, (*lines, *([] if now == then else [f"before {then}"])))


def _with_error(mean: Mean) -> str:
    return f"{mean.mean:.3g} ({mean.standard_error:.2g})"
