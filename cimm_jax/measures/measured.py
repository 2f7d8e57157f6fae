"""Everything that is measured of an extractor on a pair, in one place: a new measure is one field and one line here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import jax

from cimm_jax.closed_form.limits import Share, share_of_pair
from cimm_jax.measures.bootstrap import RatioIntervals, bootstrap_ratio
from cimm_jax.measures.definition import Verdict, definition_3_1
from cimm_jax.measures.excess import ExcessCurves, excess_curves
from cimm_jax.measures.explained import Explained, explained_labels
from cimm_jax.measures.extraction import Extraction
from cimm_jax.measures.groups import GroupedRatio, groups_by_policy
from cimm_jax.measures.ratios import ImmunizationRatio, ratios_by_policy
from cimm_jax.numerics.spectra import PseudoInverse

__all__ = ["Measures", "PartMeasures", "measure"]


@dataclass(frozen=True)
class PartMeasures:
    """What is measured on the rows of one part of the data.

    Attributes:
      ratios: the relative immunization ratio by policy.
      share: of the exact limit of linear extractors; None where no map leads from the features before to those after.
      intervals: bootstrap intervals; None where none were asked for.
      excess: what gradient descent with exact line search leaves; None where it was not asked for.
      verdict: Definition 3.1.
      explained: what closed-form heads explain of the harmful labels; None where labels tell no rows apart, or nobody asked.
    """

    ratios: dict[str, ImmunizationRatio]
    share: Share | None
    intervals: RatioIntervals | None
    excess: ExcessCurves | None
    verdict: Verdict
    explained: Explained | None = None


@dataclass(frozen=True)
class Measures:
    """What is measured of an extractor.

    Attributes:
      parts: by part, "train" first and then "heldout", if there are held-out rows.
      groups: ratios of groups of training rows by policy (Eq. 17); None where the extractor is no network.
    """

    parts: dict[str, PartMeasures]
    groups: dict[str, GroupedRatio] | None

    def without_curves(self) -> "Measures":
        """The same but for the long curves of excess loss."""
        return replace(self, parts={name: replace(part, excess=None) for name, part in self.parts.items()})


def measure(
    extractions: Mapping[str, Extraction],
    *,
    seed: int,
    resamples: Callable[[Extraction], int | None] = lambda extraction: None,
    in_groups: bool = False,
    with_curves: bool = True,
) -> Measures:
    """Measures an extractor on all parts.

    Args:
      extractions: by part, "train" among them, which (c)'s probes are fitted on.
      seed: seeds the groups and the resamples.
      resamples: how many a part's intervals take; None makes no intervals.
      in_groups: also measure groups of training rows.
      with_curves: also simulate gradient descent, and fit heads.
    """
    group_key, bootstrap_key = jax.random.split(jax.random.key(seed)) if in_groups else (None, jax.random.key(seed))
    train = extractions["train"]
    ratios = {part: ratios_by_policy(extraction) for part, extraction in extractions.items()}
    parts = {
        part: PartMeasures(
            ratios=ratios[part],
            share=None if extraction.theta is None else share_of_pair(extraction.theta, extraction.before),
            intervals=_intervals(bootstrap_key, extraction, resamples(extraction)),
            excess=excess_curves(extraction) if with_curves else None,
            verdict=definition_3_1(extraction, fit_on=train, ratio=ratios[part][PseudoInverse.__name__]),
            explained=explained_labels(extraction) if with_curves else None,
        )
        for part, extraction in extractions.items()
    }
    return Measures(parts, None if group_key is None else groups_by_policy(train, group_key))


def _intervals(key: jax.Array, extraction: Extraction, resamples: int | None) -> RatioIntervals | None:
    return None if resamples is None else bootstrap_ratio(key, extraction, resamples=resamples)
