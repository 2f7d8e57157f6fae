"""Who fine-tunes: the attackers that a published network is measured against, and that of SOPHON."""

from typing import NamedTuple

from flax import nnx

from cimm_jax.attacks.fine_tuning import FineTuning
from cimm_jax.networks import functional
from cimm_jax.networks.backbone import Backbone
from cimm_jax.networks.lora import widths

__all__ = ["LARGE", "LAST_BLOCKS", "RANKS", "SOPHON", "FineTuners", "keeps_head", "standard_fine_tuners"]

SOPHON = FineTuning("SOPHON's", None, None, "momentum", "new", (1e-4,), batch_size=200)
"""The attacker of Deng et al. (2024, arXiv 2404.12699), who take 20 epochs of all the images; a gentle one."""

RANKS = (1, 4, 16, 64)

LARGE = 64
"""Pixels: larger images are not taken through the whole network, but from the last blocks on, whose activations are kept."""

LAST_BLOCKS = 3
"""That adapters are put on where images are large."""

_TRIED = {"schedule": "cosine", "batch_size": 32}


class FineTuners(NamedTuple):
    """Attackers for one network.

    Attributes:
      attackers: those that can be.
      left_out: those that cannot, by name, each with the reason.
    """

    attackers: tuple[FineTuning, ...]
    left_out: dict[str, str]


def standard_fine_tuners(model: Backbone) -> FineTuners:
    """Those who train the last block, adapters of every rank of `RANKS`, and all weights, by SGD, momentum and AdamW.

    The rates are those that did best on a ResNet20 with 5 and 20 images a class, undefended and from random weights.
    """
    blocks = _blocks(model)
    large = model.config.preprocess.size > LARGE
    cut = blocks[-LAST_BLOCKS] if large else None
    widest = max(widths(functional.split(model, cut).tail).values())
    fit = [rank for rank in RANKS if rank <= widest]
    found = [
        FineTuning("last block", blocks[-1], None, "adamw", "solved", (4e-3, 2e-2), **_TRIED),
        *(FineTuning(f"LoRA {rank}", cut, rank, "adamw", "solved", (1e-2,), **_TRIED) for rank in fit),
    ]
    left_out = {f"LoRA {rank}": f"the widest layer has rank {widest}" for rank in RANKS if rank not in fit}
    everything = (
        FineTuning("SGD", None, None, "sgd", "new", (0.3,), **_TRIED),
        FineTuning("momentum", None, None, "momentum", "new", (0.03, 0.1), **_TRIED),
        FineTuning("AdamW", None, None, "adamw", "solved", (1e-3, 4e-3), **_TRIED),
    )
    kept = FineTuning("momentum, published head", None, None, "momentum", "kept", (0.02, 0.1), **_TRIED)
    if large:
        reason = f"images of {model.config.preprocess.size} pixels are not taken through the whole network"
        return FineTuners(tuple(found), {**left_out, **{one.name: reason for one in (*everything, kept)}})
    return FineTuners((*found, *everything, kept), left_out)


def keeps_head(attacker: FineTuning, classes: int, outputs: int) -> bool:
    """Whether the published head has outputs enough for an attacker of so many classes who keeps it."""
    return attacker.head != "kept" or classes <= outputs


def _blocks(model: Backbone) -> list[str]:
    """The cuts before parts with a linear layer or a convolution, in order."""
    return [cut for cut in model.cuts[:-1] if widths(nnx.state(model.parts[cut], nnx.Param))]
