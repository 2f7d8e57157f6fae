"""How immunizations of networks are told, be it a map or trained blocks."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from cimm_jax.commands.immunize_shared import NO_COMPARISON
from cimm_jax.report.tables import print_table


def print_ratios(console: Console, title: str, results: Mapping[str, Any]) -> None:
    """Ratios of all rows and of groups under every policy, with ranks, floors and the warning of the groups."""
    columns = ["rows", "policy", "(i) harmful", "(ii) primary", "RIR", "rank H", "rank P", "a floor decided"]
    rows = [
        [
            f"all {part}",
            policy,
            *(float(ratio[key]) for key in ("harmful_ratio", "primary_ratio", "rir")),
            int(ratio["harmful"]["rank"]),
            int(ratio["primary"]["rank"]),
            "yes" if any(bool(ratio[name]["floored"]) for name in ("harmful", "primary")) else "no",
        ]
        for part, named in results["ratios"].items()
        for policy, ratio in named.items()
    ]
    for policy, groups in results["groups"].items():
        means = [_with_error(groups[key]) for key in ("harmful_ratio", "primary_ratio", "rir")]
        rows.append([f"{groups['groups']} groups of {groups['rows']}", policy, *means, "", "", ""])
    print_table(columns, rows, title=f"{title}: condition numbers, after over before; groups: mean (standard error)")
    warning = next(iter(results["groups"].values()))["warning"]
    console.print(NO_COMPARISON + (f"\nwarning: {warning}" if warning else "") + "\n", markup=False)


def print_skipped(console: Console, deep: Mapping[str, Any]) -> None:
    """How many images could not be decoded, where any."""
    for task in ("primary", "harmful"):
        for part, described in deep[task].items():
            if described["skipped"]:
                console.print(f"{described['skipped']} {task} {part} images could not be decoded and were skipped")


def _with_error(value: Any) -> str:
    return f"{value.mean:.3g} ({value.standard_error:.2g})"
