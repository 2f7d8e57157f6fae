"""What `import cimm_jax` shows; it is loaded when the first of these names is used."""

from importlib.metadata import version as _version

from cimm_jax import attacks, methods
from cimm_jax.attacks import relative_finetuning_deviation
from cimm_jax.class_targets import one_hot
from cimm_jax.closed_form.heads import absorb
from cimm_jax.closed_form.pencil import pencil_limit
from cimm_jax.errors import InputError
from cimm_jax.measures.definition import definition_3_1, judge
from cimm_jax.measures.diagnosis import diagnose
from cimm_jax.measures.extraction import Extraction, extract
from cimm_jax.measures.ratios import immunization_ratio, relative_immunization_ratio
from cimm_jax.methods import immunize
from cimm_jax.numerics import losses
from cimm_jax.numerics.hessian import covariance, probe_hessian, streamed_covariance
from cimm_jax.numerics.regularizers import r_ill, r_well
from cimm_jax.numerics.spectra import (
    PseudoInverse,
    ReleasedCode,
    Ridge,
    Spectrum,
    condition_number,
    feature_condition_number,
    log_condition_number,
)
from cimm_jax.tasks import SplitPair, Task, TaskPair, stack_pairs

__version__ = _version("cimm_jax")

__all__ = [
    "Extraction",
    "InputError",
    "PseudoInverse",
    "ReleasedCode",
    "Ridge",
    "Spectrum",
    "SplitPair",
    "Task",
    "TaskPair",
    "__version__",
    "absorb",
    "attacks",
    "condition_number",
    "covariance",
    "definition_3_1",
    "diagnose",
    "extract",
    "feature_condition_number",
    "immunization_ratio",
    "immunize",
    "judge",
    "log_condition_number",
    "losses",
    "methods",
    "one_hot",
    "pencil_limit",
    "probe_hessian",
    "r_ill",
    "r_well",
    "relative_finetuning_deviation",
    "relative_immunization_ratio",
    "stack_pairs",
    "streamed_covariance",
]
