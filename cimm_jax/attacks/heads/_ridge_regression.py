"""A linear probe with an intercept in closed form: what the other heads should be compared with."""

from collections.abc import Sequence

import jax

from cimm_jax.attacks.adaptive import ridge_probe_of_factors
from cimm_jax.attacks.heads._features import centred_target, standardised_target
from cimm_jax.attacks.heads._judging import at_every_record, judged
from cimm_jax.attacks.protocol import Attack, Target, Trace, check_records
from cimm_jax.numerics import losses
from cimm_jax.numerics.products import product


def ridge_regression(*, standardised: bool = True, steps: int = 1, record_at: Sequence[int] | None = None) -> Attack:
    """Ridge regression; the rate is the ridge, over the one that leave-one-out errors choose. No key is used.

    That choice is of squared errors; with many classes and few rows of each, the most accurate ridge is another.

    Unlike `normal_equations` it has an intercept, which no ridge shrinks. It is done after one step: every record is the same.
    Losses are squared ones of the scores.

    Args:
      standardised: features before the ridge shrinks, so that all weigh alike; if not, those that vary more are shrunk less,
        which does better where what varies little is noise.
      steps: to report, at least 1.
      record_at: ascending numbers of steps to record; None spaces 40 of them evenly in log.

    Raises:
      InputError: if a number is out of range.
    """
    recorded = check_records(record_at, steps)

    def attack(key: jax.Array, target: Target, rate: jax.Array) -> Trace:
        del key
        target = standardised_target(target) if standardised else centred_target(target)
        mean = target.fit.y.mean(0, keepdims=True)
        probe = ridge_probe_of_factors(target.decomposed(), target.fit.y - mean, centred=True, times=rate)
        fitted, heldout = (mean + product(task.x, probe) for task in (target.fit, target.heldout))
        return at_every_record(judged(losses.squared, fitted, heldout, target), recorded)

    return attack
