"""`cimm diagnose`: can this pair be immunized at all?"""

import jax
import numpy as np

from cimm_jax.closed_form.ridge import RidgePath
from cimm_jax.commands.delivery import deliver, manifest_of
from cimm_jax.commands.settings import Diagnose, parse_budget, refuse_foreign
from cimm_jax.errors import naming
from cimm_jax.locks import only_one_in
from cimm_jax.measures.diagnosis import check_questions, diagnose
from cimm_jax.numerics.meshes import spread_rows
from cimm_jax.numerics.spreading import mesh_in_use
from cimm_jax.progress import phase
from cimm_jax.runs.feature_subject import FeatureSubject
from cimm_jax.runs.records import DiagnoseRecord
from cimm_jax.runs.separability_by_layer import separable_layers
from cimm_jax.runs.subject import Subject, open_subject
from cimm_jax.tasks import TaskPair

__all__ = ["run_diagnose"]


def run_diagnose(settings: Diagnose) -> None:
    """Loads, diagnoses, writes and prints what a budget buys and the verdict."""
    refuse_foreign(settings, settings.kind)
    questions = {
        name: getattr(settings, name) for name in ("top_k", "ridge", "rtol", "horizon", "primary_no_slower_at")
    }
    with naming("budgets", "budget"):
        questions["budgets"] = [parse_budget(text) for text in settings.budgets]
    check_questions(**questions)
    subject = open_subject(settings.source, settings.cache)
    with only_one_in(settings.out) as folder:
        pairs, path = _given(subject)
        with phase(f"decomposing {subject.title}"):
            diagnosis = diagnose(pairs["train"], heldout=pairs.get("heldout"), ridge_path=path, **questions)
        outputs = {}
        if subject.network is not None:
            from cimm_jax.runs.ladder import output_floor

            outputs = output_floor(subject, seed=settings.seed)
        record = DiagnoseRecord(
            manifest_of(settings, subject.checksums()),
            subject.source,
            subject.names,
            diagnosis,
            outputs,
            subject.network_data,
            separable_layers(subject, settings.seed),
        )
        deliver(folder, record, json=settings.json)


def _given(subject: Subject) -> tuple[dict[str, TaskPair], RidgePath | None]:
    """Rows by part, over the devices, and what is known of the ridge: features that are too many to be held are condensed."""
    if not isinstance(subject, FeatureSubject) or not subject.is_large:
        pairs, mesh = subject.pairs(), mesh_in_use()
        if mesh is not None:
            pairs = jax.tree.map(lambda rows: spread_rows(np.asarray(rows), mesh), pairs)
        return pairs, None
    split, path = subject.condensed()
    return split._asdict(), path
