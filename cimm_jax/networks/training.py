"""Trains the last blocks of a network behind its cached trunk: the primary loss, and what a method adds to it.

    params <- params - eta (grad L + sum_i lambda_i grad penalty_i),     params = tail and head

Stored statistics of batch normalisations stay as they are, so that the trunk's cached outputs stay right.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cimm_jax.class_targets import one_hot
from cimm_jax.errors import InputError
from cimm_jax.networks import functional
from cimm_jax.networks.batches import paired_batches
from cimm_jax.networks.features import Labelled
from cimm_jax.networks.functional import Split
from cimm_jax.numerics.penalty import Penalty
from cimm_jax.resuming import Checkpoint, checksum
from cimm_jax.tasks import Task, TaskPair

__all__ = ["State", "Trained", "TrainingSettings", "train_tail"]


@dataclass(frozen=True)
class TrainingSettings:
    """How the tail is trained.

    Attributes:
      epochs: times through the longer data set.
      batch_rows: rows of each task in a step.
      learning_rate: the highest, of SGD with Nesterov momentum 0.9.
      warmup: share of the steps over which the rate rises; it then falls along a cosine.
      label_smoothing: share of a target that goes to all classes alike.
      strength: how many times as long as the primary loss's the first gradient of a penalty is made whose weight is balanced.
      seed: seeds the order of the rows.
    """

    epochs: int = 2
    batch_rows: int = 64
    learning_rate: float = 1e-3
    warmup: float = 0.1
    label_smoothing: float = 0.0
    strength: float = 1.0
    seed: int = 0

    def __post_init__(self):
        if self.epochs < 1:
            raise InputError(f"epochs: needs at least 1, got {self.epochs}")
        if not 0 < self.learning_rate < float("inf"):
            raise InputError(f"learning_rate: needs a positive finite number, got {self.learning_rate}")
        if not 0 < self.strength < float("inf"):
            raise InputError(f"strength: needs a positive finite number, got {self.strength}")
        for name in ("warmup", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name}: needs a number from 0 to below 1, got {getattr(self, name)}")


class Trained(NamedTuple):
    """The result.

    Attributes:
      parts: the network with its new tail and head.
      losses: primary loss at each step, shape (steps,).
      weights: lambda of each penalty, balanced ones filled in.
      observed: what `observe` said before the first epoch and after each.
    """

    parts: Split
    losses: np.ndarray
    weights: np.ndarray
    observed: list[Any]


class State(NamedTuple):
    """What a step changes.

    Attributes:
      params: tail and head.
      optimizer: state of the optimizer.
      weights: lambda of each penalty, shape (penalties,).
    """

    params: Any
    optimizer: Any
    weights: jax.Array


def train_tail(
    parts: Split,
    cut: str,
    primary: Labelled,
    harmful: Labelled,
    *,
    penalties: Sequence[Penalty] = (),
    settings: TrainingSettings = TrainingSettings(),
    checkpoint: Checkpoint | None = None,
    observe: Callable[[Split], Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Trained:
    """Trains the tail. Without penalties it is plain training on the primary task.

    Args:
      parts: the network, split at the cut (`functional.split`).
      cut: where.
      primary: the primary task's activations at the cut, shape (N, ...), and labels.
      harmful: the harmful one.
      penalties: of a method (`Method.penalties`).
      settings: how.
      checkpoint: where to save on the way, at the least after each epoch, and to go on from, if it is of the same settings,
        penalties, labels and network; whoever makes it says what the activations depend on.
      observe: is shown the network before the first epoch and after each; says something that JSON can hold.
      progress: called with the number of steps made.

    Raises:
      InputError: if a batch is larger than a data set.
    """
    counts = len(primary.labels), len(harmful.labels)
    per_epoch = len(list(paired_batches(*counts, settings.batch_rows, epoch=0, seed=settings.seed)))
    optimizer = _optimizer(settings, per_epoch * settings.epochs)
    classes = int(harmful.labels.max()) + 1
    penalties = tuple(penalties)
    step = jax.jit(
        partial(_step, cut=cut, penalties=penalties, optimizer=optimizer, smoothing=settings.label_smoothing)
    )
    balance = jax.jit(
        partial(
            _balanced,
            cut=cut,
            penalties=penalties,
            smoothing=settings.label_smoothing,
            strength=settings.strength,
        )
    )
    params = (parts.tail, parts.head)
    state = State(params, optimizer.init(params), jnp.zeros(len(penalties), jnp.float32))
    begun: dict[str, Any] = {"epoch": 0, "made": 0, "losses": [], "observed": []}
    if checkpoint is not None:
        checkpoint = checkpoint.that_depends_on(**_depends_on(parts, cut, primary, harmful, penalties, settings))
        state, begun = checkpoint.restore(lambda notes: state) or (state, begun)
    found, observed = begun["losses"], begun["observed"]
    if observe is not None and not observed:
        observed.append(observe(parts))
    for epoch in range(begun["epoch"], settings.epochs):
        made = begun["made"] if epoch == begun["epoch"] else 0
        batches = paired_batches(*counts, settings.batch_rows, epoch=epoch, seed=settings.seed)
        for number, (p, h) in enumerate(islice(batches, made, None), made):
            targets = one_hot(harmful.labels[h], classes).astype(np.float32)
            data = (primary.x[p], primary.labels[p], harmful.x[h], targets)
            if epoch == number == 0:
                state = state._replace(weights=balance(state.params, parts, data))
            state, loss = step(state, parts, data)
            found.append(loss)
            if checkpoint is not None:
                notes = {"epoch": epoch, "made": number + 1, "losses": found, "observed": observed}
                checkpoint.offer(state, notes)
            if progress is not None:
                progress(epoch * per_epoch + number + 1)
        if observe is not None:
            observed.append(observe(_with(parts, state)))
        if checkpoint is not None:
            checkpoint.save(state, {"epoch": epoch + 1, "made": 0, "losses": found, "observed": observed})
    return Trained(
        _with(parts, state), np.asarray([float(loss) for loss in found]), np.asarray(state.weights), observed
    )


def _depends_on(
    parts: Split,
    cut: str,
    primary: Labelled,
    harmful: Labelled,
    penalties: tuple[Penalty, ...],
    settings: TrainingSettings,
) -> dict[str, Any]:
    """What states on the way depend on, but for the activations, which may be larger than memory."""
    named = [f"{getattr(p.value, '__module__', '')}.{getattr(p.value, '__qualname__', '')}" for p in penalties]
    return {
        "settings": asdict(settings),
        "cut": cut,
        "penalties": [{"value": name, "weight": p.weight} for name, p in zip(named, penalties, strict=True)],
        "begun_with": checksum((parts, primary.labels, harmful.labels)),
        "activations": [primary.x.shape, harmful.x.shape],
    }


def _with(parts: Split, state: State) -> Split:
    tail, head = state.params
    return parts._replace(tail=tail, head=head)


def _optimizer(settings: TrainingSettings, steps: int) -> optax.GradientTransformation:
    warmup = max(1, round(settings.warmup * steps)) if settings.warmup else 0
    rate = optax.warmup_cosine_decay_schedule(
        0.0 if warmup else settings.learning_rate, settings.learning_rate, warmup, max(steps, warmup + 1)
    )
    return optax.sgd(rate, momentum=0.9, nesterov=True)


def _step(state: State, parts: Split, data, *, cut, penalties, optimizer, smoothing):
    def total(params):
        loss, added = _terms(params, parts, data, cut, penalties, smoothing)
        return loss + sum(w * value for w, value in zip(state.weights, added, strict=True)), loss

    gradient, loss = jax.grad(total, has_aux=True)(state.params)
    updates, inner = optimizer.update(gradient, state.optimizer, state.params)
    return State(optax.apply_updates(state.params, updates), inner, state.weights), loss


def _balanced(params, parts: Split, data, *, cut, penalties, smoothing, strength) -> jax.Array:
    """Lambda of each penalty: the weight given, or what makes its gradient of the tail `strength` times the loss's."""

    def tail_norm(term: int) -> jax.Array:
        def value(tail):
            loss, added = _terms((tail, params[1]), parts, data, cut, penalties, smoothing)
            return loss if term < 0 else added[term]

        return optax.tree.norm(jax.grad(value)(params[0]))

    length, weights = tail_norm(-1), []
    for term, penalty in enumerate(penalties):
        own = tail_norm(term)
        balanced = jnp.where(own > 0, strength * length / jnp.where(own > 0, own, 1), 0)
        weights.append(balanced if penalty.weight is None else jnp.full((), penalty.weight, length.dtype))
    return jnp.stack(weights) if weights else jnp.zeros(0, length.dtype)


def _terms(params, parts: Split, data, cut: str, penalties, smoothing: float):
    """The primary loss and the value of each penalty."""
    tail, head = params
    primary, labels, harmful, targets = data
    model = functional.merge(parts._replace(tail=tail, head=head))
    features = model.tail(primary, cut)
    logits = model.head(features)
    goal = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[1], dtype=logits.dtype), smoothing)
    loss = optax.losses.softmax_cross_entropy(logits, goal).mean()
    if not penalties:
        return loss, []
    batch = TaskPair(Task(features), Task(model.tail(harmful, cut), targets))
    return loss, [penalty.value(batch) for penalty in penalties]
