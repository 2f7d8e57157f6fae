"""Which view shows which record."""

from collections.abc import Callable
from typing import Any

from cimm_jax.errors import InputError
from cimm_jax.runs.records import AttackRecord, DiagnoseRecord, ImmunizeRecord, Record, SweepRecord
from cimm_jax.views import attack, diagnose, immunize, sweep
from cimm_jax.views.blocks import Part

__all__ = ["HIDDEN", "VIEWS", "claims_of", "part_of"]

VIEWS: dict[type[Record], Callable[[Any, str], Part]] = {
    AttackRecord: attack.attack_part,
    DiagnoseRecord: diagnose.diagnose_part,
    ImmunizeRecord: immunize.immunize_part,
    SweepRecord: sweep.sweep_part,
}

HIDDEN = {
    "Manifest.command": "the title says it",
}
"""Fields of records that no view shows, by type and name, each with the reason."""


def part_of(record: Record, folder: str = "") -> Part:
    """What is shown of a record; raises `InputError` for one that has nothing to show."""
    if type(record) not in VIEWS:
        raise InputError(f"runs: {folder} was written by cimm {record.manifest.command}, which has nothing to show")
    return VIEWS[type(record)](record, folder)


def claims_of(record: Record) -> list[str]:
    """What is claimed of a run, one sentence each."""
    if isinstance(record, AttackRecord):
        return attack.claims_of(record)
    return immunize.claims_of(record) if isinstance(record, ImmunizeRecord) else []
