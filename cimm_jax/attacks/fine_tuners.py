"""Who fine-tunes: the attackers that a published network is measured against, and that of SOPHON."""

from typing import NamedTuple

from flax import nnx

from cimm_jax.attacks.fine_tuning import FineTuning
from cimm_jax.networks import functional
from cimm_jax.networks.backbone import Backbone
from cimm_jax.networks.lora import widths

__all__ = ["LAST_BLOCKS", "RANKS", "SOPHON", "FineTuners", "last_block", "standard_fine_tuners"]

SOPHON = FineTuning("SOPHON's", None, None, "momentum", "new", (1e-4,), batch_size=200, epochs=20)
"""The attacker of Deng et al. (2024, arXiv 2404.12699): SGD at 1e-4, a gentle rate, for 20 epochs."""

RANKS = (1, 4, 16, 64)

LAST_BLOCKS = 3
"""That adapters are put on there."""


class FineTuners(NamedTuple):
    """Attackers for one network.

    Attributes:
      attackers: those that can be.
      left_out: those that cannot, each as "name: reason".
    """

    attackers: tuple[FineTuning, ...]
    left_out: tuple[str, ...]


def last_block(model: Backbone) -> str:
    """The last cut that leaves a linear layer or a convolution in the tail; there needs to be one."""
    return _blocks(model)[-1]


def standard_fine_tuners(model: Backbone, *, classes: int) -> FineTuners:
    """Attackers of the last block, with low-rank adapters and of all weights.

    Their rates, batches and schedule are good for a few images a class and some 40 steps, on the published network as well as
    from random weights. Whoever would keep the published head is left out where it has fewer outputs than there are classes, a
    rank where no layer is that wide, and all weights where inputs are `large` (`Preprocess`): adapters are of the last blocks
    then. Of a network that is a function nobody knows the layers, and a table of words has none: only all weights are trained.

    Args:
      model: the published network.
      classes: how many classes they tell apart.
    """
    blocks, adapted_from = _blocks(model), None
    if large := bool(blocks) and model.config.preprocess.large:
        adapted_from = blocks[-LAST_BLOCKS:][0]
    widest = max(widths(functional.split(model, adapted_from).tail).values(), default=0)
    ranks = [rank for rank in RANKS if rank <= widest]
    possible = [_few_images("last block", "adamw", "solved", (4e-3, 2e-2), cut=cut) for cut in blocks[-1:]]
    possible += [
        _few_images(f"LoRA rank {rank}", "adamw", "solved", (1e-2,), cut=adapted_from, rank=rank) for rank in ranks
    ]
    left_out = [f"LoRA rank {rank}: the widest layer has full rank {widest}" for rank in RANKS if rank not in ranks]
    everything = [
        _few_images("all weights, new head, momentum", "momentum", "new", (0.1,)),
        _few_images("all weights, solved head, AdamW", "adamw", "solved", (1e-3, 4e-3)),
        _few_images("all weights, solved head, SGD", "sgd", "solved", (0.2,)),
        _few_images("all weights, published head, momentum", "momentum", "kept", (0.1,)),
    ]
    for attacker in everything:
        if large:
            left_out.append(f"{attacker.name}: {model.config.preprocess.described} go through the last blocks only")
        elif attacker.head == "kept" and model.head.out_features < classes:
            left_out.append(f"{attacker.name}: it has {model.head.out_features} outputs for {classes} classes")
        else:
            possible.append(attacker)
    return FineTuners(tuple(possible), tuple(left_out))


def _blocks(model: Backbone) -> list[str]:
    """The cuts before parts with a linear layer or a convolution, in order."""
    return [cut for cut in model.cuts[:-1] if widths(nnx.state(model.parts[cut], nnx.Param))]


def _few_images(
    name: str, optimizer: str, head: str, rates: tuple[float, ...], cut: str | None = None, rank: int | None = None
) -> FineTuning:
    return FineTuning(name, cut, rank, optimizer, head, rates, batch_size=32, schedule="cosine")
