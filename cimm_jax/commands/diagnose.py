"""`cimm diagnose`: can this pair be immunized at all?"""

from rich.console import Console

from cimm_jax.commands.delivery import deliver, manifest_of
from cimm_jax.commands.settings import Diagnose, parse_budget
from cimm_jax.locks import only_one_in
from cimm_jax.measures.diagnosis import diagnose
from cimm_jax.runs.records import DiagnoseRecord
from cimm_jax.runs.source import DataSource
from cimm_jax.runs.subject import DataSubject

__all__ = ["run_diagnose"]


def run_diagnose(settings: Diagnose) -> None:
    """Loads, diagnoses, writes and prints what a budget buys and the verdict."""
    budgets = [parse_budget(text) for text in settings.budgets]
    source = DataSource(settings.data or "digits", settings.data_dir, settings.primary, settings.harmful)
    subject = DataSubject(source)
    with only_one_in(settings.out) as folder:
        with Console(stderr=True).status(f"decomposing {source.data}"):
            diagnosis = diagnose(
                subject.split.train,
                heldout=subject.split.heldout,
                budgets=budgets,
                top_k=settings.top_k,
                ridge=settings.ridge,
                rtol=settings.rtol,
                horizon=settings.horizon,
                primary_no_slower_at=settings.primary_no_slower_at,
            )
        record = DiagnoseRecord(manifest_of(settings, subject.checksums()), subject.source, subject.names, diagnosis)
        deliver(folder, record, json=settings.json)
