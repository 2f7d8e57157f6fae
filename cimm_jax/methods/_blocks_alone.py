"""Methods that train blocks of a network against a head of the harmful classes which is kept, and make no map."""

from collections.abc import Callable
from typing import Any, NoReturn

import jax
import optax

from cimm_jax.errors import InputError, check_count
from cimm_jax.methods._hiding import RECIPE
from cimm_jax.methods.protocol import Method
from cimm_jax.numerics.penalty import KeptHead, Opposed, Penalty, check_weight
from cimm_jax.numerics.trained_weights import FewWeights, Renewal

__all__ = ["HEAD_STEPS", "blocks_alone", "check_positive", "check_share", "harmful_loss"]

HEAD_STEPS = 100
"""Of a kept head, for each of the network's. One that lags behind is deceived, and the next one reads what deceived it."""


def blocks_alone(
    value: Callable[[Opposed], jax.Array],
    called: str,
    *,
    weight: float | None,
    head_steps: int,
    few: FewWeights | None = None,
    renewal: Renewal | None = None,
) -> Method:
    """The method with one penalty, by the recipe of `best_response`.

    Args:
      value: the penalty, of what the kept head says of the features.
      called: its name with its settings; checkpoints tell penalties apart by it.
      weight: of it, `lambda_harmful` in messages; None balances it.
      head_steps: of the head, for each of the network's.
      few: which weights alone move; None moves all.
      renewal: what becomes of the weights in the middle; None leaves them.

    Raises:
      InputError: if a number is out of range.
    """
    check_count(head_steps, "head_steps")
    value.__qualname__ = called
    penalty = Penalty(value, check_weight(weight, "lambda_harmful"), against=KeptHead(head_steps))

    def refuse(*_: Any) -> NoReturn:
        raise InputError("method: trains blocks of a network and makes no map")

    return Method(
        *(refuse, refuse, refuse), penalties=(penalty,), makes_maps=False, few=few, renewal=renewal, recipe=RECIPE
    )


def harmful_loss(shown: Opposed) -> jax.Array:
    """Mean cross-entropy of the kept head on the harmful rows."""
    return optax.losses.softmax_cross_entropy(shown.scores, shown.batch.harmful.y).mean()


def check_positive(**settings: float) -> None:
    """Raises `InputError` unless all are positive and finite."""
    for name, value in settings.items():
        if not 0 < value < float("inf"):
            raise InputError(f"{name}: needs a positive finite number, got {value}")


def check_share(value: float, argument: str, *, below_one: bool = False) -> None:
    """Raises `InputError` unless it is above 0 and at most 1, or below it."""
    if not 0 < value <= 1 or (below_one and value == 1):
        raise InputError(f"{argument}: needs a share above 0 and {'below' if below_one else 'at most'} 1, got {value}")
