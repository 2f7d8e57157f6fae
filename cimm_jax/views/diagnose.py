"""A diagnosis: whether the pair can be immunized, what a budget buys, and why."""

import numpy as np

from cimm_jax.measures.diagnosis import BudgetRow, Diagnosis
from cimm_jax.runs.records import DiagnoseRecord
from cimm_jax.views.blocks import Card, Cards, Facts, Figure, Figures, Part, Section, Status, Table, Text
from cimm_jax.views.draw.pencil import draw_alignment, draw_front, draw_spectrum
from cimm_jax.views.manifest import manifest_sections, task_facts
from cimm_jax.views.numbers import format_number, percent, plain
from cimm_jax.views.tables import POLICIES, before_after, network_facts, outputs_section

__all__ = ["NOT_MEASURED", "STATUS", "diagnose_part"]

STATUS: dict[str, Status] = {"immunizable": "good", "costly": "warn", "impossible": "bad"}
NOT_MEASURED = (
    "Nothing was trained and nobody attacked: this is what a linear extractor could do at best against gradient descent with "
    "exact line search on a linear probe. It binds no attacker who whitens the features, solves the normal equations or "
    "fine-tunes."
)


def diagnose_part(record: DiagnoseRecord, folder: str = "") -> Part:
    """Everything of a diagnosis."""
    found = record.diagnosis
    status = STATUS.get(found.verdict, "neutral")
    explained = (
        f"Harmful left: excess loss after {found.watched[-1]} steps of exact line search, the budget spent where labels are. "
        "Slow-down: primary excess loss left, times undefended, at the worst of the watched steps. Training rows."
    )
    card = Card("The pair:", status, f"{found.verdict} by a linear extractor", " ".join(found.reasons))
    sections = [
        Section("Tasks", [Facts(task_facts(record.names, record.source)), *network_facts(record.network)]),
        Section("Verdict", [Cards([card])]),
        Section("Figures", [Figures(_figures(found))]),
        Section("What a budget buys", [_budgets(found), Text(explained, quiet=True)]),
        Section("The limit of any linear extractor", [Facts(_facts(found))]),
        *_undefended(found),
        *_protection(found),
        *_ridge_path(found),
        *_layers(record),
        *([outputs_section({"as published": record.outputs})] if record.outputs else []),
        Section("Condition numbers of the budgets", [_ratios(found), Text(POLICIES, quiet=True)], folded=True),
        Section("Not measured", [Text(NOT_MEASURED)]),
        *manifest_sections(record.manifest),
    ]
    title = f"Diagnosis of {record.source.title}: keep {record.names.primary}, block {record.names.harmful}"
    return Part(title, f"The pair is {found.verdict}.", status, sections, folder)


def _layers(record: DiagnoseRecord) -> list[Section]:
    if not record.layers:
        return []
    columns = ["features of", "linear head", "kernel head", "linear, erased", "kernel, erased", "shared with primary"]
    groups = [
        (place, [[found.linear, found.kernel, found.linear_left, found.kernel_left, found.shared]])
        for place, found in record.layers.items()
    ]
    rows = max(found.rows for found in record.layers.values())
    explained = (
        f"Share of the harmful labels' variance that a head in closed form explains, on up to {rows} training rows, each label "
        "said by the other rows alone; then behind a linear eraser, made on other rows, that keeps the covariance with the "
        "primary labels. Shared: how much of what linear heads explain of the primary labels lies in the harmful directions. "
        "What the eraser leaves to the kernel is left to trained blocks to remove (method best_response); what is shared is "
        "what that may cost."
    )
    table = Table("What can be told apart", columns, groups)
    return [Section("Where the harmful information is", [table, Text(explained, quiet=True)])]


def _budgets(found: Diagnosis) -> Table:
    columns = ["budget", "kappa_P", "(i) at the limit", "(ii)", "log RIR, ridge", "log RIR held-out", "harmful left"]
    columns.append("slow-down")
    groups = [
        (
            _name(row),
            [
                [
                    row.kappa_primary,
                    row.best_harmful_ratio,
                    row.best_primary_ratio,
                    np.log(row.train.rir),
                    None if row.heldout is None else np.log(row.heldout.rir),
                    row.harmful_left,
                    row.slow_down,
                ]
            ],
        )
        for row in found.budgets
    ]
    return Table("What a budget on the primary condition number buys", columns, groups)


def _ratios(found: Diagnosis) -> Table:
    columns = ["budget", "rows", "(i) harmful", "(ii) primary", "RIR", "kappa, harmful", "kappa, primary"]
    columns += ["rank, harmful", "rank, primary", "floored"]
    groups = []
    for budget in found.budgets:
        rows = []
        for part, ratio in (("training", budget.train), ("held-out", budget.heldout)):
            if ratio is None:
                continue
            spectra = ((ratio.harmful, ratio.harmful_reference), (ratio.primary, ratio.primary_reference))
            kappas = [before_after(after.kappa, before.kappa) for after, before in spectra]
            ranks = [before_after(after.rank, before.rank) for after, before in spectra]
            floored = "yes" if bool(ratio.floored) else "no"
            rows.append([part, ratio.harmful_ratio, ratio.primary_ratio, ratio.rir, *kappas, *ranks, floored])
        groups.append((_name(budget), rows))
    return Table("Measured with the ridge, after over before, PseudoInverse", columns, groups)


def _facts(found: Diagnosis) -> list[tuple[str, object]]:
    limit, angles = found.limit, found.alignment.angles
    return [
        ("log of the largest RIR", limit.log_rir),
        ("mu_max / mu_min in the primary's range", limit.ratio_in_range),
        ("largest kappa_H / kappa_P in the sample", limit.ratio),
        ("kappa of the primary task", limit.kappa_primary),
        ("kappa of the harmful task, in the primary's range", limit.kappa_harmful),
        ("directions of the primary task", limit.rank_primary),
        ("of these, the harmful task lacks", found.primary_only),
        ("directions of the harmful task", found.rank_harmful),
        ("of these, in the primary's range", limit.rank_harmful),
        ("directions that only the harmful task has", f"{found.harmful_only}{'' if limit.harmful_only else ', none'}"),
        ("harmful energy outside the primary's range", limit.outside),
        ("the arithmetic resolves the smallest mu", "yes" if limit.resolved else "NO"),
        (f"alignment of the top {len(angles)} directions", found.alignment.score),
        ("principal angles, degrees", f"{angles[0]:.1f} to {angles[-1]:.1f}"),
        ("ridge, relative to the mean eigenvalue", found.ridge),
    ]


def _undefended(found: Diagnosis) -> list[Section]:
    if found.undefended is None:
        return []
    primary, harmful = found.undefended
    rows = [(f"{steps} steps", [[a, b]]) for steps, a, b in zip(found.watched, primary, harmful, strict=True)]
    table = Table("Excess loss that exact line search leaves undefended", ["after", "primary", "harmful"], rows)
    return [Section("Undefended", [table], folded=True)]


def _protection(found: Diagnosis) -> list[Section]:
    if found.protection is None or found.sample_only is None:
        return []
    rows = [
        (f"{name} ridge {format_number(of.ridge)}", [[of.free, of.costly, of.slow_down]])
        for name, of in (("chosen", found.protection), ("least", found.sample_only))
    ]
    columns = ["ridge", "left, primary no slower", "left, whole budget", "its slow-down"]
    return [
        Section("Protection", [Table("Harmful excess loss left by the best allocations", columns, rows)], folded=True)
    ]


def _ridge_path(found: Diagnosis) -> list[Section]:
    path = found.ridge_path
    if path is None:
        return []
    best = int(np.argmin(path.score))
    every = range(0, len(path.candidates), 8)
    rows = [(format_number(path.candidates[place]), [[path.score[place]]]) for place in every]
    facts = Facts(
        [
            ("chosen: the least within one standard error of the best", path.ridge),
            ("best", path.candidates[best]),
            ("standard error of its score", path.standard_error),
        ]
    )
    table = Table(
        "Score of a ridge on held-out primary rows, smaller is better, every eighth", ["ridge", "score"], rows
    )
    return [Section("How the ridge was chosen", [facts, table], folded=True)]


def _figures(found: Diagnosis) -> list[Figure]:
    ends = f"from {format_number(float(found.mu[0]))} to {format_number(float(found.mu[-1]))}"
    pictures = [
        Figure(
            lambda axes, scheme: draw_spectrum(axes, scheme, found),
            alt=f"Generalised eigenvalues mu of {len(found.mu)} pencil directions, {ends}{_label_energy(found)}.",
            caption="The pencil: harmful over primary energy by direction, and where the labels of both tasks lie.",
        )
    ]
    if found.protection is not None:
        free, front = format_number(found.protection.free), found.protection.front
        price = " to ".join(
            f"{format_number(front.harmful_left[end])} at {format_number(front.slow_down[end])} times"
            for end in (0, -1)
        )
        pictures.append(
            Figure(
                lambda axes, scheme: draw_front(axes, scheme, found),
                alt=f"Harmful excess loss left against the primary task's slow-down; with no slow-down, {free} is left; "
                f"the best allocations go from {price}.",
                caption=f"Protection and its price: harmful excess loss left after {found.watched[-1]} steps against how much "
                "slower the primary task becomes (1: as fast as undefended).",
            )
        )
    score = f"{found.alignment.score:.2f} of {len(found.alignment.cosines)}"
    pictures.append(
        Figure(
            lambda axes, scheme: draw_alignment(axes, scheme, found.alignment.cosines),
            alt=f"Cosines of the leading singular vectors of both tasks; the diagonal sums to {score}, "
            f"and the largest is {found.alignment.cosines.max():.2f}.",
            caption="Alignment: cosines between the leading directions of both tasks.",
            legend=False,
        )
    )
    return pictures


def _label_energy(found: Diagnosis) -> str:
    """Where the labels lie, in words; empty without targets."""
    if found.harmful_energy is None or found.primary_energy is None:
        return ""
    half = -(-len(found.mu) // 2)
    harmful, primary = (percent(energy[:half].sum()) for energy in (found.harmful_energy, found.primary_energy))
    return f"; the first {half} hold {harmful} of the energy of the harmful labels and {primary} of the primary ones"


def _name(row: BudgetRow) -> str:
    return str(row.budget) if isinstance(plain(row.budget), str) else f"{row.budget:g}"
