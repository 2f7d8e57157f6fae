"""Tables that several kinds of run share."""

from collections.abc import Mapping, Sequence
from typing import Any

from cimm_jax.report.page_blocks import Cell, Table, Text

ROWS = {"train": "training", "heldout": "held-out"}
"""The two parts of a data set, as people call them."""

POLICIES = (
    "Each condition number stands under a named policy: PseudoInverse takes the smallest non-zero singular value (Eq. 1 of the "
    "paper), ReleasedCode is the rule of the paper's released code, here only to compare with published figures. Numbers under "
    "different policies are not comparable. Share of the limit: log RIR over the log of the largest RIR that any linear "
    "extractor can have, both as seen in the primary task's range. Floored: a floor or the arithmetic decided one of the four "
    "condition numbers."
)


def ratio_table(extractors: Mapping[str, Mapping[str, Any]], first: str = "extractor") -> list[Table | Text]:
    """Ratios of extractors by rows ("train", "heldout"), each with "ratios" by policy, "limit", and perhaps "intervals"."""
    with_intervals = any("intervals" in part for parts in extractors.values() for part in parts.values())
    columns = [first, "rows", "policy", "(i) harmful", "(ii) primary", "RIR"]
    columns += ["RIR, 95 % interval"] if with_intervals else []
    columns += ["share of the limit", "rank, harmful", "rank, primary", "floored"]
    groups = [
        (
            name,
            [
                _ratio_row(ROWS[part], policy, measured, with_intervals)
                for part, measured in parts.items()
                for policy in measured["ratios"]
            ],
        )
        for name, parts in extractors.items()
    ]
    return [Table("Condition numbers, after over before", columns, groups), Text(POLICIES, quiet=True)]


def steps_text(steps: Sequence[float | None]) -> str:
    """Steps to each threshold, like "1 / 4 / never"; "never" for none of them."""
    if all(value is None for value in steps):
        return "never"
    return " / ".join("never" if value is None else f"{value:.0f}" for value in steps)


def _ratio_row(rows: str, policy: str, measured: Mapping[str, Any], with_intervals: bool) -> list[object]:
    ratio = measured["ratios"][policy]
    defined = policy == "PseudoInverse"
    row: list[object] = [rows, policy, ratio["harmful_ratio"], ratio["primary_ratio"], ratio["rir"]]
    if with_intervals:
        row.append(Cell("{} to {}".format(*map(_short, measured["intervals"]["rir"])) if defined else ""))
    row.append(Cell(percent(measured["limit"]["share"]) if defined else ""))
    row += [_rank(ratio, "harmful"), _rank(ratio, "primary")]
    floored = any(ratio[name]["floored"] for name in _SPECTRA)
    return [*row, "yes" if floored else "no"]


_SPECTRA = ("harmful", "harmful_reference", "primary", "primary_reference")


def _rank(ratio: Mapping[str, Any], task: str) -> Cell:
    after, before = ratio[task]["rank"], ratio[f"{task}_reference"]["rank"]
    return Cell(f"{after}", () if after == before else (f"before {before}",))


def percent(value: float | None) -> str:
    """Like "67 %", the space unbreakable."""
    if value is None:
        return "-"
    return f"{100 * value if abs(value) >= 1e-3 else 0:.3g}\N{NO-BREAK SPACE}%"


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
