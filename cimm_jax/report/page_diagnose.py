"""The part of a page on one run of `cimm diagnose`: whether the pair can be immunized, what a budget buys, and why."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from cimm_jax.report.diagnosis import draw_front, draw_spectrum
from cimm_jax.report.page_attack import data_name
from cimm_jax.report.page_blocks import Card, Cards, Facts, Figure, Figures, Items, Part, Section, Status, Table, Text
from cimm_jax.report.page_figures import Scheme, figure
from cimm_jax.report.tables import format_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STATUS: dict[str, Status] = {"immunizable": "good", "costly": "warn", "impossible": "bad"}
NOT_MEASURED = (
    "Nothing was trained and nobody attacked: this is what a linear extractor could do at best against gradient descent with "
    "exact line search on a linear probe. It binds no attacker who whitens the features, solves the normal equations or "
    "fine-tunes."
)


def diagnose_part(results: Mapping[str, Any], folder: str) -> Part:
    """Everything but the manifest."""
    diagnosis = results["diagnosis"]
    verdict, steps = diagnosis["verdict"], diagnosis["watched"][-1]
    status = STATUS.get(verdict, "neutral")
    explained = (
        f"Harmful left: excess loss after {steps} steps of exact line search, the budget spent where the labels are. "
        "Slow-down: primary excess loss left, times undefended, at the worst of the watched steps. Training rows."
    )
    return Part(
        f"Diagnosis of {data_name(results)}",
        folder,
        f"The pair is {verdict}.",
        status,
        [
            Section("Verdict", [Cards([Card("The pair", status, verdict, f"is {verdict} by a linear extractor.")])]),
            Section("Reasons", [Items([("", reason) for reason in diagnosis["reasons"]])]),
            Section("Figures", [Figures(_figures(diagnosis))]),
            Section("What a budget buys", [_budgets(diagnosis), Text(explained, quiet=True)]),
            Section("The limit of any linear extractor", [Facts(_facts(diagnosis))]),
            Section("Not measured", [Text(NOT_MEASURED)]),
        ],
    )


def _budgets(diagnosis: Mapping[str, Any]) -> Table:
    columns = ["budget", "(i) at the limit", "(ii)", "log RIR, ridge", "log RIR, held-out", "harmful left", "slow-down"]
    groups = [
        (
            "keep" if row["budget"] == "keep" else f"{row['budget']:g}",
            [
                [
                    row["best_harmful_ratio"],
                    row["best_primary_ratio"],
                    _log(row["train"]["rir"]),
                    None if row["heldout"] is None else _log(row["heldout"]["rir"]),
                    row["harmful_left"],
                    row["slow_down"],
                ]
            ],
        )
        for row in diagnosis["budgets"]
    ]
    return Table("What a budget on the primary condition number buys", columns, groups)


def _facts(diagnosis: Mapping[str, Any]) -> list[tuple[str, object]]:
    limit, angles = diagnosis["limit"], diagnosis["alignment"]["angles"]
    facts = [
        ("log of the largest RIR", limit["log_rir"]),
        ("mu_max / mu_min in the primary's range", limit["ratio_in_range"]),
        ("largest kappa_H / kappa_P in the sample", "infinite" if limit["harmful_only"] else limit["ratio"]),
        ("kappa of the primary task", limit["kappa_primary"]),
        ("kappa of the harmful task, in the primary's range", limit["kappa_harmful"]),
        ("directions of the primary task", limit["rank_primary"]),
        ("of these, the harmful task lacks", diagnosis["primary_only"]),
        ("directions of the harmful task", diagnosis["rank_harmful"]),
        ("directions that only the harmful task has", diagnosis["harmful_only"]),
        ("harmful energy outside the primary's range", limit["outside"]),
        (f"alignment of the top {len(angles)} directions", diagnosis["alignment"]["score"]),
        ("principal angles, degrees", f"{angles[0]:.1f} to {angles[-1]:.1f}"),
        ("ridge, relative to the mean eigenvalue", diagnosis["ridge"]),
    ]
    return [(name, format_number(value)) for name, value in facts]


def _figures(diagnosis: Mapping[str, Any]) -> list[Figure]:
    known = _known(diagnosis)

    def front(axes: "Axes", scheme: Scheme) -> None:
        draw_front(axes, known, scheme.cycle[1])
        axes.set_ylabel("harmful excess loss left")

    pictures = [
        figure(
            lambda axes, scheme: draw_spectrum(axes, known, scheme.tasks),
            alt=f"Generalised eigenvalues mu of {len(known.mu)} pencil directions, from {format_number(float(known.mu[0]))} to "
            f"{format_number(float(known.mu[-1]))}, with each task's label energy on them.",
            caption="The pencil: harmful over primary energy by direction, and where the labels of both tasks lie.",
        )
    ]
    if known.protection is not None:
        pictures.append(
            figure(
                front,
                alt=f"Harmful excess loss left against the primary task's slow-down; with no slow-down, "
                f"{format_number(diagnosis['protection']['free'])} is left.",
                caption=f"Protection and its price: harmful excess loss left after {known.watched[-1]} steps against how much "
                "slower the primary task becomes (1: as fast as undefended).",
            )
        )
    return pictures


def _known(diagnosis: Mapping[str, Any]) -> Any:
    """What the pictures read of `diagnose.Diagnosis`."""

    def energy(name: str) -> np.ndarray | None:
        return None if diagnosis[name] is None else np.array(diagnosis[name], float)

    def protection(name: str) -> SimpleNamespace | None:
        record = diagnosis[name]
        if record is None:
            return None
        front = tuple(np.array(record["front"][key], float) for key in ("slow_down", "harmful_left"))
        return SimpleNamespace(ridge=record["ridge"], front=front)

    found = protection("protection")
    same = diagnosis["protection"] == diagnosis["sample_only"]
    return SimpleNamespace(
        mu=np.array(diagnosis["mu"], float),
        harmful_energy=energy("harmful_energy"),
        primary_energy=energy("primary_energy"),
        protection=found,
        sample_only=found if same else protection("sample_only"),
        watched=diagnosis["watched"],
    )


def _log(value: float | None) -> float | None:
    return None if value is None else float(np.log(value))
