"""Attackers who change the network's weights: all of them, those of its end, or a low-rank change of every kernel.

    attack = fine_tune(FineTuning("all weights", optimizer="adamw"), classes=10)
    tuned = attack(key, victim, rate, steps)

How many images they have and how many steps they take are traced, so that one program serves every budget; so are the rate and
the key, so that `vmap` runs many. On a CPU `jax.lax.map` is quicker: `vmap` makes grouped convolutions of convolutions by many
kernels, and XLA's are slow there.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from cimm_jax.attacks.first_heads import HEADS, check_head, first_head
from cimm_jax.attacks.optimizers import SCHEDULES
from cimm_jax.attacks.victim import BATCH_ROWS, STATISTICS, Tunable, Victim, Weights, check_victim, cut_of
from cimm_jax.errors import InputError, check_count
from cimm_jax.networks.backbone import FEATURES
from cimm_jax.networks.lora import adapters
from cimm_jax.numerics.inputs import is_concrete
from cimm_jax.numerics.products import product
from cimm_jax.tasks import Array

__all__ = ["OPTIMIZERS", "FineTuning", "Tuned", "Victim", "fine_tune"]

OPTIMIZERS = {
    "sgd": lambda: optax.sgd(1.0),
    "momentum": lambda: optax.sgd(1.0, momentum=0.9),
    "adamw": lambda: optax.adamw(1.0),
}
"""Each with a rate of 1; its updates are multiplied by the rate."""


@dataclass(frozen=True)
class FineTuning:
    """One attacker.

    Attributes:
      name: what they are called.
      cut: what is before it stays as it is; None trains from the first part on.
      rank: of low-rank adapters (`networks.lora`), the published weights fixed; None trains all weights behind the cut.
      optimizer: "sgd", "momentum" or "adamw".
      head: what the head starts from: "new", "kept" or "solved" (`first_heads.HEADS`). It is trained in full.
      rates: learning rates that are worth a try.
      batch_size: rows a step, drawn with replacement.
      epochs: times through the attacker's images that they ask for; None leaves the number of steps to whoever runs them.
      schedule: course of the rate: "constant", "cosine" or "warmup" (linear over the first tenth, then cosine).
      statistics: what batch normalisations normalise by in training: those of the "batch", and for judging those of the
        attacker's images; or the "stored" ones throughout.
    """

    name: str
    cut: str | None = None
    rank: int | None = None
    optimizer: str = "momentum"
    head: str = "new"
    rates: tuple[float, ...] = (0.01, 0.1)
    batch_size: int = 64
    schedule: str = "constant"
    statistics: str = "batch"
    epochs: int | None = None

    def steps(self, images: int, otherwise: int) -> int:
        """How many they make with so many images: those of their epochs, or another number."""
        return otherwise if self.epochs is None else -(-self.epochs * images // self.batch_size)

    def __post_init__(self):
        known = {"optimizer": OPTIMIZERS, "head": HEADS, "schedule": SCHEDULES, "statistics": STATISTICS}
        for setting, names in known.items():
            if getattr(self, setting) not in names:
                raise InputError(f"{setting}: {getattr(self, setting)!r} is unknown; choose one of {', '.join(names)}")
        if self.cut == FEATURES:
            raise InputError(f"cut: no weights are behind {FEATURES!r}; choose an earlier one")
        if self.rank is not None:
            check_count(self.rank, "rank")
        check_count(self.batch_size, "batch_size")
        if self.epochs is not None:
            check_count(self.epochs, "epochs")
        if not self.rates or not all(0 < rate < float("inf") for rate in self.rates):
            raise InputError(f"rates: need positive finite numbers, at least one, got {self.rates}")


class Tuned(NamedTuple):
    """What fine-tuning came to, at equal distances up to the last step.

    Attributes:
      accuracy: share of held-out rows classified rightly, shape (records,); 0 once the attack has diverged.
      loss: cross-entropy of the batch fitted last, shape (records,); once it is no finite number, the last that was.
      primary_accuracy: share of primary rows that the published head classifies rightly on the tuned features, shape
        (records,); 0 once the attack has diverged, NaN if the victim has no head or no primary rows.
      diverged: bool, shape (records,): a loss, or a logit of a held-out row, was no finite number.
    """

    accuracy: jax.Array
    loss: jax.Array
    primary_accuracy: jax.Array
    diverged: jax.Array


class _Trained(NamedTuple):
    """What a step changes.

    Attributes:
      weights: of the network.
      kernel: of the head, shape (k, classes).
      bias: of the head, shape (classes,).
    """

    weights: Weights
    kernel: jax.Array
    bias: jax.Array


class _Carried(NamedTuple):
    """What goes from step to step.

    Attributes:
      trained: weights and head.
      optimizer: its state.
      loss: of the last batch whose loss was finite.
      diverged: whether that of any was not.
    """

    trained: _Trained
    optimizer: optax.OptState
    loss: jax.Array
    diverged: jax.Array


@cache
def fine_tune(
    settings: FineTuning, *, classes: int, records: int = 4
) -> Callable[[jax.Array, Victim, Array | float, Array | int], Tuned]:
    """An attacker who fits the cross-entropy: (key, victim, rate, steps) -> `Tuned`, pure and compiled.

    Record i of n is made after ceil(i steps / n) steps. Equal settings give the same function, so that it is compiled once for
    all victims of the same shapes.

    Args:
      settings: who they are.
      classes: how many classes they tell apart, at least 2.
      records: how often they are judged, at least 1.

    Raises:
      InputError: if classes or records are too few. What is returned raises it as `check_victim` and `check_head` do, if `rank`
        is above the width of every layer (`lora.adapters`), or if the steps are known and below 1.
    """
    check_count(records, "records")
    if classes < 2:
        raise InputError(f"classes: needs at least 2, got {classes}")

    @jax.jit
    def run(key: jax.Array, victim: Victim, rate: jax.Array, steps: jax.Array) -> Tuned:
        tunable = Tunable(victim, cut_of(victim, settings.cut), settings.statistics)
        return _run(settings, tunable, classes, records, key, rate, steps)

    def attack(key: jax.Array, victim: Victim, rate: Array | float, steps: Array | int) -> Tuned:
        check_victim(victim, cut_of(victim, settings.cut))
        check_head(settings.head, victim, classes)
        if is_concrete(jnp.asarray(steps)):
            check_count(int(steps), "steps")
        return run(key, victim, jnp.asarray(rate), jnp.asarray(steps, jnp.int32))

    return attack


def _run(
    settings: FineTuning,
    tunable: Tunable,
    classes: int,
    records: int,
    key: jax.Array,
    rate: jax.Array,
    steps: jax.Array,
) -> Tuned:
    of_adapters, of_batches = jax.random.split(key)
    optimizer = OPTIMIZERS[settings.optimizer]()
    kernel, bias = first_head(settings.head, tunable, classes)
    dtype = kernel.dtype

    def loss_of(trained: _Trained, x: jax.Array, labels: jax.Array) -> jax.Array:
        logits = _logits(tunable.training_features(trained.weights, x), trained.kernel, trained.bias)
        return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def step(number: jax.Array, carried: _Carried) -> _Carried:
        drawn = jax.random.fold_in(of_batches, number)
        rows = jax.random.randint(drawn, (settings.batch_size,), 0, tunable.count, jnp.int32)
        loss, gradient = jax.value_and_grad(loss_of)(carried.trained, *tunable.rows(rows))
        updates, inner = optimizer.update(gradient, carried.optimizer, carried.trained)
        now = rate.astype(dtype) * _share(settings.schedule, number, steps, dtype)
        trained = jax.tree.map(lambda value, update: value + now * update, carried.trained, updates)
        finite = jnp.isfinite(loss)
        return _Carried(trained, inner, jnp.where(finite, loss, carried.loss), carried.diverged | ~finite)

    def record(carried: _Carried, number: jax.Array) -> tuple[_Carried, Tuned]:
        begin, end = (-(-i * steps // records) for i in (number, number + 1))
        carried = jax.lax.fori_loop(begin, end, step, carried)
        accuracy, primary, finite = _judged(tunable, carried.trained)
        carried = carried._replace(diverged=carried.diverged | ~finite)
        shares = (jnp.where(carried.diverged, 0, share) for share in (accuracy, primary))
        accuracy, primary = (share.astype(dtype) for share in shares)
        return carried, Tuned(accuracy, carried.loss, primary, carried.diverged)

    weights = tunable.published if settings.rank is None else adapters(tunable.published, settings.rank, of_adapters)
    trained = _Trained(weights, kernel, bias)
    guess = jnp.full((), math.log(classes), dtype)
    first = _Carried(trained, optimizer.init(trained), guess, jnp.zeros((), bool))
    tuned = jax.lax.scan(record, first, jnp.arange(records, dtype=jnp.int32))[1]
    if tunable.victim.head is None or tunable.victim.primary_x is None:
        return tuned._replace(primary_accuracy=jnp.full(records, jnp.nan, dtype))
    return tuned


def _judged(tunable: Tunable, trained: _Trained) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Accuracy on held-out rows, that on primary ones (0 if nobody can tell), and whether all held-out logits are finite."""
    victim, stored = tunable.victim, tunable.served_statistics(trained.weights)

    def share_right(x: Array, labels: Array, kernel: Array, bias: Array) -> tuple[jax.Array, jax.Array]:
        rows = min(BATCH_ROWS, len(x))

        def look(begin: jax.Array) -> tuple[jax.Array, jax.Array]:
            numbers = begin + jnp.arange(rows, dtype=jnp.int32)
            inside = jnp.minimum(numbers, len(x) - 1)
            features = tunable.features(trained.weights, stored, jnp.asarray(x)[inside])
            logits = _logits(features, jnp.asarray(kernel), jnp.asarray(bias))
            right = (logits.argmax(1) == jnp.asarray(labels)[inside]) & (numbers < len(x))
            return right.sum(), jnp.isfinite(logits).all()

        right, finite = jax.lax.map(look, jnp.arange(0, len(x), rows, dtype=jnp.int32))
        return right.sum() / len(x), finite.all()

    accuracy, finite = share_right(victim.heldout_x, victim.heldout_labels, trained.kernel, trained.bias)
    if victim.head is None or victim.primary_x is None or victim.primary_labels is None:
        return accuracy, jnp.zeros_like(accuracy), finite
    primary, _ = share_right(victim.primary_x, victim.primary_labels, *victim.head)
    return accuracy, primary, finite


def _logits(features: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    return product(features, kernel) + bias[None]


def _share(schedule: str, number: jax.Array, steps: jax.Array, dtype) -> jax.Array:
    """`optimizers.Schedule` for a traced number of steps: the share of the rate that a step takes."""
    if schedule == "constant":
        return jnp.ones((), dtype)
    warm = jnp.maximum(1, steps // 10) if schedule == "warmup" else jnp.zeros_like(steps)
    rising = number.astype(dtype) / jnp.maximum(1, warm).astype(dtype)
    passed = (number - warm).astype(dtype) / jnp.maximum(1, steps - warm).astype(dtype)
    return jnp.where(number < warm, rising, (1 + jnp.cos(jnp.pi * jnp.minimum(passed, 1))) / 2)
