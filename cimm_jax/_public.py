"""What `import cimm_jax` shows, loaded when the first of these names is used; the front door when one of its own is."""

from importlib import import_module as _import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

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
from cimm_jax.numerics.covariance_sums import CovarianceSum
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
from cimm_jax.tasks import SplitPair, Task, TaskPair, join_tasks, stack_pairs

if _TYPE_CHECKING:
    from cimm_jax.front.estimator import Immunizer
    from cimm_jax.front.protecting import Protected, protect

__version__ = _version("cimm_jax")

__all__ = [
    "CovarianceSum",
    "Extraction",
    "Immunizer",
    "InputError",
    "Protected",
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
    "join_tasks",
    "judge",
    "log_condition_number",
    "losses",
    "methods",
    "one_hot",
    "pencil_limit",
    "probe_hessian",
    "protect",
    "r_ill",
    "r_well",
    "relative_finetuning_deviation",
    "relative_immunization_ratio",
    "stack_pairs",
    "streamed_covariance",
]

_FRONT = {
    "Immunizer": "cimm_jax.front.estimator",
    "Protected": "cimm_jax.front.protecting",
    "protect": "cimm_jax.front.protecting",
}
"""Where the names are that bring scikit-learn or the commands along."""


def __getattr__(name: str) -> _Any:
    if name not in _FRONT:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
    return getattr(_import_module(_FRONT[name]), name)
