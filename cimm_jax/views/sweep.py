"""A sweep: how many pairs each method protects by Definition 3.1, and its heat maps."""

import numpy as np

from cimm_jax.measures.definition import MUCH_GREATER, Judgement
from cimm_jax.methods import Measured
from cimm_jax.runs.records import DigitPair, SweepRecord
from cimm_jax.views.blocks import Cell, Facts, Figure, Figures, Part, Section, Table, Text
from cimm_jax.views.draw.heatmap import common_norm, draw_panel
from cimm_jax.views.manifest import manifest_sections
from cimm_jax.views.numbers import format_number, percent
from cimm_jax.views.tables import PARTS, POLICIES

__all__ = ["MEANS", "sweep_paragraph", "sweep_part"]

MEANS = (
    "Means over pairs and seeds, ratios geometric, by Eq. 1 under PseudoInverse except in the last column. Immunized: runs "
    "that meet Definition 3.1, (i) at least 10, (ii) at most 1.01, primary loss kept. Losses: mean squared error of the best "
    "primary probe."
)


@np.errstate(divide="ignore", invalid="ignore")  # a ratio may be zero or infinite, and the mean of both is none
def sweep_part(record: SweepRecord, folder: str = "") -> Part:
    """Everything of a sweep."""
    methods = record.methods
    shares = ", ".join(
        f"{name} {_immunized(m.heldout)} ({_immunized(m.train)} on training rows)" for name, m in methods.items()
    )
    facts = Facts(
        [
            ("kept", "each digit in turn"),
            ("blocked", "each other digit in turn"),
            ("tasks", f"of kind {record.kind}"),
            ("steps", record.steps),
            ("seeds", record.seeds),
        ]
    )
    return Part(
        f"Sweep over {len(record.pairs)} pairs of {record.data}",
        f"Runs that meet Definition 3.1 on held-out rows: {shares}.",
        "neutral",
        [
            Section("Tasks", [facts]),
            Section("Verdict", [Text(sweep_paragraph(methods, len(record.pairs)))]),
            Section("Heat maps", [Figures(_maps(record))]),
            Section("Methods", [_table(methods), Text(MEANS, quiet=True), Text(POLICIES, quiet=True)]),
            Section("What the means rest on", [_rest(methods)]),
            *manifest_sections(record.manifest, {"a task": record.rows}),
        ],
        folder,
    )


def sweep_paragraph(methods: dict[str, Measured], pairs: int) -> str:
    """One paragraph that says what was protected by Definition 3.1, what was not, and what that does not mean."""
    shares = ", ".join(f"{name} reaches {_share(m)}" for name, m in methods.items())
    return (
        f"In plain words: a pair counts as protected if the harmful task's condition number grew at least {MUCH_GREATER:g} "
        "times while the primary task's did not grow and its best loss was kept. "
        + " ".join(_method_sentence(name, m, pairs) for name, m in methods.items())
        + f" Of the log of the largest RIR that any linear extractor can have, {shares}."
        " A condition number bounds how fast plain gradient descent on a linear probe converges. It says nothing about an "
        "attacker who whitens the features, solves the normal equations or fine-tunes the extractor itself: against those, "
        "nothing here was measured, and a linear map alone protects nothing."
    )


def _method_sentence(name: str, measured: Measured, pairs: int) -> str:
    train, heldout = (_protected_pairs(judged) for judged in (measured.train, measured.heldout))
    if heldout == 0 and train == 0:
        ratio = measured.train.ratio
        harder = int((np.asarray(ratio.harmful_ratio) >= MUCH_GREATER).mean(1).round().sum())
        costly = int((np.asarray(ratio.primary_ratio) > 1).mean(1).round().sum())
        return (
            f"{name} protected none of the {pairs} pairs: it made the harmful task that much harder on {harder}, and the "
            f"primary task harder on {costly}."
        )
    return f"{name} protected {train} of {pairs} pairs on the rows it saw and {heldout} on held-out rows."


def _protected_pairs(judged: Judgement) -> int:
    """Pairs that most seeds protect."""
    return int((np.asarray(judged.conditions.immunized).mean(1) > 0.5).sum())


def _share(measured: Measured) -> str:
    return percent(_mean(measured.share.share))


def _immunized(judged: Judgement) -> str:
    return percent(np.asarray(judged.conditions.immunized).mean())


def _table(methods: dict[str, Measured]) -> Table:
    columns = [
        "method",
        "log RIR",
        "share of the limit",
        "+- over pairs",
        "(i) harmful",
        "(ii) primary",
        "log RIR held-out",
    ]
    columns += ["immunized", "held-out", "log RIR ReleasedCode"]
    groups = []
    for name, m in methods.items():
        log_rir = np.log(np.asarray(m.train.ratio.rir))
        row = [
            log_rir.mean(),
            Cell(_share(m)),
            log_rir.mean(1).std(),
            np.exp(np.log(m.train.ratio.harmful_ratio).mean()),
            np.exp(np.log(m.train.ratio.primary_ratio).mean()),
            np.log(m.heldout.ratio.rir).mean(),
            Cell(_immunized(m.train)),
            Cell(_immunized(m.heldout)),
            np.log(m.released.rir).mean(),
        ]
        groups.append((name, [row]))
    return Table("Methods over all pairs", columns, groups)


def _rest(methods: dict[str, Measured]) -> Table:
    """What stands behind the means: conditions, losses, ranks, floors, and the limit."""
    columns = ["method", "rows", "(a) harder", "(b) as easy", "(c) kept", "loss before", "loss after"]
    columns += ["least rank, harmful", "least rank, primary", "a floor decided", "beyond the limit"]
    groups = []
    for name, m in methods.items():
        exceeded = "none" if not np.any(m.share.exceeded) else f"{np.sum(m.share.exceeded)}: A BUG, please report it"
        rows = [
            [
                PARTS[part],
                *(Cell(percent(np.asarray(condition).mean())) for condition in judged.conditions),
                _mean(judged.loss_before),
                _mean(judged.loss_after),
                int(np.min(judged.ratio.harmful.rank)),
                int(np.min(judged.ratio.primary.rank)),
                Cell(percent(np.asarray(judged.ratio.floored).mean())),
                exceeded if part == "train" else "",
            ]
            for part, judged in (("train", m.train), ("heldout", m.heldout))
        ]
        groups.append((name, rows))
    return Table("Conditions of Definition 3.1, shares of all runs", columns, groups)


def _mean(values: object) -> float | None:
    """Of those that are numbers; None if there are none."""
    array = np.asarray(values, float)
    return float(np.nanmean(array)) if np.isfinite(array).any() else None


def _maps(record: SweepRecord) -> list[Figure]:
    panels = {
        (name, part): _map(np.log(np.asarray(getattr(m, part).ratio.rir)).mean(1), record.pairs)
        for name, m in record.methods.items()
        for part in PARTS
    }
    norm = common_norm({str(key): values for key, values in panels.items()})
    return [
        Figure(
            lambda axes, scheme, values=values: draw_panel(axes, values, norm, scheme.colormap("diverging")),
            alt=_extremes(values),
            caption=f"{name}, {PARTS[part]} rows: log RIR by pair, mean {format_number(_mean(values))}. Above 0, blue: "
            "harder for the harmful task.",
            legend=False,
        )
        for (name, part), values in panels.items()
    ]


def _extremes(values: np.ndarray) -> str:
    """The least and the largest value, and whose the latter is."""
    if np.isnan(values).all():
        return "No number."
    harmful, primary = np.unravel_index(np.nanargmax(values), values.shape)
    return (
        f"From {np.nanmin(values):.1f} to {np.nanmax(values):.1f}, the latter with digit {primary} kept and digit {harmful} "
        "blocked."
    )


def _map(logs: np.ndarray, pairs: tuple[DigitPair, ...]) -> np.ndarray:
    values = np.full((10, 10), np.nan)
    for pair, value in zip(pairs, logs, strict=True):
        values[pair.harmful, pair.primary] = value
    return values
