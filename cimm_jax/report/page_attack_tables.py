"""The tables of an attack on a page: attackers by extractors, held-out rows, RFD, condition numbers, the price."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from cimm_jax.report.attack_facts import UNDEFENDED, attackers, heldout_loss, prices
from cimm_jax.report.attack_words import times
from cimm_jax.report.page_blocks import Cell, Section, Table, Text
from cimm_jax.report.page_tables import percent, ratio_table, steps_text

LEFT = (
    "Excess loss left at the end: 1, nothing learned; 0, all there is to learn. Below it, steps to 50 / 80 / 95 % of what the "
    "best undefended attacker learns; where seeds differ, their 95 % interval. edge: the best learning rate is the least or "
    "greatest tried. diverged: share of his runs, over all rates and seeds, that did."
)
HELDOUT = (
    "On rows nobody fitted, {loss}: above 1 is worse than knowing nothing. Rate and stop are "
    "chosen to the attacker's advantage. Below it, steps to 50 / 80 / 95 % of what the best undefended attacker gains there"
)
DEVIATION = (
    "RFD: how far the attacker's {measure} falls behind his on the undefended extractor, in per cent of it, mean over the "
    "records → at the last one. Signed, positive means slowed; absolute is RFD as published, which rewards an extractor "
    "that is easier to attack. SGR is the gap at the end, as a share."
)


def attack_tables(results: Mapping[str, Any]) -> list[Section]:
    """Sections in the order of a page."""
    heldout = HELDOUT.format(loss=heldout_loss(results)) + ("; best accuracy." if results["classes"] else ".")
    heldout_cell = _heldout_accuracy if results["classes"] else _heldout
    deviation = DEVIATION.format(measure="accuracy" if results["classes"] else "share of held-out loss learned")
    sections = [
        ("What each attacker leaves", _by_attacker(results, _left, "Harmful task, rows fitted"), LEFT),
        ("On held-out rows", _by_attacker(results, heldout_cell, "Harmful task, held-out rows"), heldout),
    ]
    if len(results["extractors"]) > 1:
        table = _by_attacker(results, _deviation, "Deviation from the undefended", undefended=False)
        sections.append(("RFD and SGR", table, deviation))
    return [
        *(Section(title, [table, Text(text, quiet=True)]) for title, table, text in sections),
        *([Section("Condition numbers", ratio_table(_with_ratios(results)))] if len(results["extractors"]) > 1 else []),
        Section("The price to other tasks", _price(results)),
    ]


def _by_attacker(
    results: Mapping[str, Any], cell: Callable[[Mapping[str, Any]], Cell], caption: str, undefended: bool = True
) -> Table:
    harmful = {name: r for name, r in results["tasks"]["harmful"].items() if undefended or name != UNDEFENDED}
    records = results["tasks"]["harmful"][UNDEFENDED]
    groups: list[tuple[str, list[list[Cell]]]] = []
    for adaptive, title in ((False, "gradient followers"), (True, "adaptive attackers")):
        names = [name for name in attackers(results) if records[name]["adaptive"] == adaptive]
        groups += [(title, [])] if names else []
        groups += [(name, [[cell(r[name]) for r in harmful.values()]]) for name in names]
    return Table(caption, ["attacker", *harmful], groups)


def _left(record: Mapping[str, Any]) -> Cell:
    marks = ("edge",) if record["rate_at_edge"] else ()
    if record["left"]["mean"] is None:
        return Cell("diverged", (), marks)
    lines = [steps_text(record["steps"]), *_interval(record["left"])]
    lines += [f"{100 * record['diverged']:.2g} % diverged"] if record["diverged"] else []
    return Cell(_mean(record["left"]), tuple(lines), marks)


def _heldout(record: Mapping[str, Any]) -> Cell:
    if record["heldout_left"]["mean"] is None:
        return Cell("diverged")
    return Cell(
        _mean(record["heldout_left"]), (steps_text(record["heldout_steps"]), *_interval(record["heldout_left"]))
    )


def _heldout_accuracy(record: Mapping[str, Any]) -> Cell:
    cell, accuracy = _heldout(record), record["accuracy"]["mean"]
    return cell if accuracy is None else replace(cell, small=(*cell.small, f"accuracy {percent(accuracy)}"))


def _deviation(record: Mapping[str, Any]) -> Cell:
    found = record["deviation"]
    if found is None:
        return Cell("-")
    lines = [f"absolute {_points(found['absolute_mean'])} → {_points(found['absolute_final'])}"]
    lines += [] if record["gap"] is None else [f"SGR {record['gap']:z.3f}"]
    return Cell(f"{_points(found['signed_mean'], '+')} → {_points(found['signed_final'], '+')}", tuple(lines))


def _points(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}z.1f}"


def _mean(interval: Mapping[str, float]) -> str:
    return f"{max(0.0, interval['mean']):.2g}"


def _interval(interval: Mapping[str, float | None]) -> list[str]:
    """The interval, if seeds differ in what is shown."""
    if interval["low"] is None or interval["high"] is None:
        return []
    low, high = (f"{max(0.0, end):.2g}" for end in (interval["low"], interval["high"]))
    return [] if low == high else [f"{low} to {high}"]


def _with_ratios(results: Mapping[str, Any]) -> Mapping[str, Any]:
    """The undefended extractor is what all are compared to: its ratios are 1."""
    return {name: parts for name, parts in results["extractors"].items() if name != UNDEFENDED}


def _price(results: Mapping[str, Any]) -> list[Table | Text]:
    cost = prices(results)
    if not cost:
        return [Text("No other task was attacked.")]
    columns = ["task", "extractor", "line search leaves", "best leaves", "held-out", "accuracy", "steps to half"]
    groups = []
    for task in dict.fromkeys(price.task for price in cost):
        rows = [
            [
                price.extractor,
                price.line_search,
                price.best,
                price.heldout,
                price.accuracy if results["classes"] else None,
                Cell("never" if price.slow_down is None else times(price.slow_down)),
            ]
            for price in cost
            if price.task == task
        ]
        groups.append((task, rows))
    text = (
        "The same gradient followers on the tasks that should stay easy. Shares of each task's own excess loss, held-out "
        f"{heldout_loss(results)}, best held-out accuracy, and steps to half of what can be learned, over undefended."
    )
    return [Table("What gradient followers leave of the other tasks", columns, groups), Text(text, quiet=True)]
