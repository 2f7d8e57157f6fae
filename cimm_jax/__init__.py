"""cimm_jax: model immunization in JAX.

Make a feature extractor hard to fine-tune for a harmful task while its primary task stays as good and as easy, and
measure how hard. Everything is pure functions on arrays and pytrees. Use float64 (`jax.enable_x64(True)`) where the answer
is a condition number.
"""

from cimm_jax import attacks, losses, methods
from cimm_jax.attacks import relative_finetuning_deviation
from cimm_jax.diagnose import diagnose
from cimm_jax.errors import InputError
from cimm_jax.heads import absorb
from cimm_jax.hessian import covariance, probe_hessian, streamed_covariance
from cimm_jax.methods import immunize
from cimm_jax.metrics import judge, relative_immunization_ratio
from cimm_jax.pencil import pencil_limit
from cimm_jax.regularizers import r_ill, r_well
from cimm_jax.spectra import (
    PseudoInverse,
    ReleasedCode,
    Ridge,
    Spectrum,
    condition_number,
    feature_condition_number,
    log_condition_number,
)
from cimm_jax.tasks import SplitPair, Task, TaskPair, stack_pairs

__all__ = [
    "InputError",
    "PseudoInverse",
    "ReleasedCode",
    "Ridge",
    "Spectrum",
    "SplitPair",
    "Task",
    "TaskPair",
    "absorb",
    "attacks",
    "condition_number",
    "covariance",
    "diagnose",
    "feature_condition_number",
    "immunize",
    "judge",
    "log_condition_number",
    "losses",
    "methods",
    "pencil_limit",
    "probe_hessian",
    "r_ill",
    "r_well",
    "relative_finetuning_deviation",
    "relative_immunization_ratio",
    "stack_pairs",
    "streamed_covariance",
]
