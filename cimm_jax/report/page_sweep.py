"""The part of a page on one run of `cimm sweep`: how many pairs each method protects, and its heat maps."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from cimm_jax.report.heatmap import common_norm, draw_panel
from cimm_jax.report.page_blocks import Cell, Figure, Figures, Part, Section, Table, Text
from cimm_jax.report.page_figures import figure
from cimm_jax.report.page_tables import POLICIES, ROWS, percent
from cimm_jax.report.words import sweep_paragraph

MEANS = (
    "Means over pairs and seeds, ratios geometric, by Eq. 1 under PseudoInverse except in the last column. Immunized: runs "
    "that meet Definition 3.1."
)


def sweep_part(results: Mapping[str, Any], folder: str) -> Part:
    """Everything but the manifest."""
    methods = {name: _arrays(record) for name, record in results["methods"].items()}
    pairs, settings = results["pairs"], results["settings"]
    shares = ", ".join(
        f"{name} {_share(m.heldout)} ({_share(m.train)} on training rows)" for name, m in methods.items()
    )
    return Part(
        f"Sweep over {len(pairs)} pairs of {settings['data']}",
        folder,
        f"Runs that meet Definition 3.1 on held-out rows: {shares}.",
        "neutral",
        [
            Section("Verdict", [Text(sweep_paragraph(methods, len(pairs)))]),
            Section("Heat maps", [Figures(_maps(methods, pairs))]),
            Section("Methods", [_table(methods), Text(MEANS, quiet=True), Text(POLICIES, quiet=True)]),
        ],
    )


def _arrays(record: Mapping[str, Any]) -> Any:
    """What `words.sweep_paragraph` reads of `methods.sweep.Measured`; numbers that JSON has no word for are NaN."""

    def ratio(part: str) -> SimpleNamespace:
        names = ("rir", "harmful_ratio", "primary_ratio")
        return SimpleNamespace(**{name: np.array(record[part][name], float) for name in names})

    def judged(part: str) -> SimpleNamespace:
        conditions = [np.array(record[part][name]) for name in ("harmful_harder", "primary_as_easy", "primary_kept")]
        return SimpleNamespace(
            ratio=ratio(part), conditions=SimpleNamespace(immunized=np.logical_and.reduce(conditions))
        )

    return SimpleNamespace(
        train=judged("train"),
        heldout=judged("heldout"),
        released=ratio("released_train"),
        share=SimpleNamespace(share=np.array(record["limit"]["share"], float)),
    )


def _share(judged: Any) -> str:
    return percent(float(judged.conditions.immunized.mean()))


def _table(methods: Mapping[str, Any]) -> Table:
    columns = ["method", "log RIR", "share of the limit", "(i) harmful", "(ii) primary", "log RIR, held-out"]
    columns += ["immunized", "held-out", "log RIR, ReleasedCode"]
    groups = []
    for name, m in methods.items():
        row = [
            _mean_log(m.train.ratio.rir),
            Cell(percent(float(np.nanmean(m.share.share)))),
            np.exp(_mean_log(m.train.ratio.harmful_ratio)),
            np.exp(_mean_log(m.train.ratio.primary_ratio)),
            _mean_log(m.heldout.ratio.rir),
            Cell(_share(m.train)),
            Cell(_share(m.heldout)),
            _mean_log(m.released.rir),
        ]
        groups.append((name, [row]))
    return Table("Methods over all pairs", columns, groups)


def _mean_log(values: np.ndarray) -> float:
    return float(np.nanmean(np.log(values)))


def _maps(methods: Mapping[str, Any], pairs: Sequence[Mapping[str, int]]) -> list[Figure]:
    panels = {
        (name, rows): _map(np.log(getattr(m, rows).ratio.rir).mean(1), pairs)
        for name, m in methods.items()
        for rows in ROWS
    }
    norm = common_norm({str(key): values for key, values in panels.items()})
    return [
        figure(
            lambda axes, scheme, values=values: draw_panel(axes, "", values, norm, scheme.colormap("diverging")),
            alt=f"Heat map of log RIR by pair for {name} on {ROWS[rows]} rows, from {np.nanmin(values):.1f} to "
            f"{np.nanmax(values):.1f}.",
            caption=f"{name}, {ROWS[rows]} rows: log RIR by pair, mean {np.nanmean(values):.2f}. Above 0, blue: harder for the "
            "harmful task.",
            legend=False,
        )
        for (name, rows), values in panels.items()
    ]


def _map(logs: np.ndarray, pairs: Sequence[Mapping[str, int]]) -> np.ndarray:
    values = np.full((10, 10), np.nan)
    for pair, value in zip(pairs, logs, strict=True):
        values[pair["harmful"], pair["primary"]] = value
    return values
