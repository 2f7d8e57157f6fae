"""Who fine-tunes: the attackers that a published network is measured against, and that of SOPHON."""

from typing import NamedTuple

from flax import nnx

from cimm_jax.attacks.fine_tuning import FineTuning
from cimm_jax.networks.backbone import Backbone
from cimm_jax.networks.lora import widths

__all__ = ["RANKS", "SOPHON", "FineTuners", "last_block", "standard_fine_tuners"]

SOPHON = FineTuning("SOPHON's", None, None, "momentum", "new", (1e-4,), batch_size=200)
"""The attacker of Deng et al. (2024, arXiv 2404.12699), who take 20 epochs of all the images; a gentle one."""

RANKS = (1, 4, 16, 64)


class FineTuners(NamedTuple):
    """Attackers for one network.

    Attributes:
      attackers: those that can be.
      left_out: those that cannot, each as "name: reason".
    """

    attackers: tuple[FineTuning, ...]
    left_out: tuple[str, ...]


def last_block(model: Backbone) -> str:
    """The last cut that leaves a linear layer or a convolution in the tail."""
    return next(cut for cut in reversed(model.cuts[:-1]) if widths(nnx.state(model.parts[cut], nnx.Param)))


def standard_fine_tuners(model: Backbone) -> FineTuners:
    cut = last_block(model)
    widest = max(widths(nnx.state(model.parts, nnx.Param)).values())
    ranks = [rank for rank in RANKS if rank <= widest]
    found = [FineTuning("last block", cut, None, "adamw", "solved", (1e-3, 1e-2), schedule="warmup")]
    found += [FineTuning(f"LoRA {rank}", None, rank, "adamw", "solved", (1e-2,), schedule="warmup") for rank in ranks]
    found += [
        FineTuning("all, momentum", None, None, "momentum", "new", (0.02, 0.1), schedule="warmup"),
        FineTuning("all, AdamW", None, None, "adamw", "solved", (1e-3, 3e-3), schedule="warmup"),
    ]
    return FineTuners(tuple(found), ())
