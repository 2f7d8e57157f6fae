"""What somebody downloads: a network, perhaps a map behind its features, and the head on them."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cimm_jax.closed_form.heads import Head

if TYPE_CHECKING:
    from cimm_jax.networks.backbone import Backbone

__all__ = ["Published"]


class Published(NamedTuple):
    """A network as it is published.

    Attributes:
      network: its weights.
      mapping: linear map behind its features, shape (d, k), float32; None if there is none.
      head: the primary head, on mapped features.
    """

    network: "Backbone"
    mapping: np.ndarray | None
    head: Head

    def mapped(self, features: np.ndarray) -> np.ndarray:
        """What the head looks at, float32."""
        plain = np.asarray(features, np.float32)
        return plain if self.mapping is None else plain @ self.mapping
