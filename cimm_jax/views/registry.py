"""Which view shows which record."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cimm_jax.errors import InputError, one_line
from cimm_jax.runs.records import AttackRecord, DiagnoseRecord, ImmunizeRecord, LadderRecord, Record, SweepRecord, typed
from cimm_jax.views import attack, diagnose, immunize, ladder, sweep
from cimm_jax.views.blocks import Part

__all__ = ["HIDDEN", "VIEWS", "claims_of", "part_of", "refusing_contradictions"]

VIEWS: dict[type[Record], Callable[[Any, str], Part]] = {
    AttackRecord: attack.attack_part,
    DiagnoseRecord: diagnose.diagnose_part,
    ImmunizeRecord: immunize.immunize_part,
    LadderRecord: ladder.ladder_part,
    SweepRecord: sweep.sweep_part,
}

HIDDEN = {
    "ImagePart.sha256": "the manifest shows it among the checksums of the data",
    "NetworkData.definition_sha256": "the manifest shows it among the checksums of the data",
    "NetworkData.weights_sha256": "the manifest shows it among the checksums of the data",
    "Outcome.attacker": "the outcome stands under this name",
    "Spectrum.sigma_max": "kappa, its ratio to sigma_min, is shown",
    "Spectrum.sigma_min": "kappa, the ratio of sigma_max to it, is shown",
    "Verdict.harmful_harder": "the reason (a) begins with it",
    "Verdict.primary_as_easy": "the reason (b) begins with it",
    "Verdict.primary_kept": "the reason (c) begins with it",
}
"""Fields of records that no view shows, by type and name, each with the reason; pictures show what their texts say."""


@contextmanager
def refusing_contradictions(folders: str) -> Iterator[None]:
    """Raises `InputError` for records of these folders that contradict themselves, as of a task that has no outcomes.

    `read_record` has checked every type, but not what one figure says of another; what a view cannot show is that.
    """
    try:
        yield
    except InputError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        what = f"{type(error).__name__}: {one_line(error)}"
        raise InputError(f"runs: figures of {folders} contradict each other ({what}); make the run again") from error


def part_of(record: Record, folder: str = "") -> Part:
    """What is shown of a record; raises `InputError` for one that has nothing to show."""
    if type(record) not in VIEWS:
        raise InputError(f"runs: {folder} was written by {typed(record.manifest.command)}, which has nothing to show")
    return VIEWS[type(record)](record, folder)


def claims_of(record: Record) -> list[str]:
    """What is claimed of a run, one sentence each."""
    claims = {AttackRecord: attack.claims_of, ImmunizeRecord: immunize.claims_of, LadderRecord: ladder.claims_of}
    return claims[type(record)](record) if type(record) in claims else []
