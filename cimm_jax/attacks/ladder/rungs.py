"""The rungs of the ladder: what an attacker may touch."""

from dataclasses import dataclass

__all__ = ["ANY", "FINE_TUNING", "HEADS", "LAYERS", "LINEAR", "PROBES", "RUNGS", "Rung"]


@dataclass(frozen=True)
class Rung:
    """A family of attackers.

    Attributes:
      number: from 0.
      name: in pictures and tables.
      who: what they do, as in "linear probes fitted by any means".
    """

    number: int
    name: str
    who: str


PROBES, LINEAR, HEADS, LAYERS, FINE_TUNING = range(5)
RUNGS = (
    Rung(PROBES, "gradients", "linear probes on the features, fitted by following gradients"),
    Rung(LINEAR, "linear", "linear probes on the features by any means: whitened, standardised, solved"),
    Rung(HEADS, "nonlinear", "nonlinear heads on the features: neighbours, kernels, perceptrons"),
    Rung(
        LAYERS, "layers", "linear and nonlinear heads on the pooled activations of any layer, and of several together"
    ),
    Rung(FINE_TUNING, "fine-tuning", "fine-tuning: the last block, low-rank adapters, all weights"),
)
"""In order. What training from random weights gets is the floor of the last one, not a rung."""

ANY = Rung(len(RUNGS), "any", "the best of all of them")
