"""Blocks of a network that `best_response` trains to hide a task, in few steps of small batches, as one core affords often."""

from cimm_jax import methods
from cimm_jax.networks import functional
from cimm_jax.networks.backbone import Backbone
from cimm_jax.networks.features import Labelled
from cimm_jax.networks.head import head_of
from cimm_jax.networks.training import TrainingSettings, train_tail
from cimm_jax.numerics.threads import blas_threads_for

METHOD = "best_response"
BATCH = {"batch_rows": 48, "harmful_rows": 96}
"""Rows of each task in a step, where there are so many."""


def trained_to_hide(
    network: Backbone, cut: str, primary: Labelled, harmful: Labelled, *, seed: int, steps: int
) -> Backbone:
    """The network with the blocks from a cut on trained by the method's recipe.

    Args:
      network: published, with its head.
      cut: where training begins.
      primary: activations there and labels of the task that is kept.
      harmful: of the one that is hidden, labels from 0.
      seed: of the order of the rows.
      steps: how many.

    Raises:
      InputError: as `train_tail`.
    """
    method = methods.by_name(METHOD)()
    rows = {name: min(BATCH[name], len(of.labels)) for name, of in zip(BATCH, (primary, harmful), strict=True)}
    settings = TrainingSettings(**{**dict(method.recipe), **rows, "steps": steps, "seed": seed})
    parts = functional.split(network, cut)
    with blas_threads_for(len(head_of(network).kernel)):
        trained = train_tail(
            parts, cut, primary, harmful, penalties=method.penalties or (), few=method.few, settings=settings
        )
    return functional.merge(trained.parts)
