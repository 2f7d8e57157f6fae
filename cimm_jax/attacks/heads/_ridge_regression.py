"""A linear probe with an intercept in closed form: what the other heads should be compared with."""

from collections.abc import Sequence

import jax

from cimm_jax.attacks.adaptive import ridge_probe_of_factors
from cimm_jax.attacks.heads._features import standardised_target
from cimm_jax.attacks.heads._judging import at_every_record, judged
from cimm_jax.attacks.protocol import Attack, Target, Trace, check_records
from cimm_jax.numerics import losses
from cimm_jax.numerics.products import product


def ridge_regression(*, steps: int = 1, record_at: Sequence[int] | None = None) -> Attack:
    """Ridge regression on standardised features, the ridge chosen by leave-one-out; neither key nor rate is used.

    Unlike `normal_equations` it has an intercept, which no ridge shrinks. It is done after one step: every record is the same.
    Losses are squared ones of the scores.

    Args:
      steps: to report, at least 1.
      record_at: ascending numbers of steps to record; None spaces 40 of them evenly in log.

    Raises:
      InputError: if a number is out of range.
    """
    recorded = check_records(record_at, steps)

    def attack(key: jax.Array, target: Target, rate: jax.Array) -> Trace:
        del key, rate
        target = standardised_target(target)
        mean = target.fit.y.mean(0, keepdims=True)
        probe = ridge_probe_of_factors(target.decomposed(), target.fit.y - mean, centred=True)
        fitted, heldout = (mean + product(task.x, probe) for task in (target.fit, target.heldout))
        return at_every_record(judged(losses.squared, fitted, heldout, target), recorded)

    return attack
