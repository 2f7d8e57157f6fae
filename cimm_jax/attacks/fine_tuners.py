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


def standard_fine_tuners(model: Backbone, *, classes: int) -> FineTuners:
    """Attackers of the last block, with low-rank adapters and of all weights, each with two rates to choose from.

    Their rates, batches and schedule are good for a few images a class and about 80 steps. Whoever would keep the published
    head is left out where it has fewer outputs than there are classes, and a rank where no layer is that wide.

    Args:
      model: the published network.
      classes: how many classes they tell apart.
    """
    block, widest = last_block(model), max(widths(nnx.state(model.parts, nnx.Param)).values())
    possible = [_few_images("last block", "adamw", "solved", (4e-3, 2e-2), cut=block)]
    possible += [
        _few_images(f"LoRA rank {rank}", "adamw", "solved", (1e-2, 3e-2), rank=rank) for rank in RANKS if rank <= widest
    ]
    left_out = [f"LoRA rank {rank}: the widest layer has full rank {widest}" for rank in RANKS if rank > widest]
    possible += [
        _few_images("all weights, new head, momentum", "momentum", "new", (0.02, 0.1)),
        _few_images("all weights, solved head, AdamW", "adamw", "solved", (1e-3, 4e-3)),
        _few_images("all weights, solved head, SGD", "sgd", "solved", (0.2, 1.0)),
    ]
    kept = _few_images("all weights, published head, momentum", "momentum", "kept", (0.02, 0.1))
    if model.config.classes >= classes:
        possible.append(kept)
    else:
        left_out.append(f"{kept.name}: it has {model.config.classes} outputs for {classes} classes")
    return FineTuners(tuple(possible), tuple(left_out))


def _few_images(
    name: str, optimizer: str, head: str, rates: tuple[float, ...], cut: str | None = None, rank: int | None = None
) -> FineTuning:
    return FineTuning(name, cut, rank, optimizer, head, rates, batch_size=32, schedule="cosine")
