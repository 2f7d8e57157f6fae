"""How much harder the harmful task became, and how much the primary one: Eq. 15 and 17."""

from typing import NamedTuple

import jax

from cimm_jax.measures.extraction import Extraction, as_extraction, extract
from cimm_jax.numerics.spectra import Policy, PseudoInverse, ReleasedCode, Spectrum, feature_condition_number
from cimm_jax.numerics.tall_qr import inputs_in_few_rows
from cimm_jax.tasks import TaskPair

__all__ = ["POLICIES", "ImmunizationRatio", "immunization_ratio", "ratios_by_policy", "relative_immunization_ratio"]

POLICIES: tuple[Policy, ...] = (PseudoInverse(), ReleasedCode())
"""Under which every extractor is measured: the definition, and the rule of published figures."""


class ImmunizationRatio(NamedTuple):
    """The relative immunization ratio with everything it is made of. Every field has the batch shape.

    Attributes:
      rir: harmful_ratio / primary_ratio; above 1, the harmful task became harder relative to the primary one (Eq. 15).
      harmful_ratio: (i), kappa of the harmful task after over before; should be large.
      primary_ratio: (ii), the same for the primary task; should be at most 1.
      harmful: spectrum of the harmful probe Hessian after; its rank and `floored` say what the ratio rests on.
      harmful_reference: the same before.
      primary: spectrum of the primary probe Hessian after.
      primary_reference: the same before.
    """

    rir: jax.Array
    harmful_ratio: jax.Array
    primary_ratio: jax.Array
    harmful: Spectrum
    harmful_reference: Spectrum
    primary: Spectrum
    primary_reference: Spectrum

    @property
    def floored(self) -> jax.Array:
        """True if a floor or the arithmetic decided any of the four condition numbers."""
        spectra = (self.harmful, self.harmful_reference, self.primary, self.primary_reference)
        return spectra[0].floored | spectra[1].floored | spectra[2].floored | spectra[3].floored


def immunization_ratio(extraction: Extraction, policy: Policy = PseudoInverse()) -> ImmunizationRatio:
    """RIR of any extractor, linear or not, from its features (Eq. 15; Eq. 17 for networks). Pure.

    Args:
      extraction: features before and after.
      policy: what counts as a zero singular value. Ratios under different policies are not comparable.

    Raises:
      InputError: as `feature_condition_number`, of which this is four.
    """
    extraction = as_extraction(extraction)

    def spectra(pair: TaskPair, rounding) -> tuple[Spectrum, Spectrum]:
        primary, harmful = (
            feature_condition_number(task.x, policy, amplification=larger)
            for task, larger in zip(pair, rounding, strict=True)
        )
        return primary, harmful

    primary, harmful = spectra(extraction.after, extraction.after_rounding)
    primary_reference, harmful_reference = spectra(extraction.before, extraction.before_rounding)
    harmful_ratio = harmful.kappa / harmful_reference.kappa
    primary_ratio = primary.kappa / primary_reference.kappa
    rir = harmful_ratio / primary_ratio
    return ImmunizationRatio(rir, harmful_ratio, primary_ratio, harmful, harmful_reference, primary, primary_reference)


def relative_immunization_ratio(
    theta: jax.Array, pair: TaskPair, policy: Policy = PseudoInverse(), reference: jax.Array | None = None
) -> ImmunizationRatio:
    """RIR of a linear extractor on a pair of tasks (Eq. 15).

    Args:
      theta: extractor, shape (d, m), of the pair's dtype; float64 for ratios beyond 1e9.
      pair: the tasks, as `extract` takes them; targets are not used. Inputs that are spread over devices by rows are not
        copied to one (`tall_qr.few_rows`).
      policy: what counts as a zero singular value. Ratios under different policies are not comparable.
      reference: the extractor compared with, shape (d, m'); None is the identity.

    Raises:
      InputError: as `extract` and `feature_condition_number`.
    """
    return immunization_ratio(extract(theta, inputs_in_few_rows(pair), reference), policy)


def ratios_by_policy(extraction: Extraction) -> dict[str, ImmunizationRatio]:
    """The ratio under each of `POLICIES`, by the policy's name."""
    return {type(policy).__name__: immunization_ratio(extraction, policy) for policy in POLICIES}
