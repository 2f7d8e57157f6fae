"""What a map that blocks several harmful tasks does to each of them, and what each of them costs the primary task."""

from collections.abc import Sequence

from cimm_jax.measures.explained import explained_labels
from cimm_jax.measures.extraction import Extraction
from cimm_jax.measures.ratios import ratios_by_policy
from cimm_jax.numerics.spectra import PseudoInverse
from cimm_jax.runs.defence import MapDefence
from cimm_jax.runs.records import OneOfSeveral, PrimaryPaid, SeveralTasks
from cimm_jax.runs.several_harmful import SeveralHarmful
from cimm_jax.runs.subject import Subject
from cimm_jax.tasks import TaskPair

__all__ = ["judge_several"]


def judge_several(subject: SeveralHarmful, defence: MapDefence, alone: Sequence[MapDefence | None]) -> SeveralTasks:
    """Measures the map on each harmful task, on held-out rows where all have some.

    Args:
      subject: all of them.
      defence: made for all of them.
      alone: made for each by itself, by the same method, None where it refused to; empty where that takes long.
    """
    *_, part = subject.pairs()
    found = []
    for one, by_itself in zip(subject.each, alone or [None] * len(subject.each), strict=True):
        extraction = defence.extractions(one)[part]
        found.append(
            OneOfSeveral(
                name=one.names.harmful,
                rir=float(ratios_by_policy(extraction)[PseudoInverse.__name__].rir),
                explained=explained_labels(extraction),
                alone=None if by_itself is None else _paid(one, by_itself, part),
            )
        )
    return SeveralTasks(part, tuple(found), _paid(subject.each[0], defence, part))


def _paid(subject: Subject, defence: MapDefence, part: str) -> PrimaryPaid:
    extraction = defence.extractions(subject)[part]
    before, after = (TaskPair(pair.primary, pair.primary) for pair in (extraction.before, extraction.after))
    explained = explained_labels(Extraction(before, after))
    kept = defence.kept(subject)
    return PrimaryPaid(
        None if explained is None else explained.linear,
        None if kept is None else kept.get(part, kept["train"]).accuracy_after,
    )
