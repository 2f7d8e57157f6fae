"""Trains the last blocks of a network behind its cached trunk: the primary loss, and what a method adds to it.

    params <- params - eta (grad L + delta grad KL(published, new) + sum_i lambda_i grad penalty_i),     params = tail and head

KL is between the published logits of the primary rows and the new ones, both at the temperature. Stored statistics of batch
normalisations stay as they are, so that the trunk's cached outputs stay right.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from itertools import islice
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cimm_jax.class_targets import one_hot
from cimm_jax.errors import InputError, check_count
from cimm_jax.networks import functional
from cimm_jax.networks.batches import paired_batches
from cimm_jax.networks.features import Labelled
from cimm_jax.networks.few_weights import is_chosen_at, more_chosen, none_chosen
from cimm_jax.networks.functional import Split
from cimm_jax.networks.head import head_of
from cimm_jax.networks.held_accuracy import EVERY, hold_accuracy, rows_aside
from cimm_jax.networks.kept_head import first_head
from cimm_jax.networks.training_terms import Terms, terms_of
from cimm_jax.numerics.meshes import on_one_device
from cimm_jax.numerics.penalty import Penalty
from cimm_jax.numerics.spreading import by_rows, everywhere, finished, mesh_in_use
from cimm_jax.numerics.trained_weights import FewWeights
from cimm_jax.resuming import Checkpoint, checksum

__all__ = ["State", "Trained", "TrainingSettings", "train_tail"]


@dataclass(frozen=True)
class TrainingSettings:
    """How the tail is trained.

    Attributes:
      epochs: times through the longer data set.
      steps: instead of epochs; None counts in epochs.
      batch_rows: rows of each task in a step.
      harmful_rows: rows of the harmful task in a step; None is as many as of the primary one.
      in_pairs: whether harmful rows of a class come two by two, so that each has another of its class in the batch.
      learning_rate: the highest, of SGD with Nesterov momentum 0.9.
      warmup: share of the steps over which the rate rises; it then falls along a cosine.
      label_smoothing: share of a target that goes to all classes alike.
      strength: how many times as long as the primary loss's the first gradient of a penalty is made whose weight is balanced.
      distillation: delta.
      temperature: of both logits there.
      longest_gradient: longer ones are shortened to it; None leaves them.
      primary_accuracy: what the weights of the penalties are set by, every few steps (`held_accuracy`): they rise while a part
        of the primary rows, which is not trained on, is classified as well as that, and fall while it is not. None keeps them.
      seed: seeds the order of the rows.
    """

    epochs: int = 2
    steps: int | None = None
    batch_rows: int = 64
    harmful_rows: int | None = None
    in_pairs: bool = False
    learning_rate: float = 1e-3
    warmup: float = 0.1
    label_smoothing: float = 0.0
    strength: float = 1.0
    distillation: float = 0.0
    temperature: float = 2.0
    longest_gradient: float | None = None
    primary_accuracy: float | None = None
    seed: int = 0

    def __post_init__(self):
        for name in ("epochs", "steps"):
            if getattr(self, name) is not None:
                check_count(getattr(self, name), name)
        for name in ("learning_rate", "strength", "temperature", "longest_gradient"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"{name}: needs a positive finite number, got {value}")
        if not 0 <= self.distillation < float("inf"):
            raise InputError(f"distillation: needs a finite number of at least 0, got {self.distillation}")
        if self.primary_accuracy is not None and not 0 < self.primary_accuracy <= 1:
            raise InputError(f"primary_accuracy: needs a share above 0, at most 1, got {self.primary_accuracy}")
        for name in ("warmup", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name}: needs a number from 0 to below 1, got {getattr(self, name)}")

    def trained_rows(self, primary_rows: int) -> int:
        """How many of so many primary rows are trained on: all but those that are set aside to look at."""
        return primary_rows - (0 if self.primary_accuracy is None else rows_aside(primary_rows))

    def check_divides(self) -> None:
        """Raises `InputError` if the rows of a step do not divide among the devices that they are spread over."""
        mesh = mesh_in_use()
        devices = 1 if mesh is None else mesh.size
        for name in ("batch_rows", "harmful_rows"):
            size = getattr(self, name)
            if size is not None and size % devices:
                raise InputError(f"{name}: needs a multiple of the {devices} devices that rows go to, got {size}")

    def batches(
        self, primary_rows: int, harmful_labels: np.ndarray, epoch: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Indices of an epoch's batches (`paired_batches`); primary ones of the rows that are trained on."""
        return paired_batches(
            self.trained_rows(primary_rows),
            len(harmful_labels),
            self.batch_rows,
            epoch=epoch,
            seed=self.seed,
            harmful_batch_rows=self.harmful_rows,
            harmful_labels=harmful_labels if self.in_pairs else None,
        )

    def total_steps(self, primary_rows: int, harmful_labels: np.ndarray) -> int:
        """How many steps are made."""
        per_epoch = len(list(self.batches(primary_rows, harmful_labels, 0)))
        return per_epoch * self.epochs if self.steps is None else self.steps


class Trained(NamedTuple):
    """The result.

    Attributes:
      parts: the network with its new tail and head.
      losses: primary loss at each step, shape (steps,).
      weights: lambda of each penalty, balanced ones filled in; the last one where an accuracy sets it.
      observed: what `observe` said before the first epoch and after each; where steps are counted, first and last.
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
      weights: lambda of each penalty, scalars.
      heads: of the penalties that look at a kept one, each of shape (d, C).
      moving: bool, which weights of the tail move, if only few do; else empty.
    """

    params: Any
    optimizer: Any
    weights: tuple[jax.Array, ...]
    heads: tuple[jax.Array, ...]
    moving: Any


def train_tail(
    parts: Split,
    cut: str,
    primary: Labelled,
    harmful: Labelled,
    *,
    penalties: Sequence[Penalty] = (),
    targets: tuple[np.ndarray, np.ndarray] | None = None,
    few: FewWeights | None = None,
    start: tuple[Any, Any] | None = None,
    settings: TrainingSettings = TrainingSettings(),
    checkpoint: Checkpoint | None = None,
    observe: Callable[[Split], Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Trained:
    """Trains the tail. Without penalties it is plain training on the primary task.

    Within `spreading.spread_over`, each device has rows of its own, and gradients are means over those of all.

    Args:
      parts: the network, split at the cut (`functional.split`).
      cut: where.
      primary: the primary task's activations at the cut, shape (N, ...), and labels.
      harmful: the harmful one.
      penalties: of a method (`Method.penalties`).
      targets: what penalties are shown as targets of the primary and the harmful rows, float32 of shape (N, k) each; None is
        nothing and one-hot classes.
      few: which weights of the tail alone move; the head is then kept. None lets all move.
      start: parameters of tail and head to begin with; None are those of the network, whose outputs are published.
      settings: how.
      checkpoint: where to save on the way, at the least after each epoch, and to go on from, if it is of the same settings,
        penalties, labels and network; whoever makes it says what the activations depend on.
      observe: is shown the network as often as `Trained.observed` says; says something that JSON can hold.
      progress: called with the number of steps made.

    Raises:
      InputError: if a batch is larger than a data set or does not divide among the devices, or the wanted accuracy is above the
        published one.
    """
    settings.check_divides()
    rows, wanted, mesh = len(primary.labels), settings.primary_accuracy, mesh_in_use()
    held = None if wanted is None else hold_accuracy(wanted, parts, cut, primary, settings.seed)
    parts, start = everywhere((parts, start), mesh)
    per_epoch = len(list(settings.batches(rows, harmful.labels, 0)))
    total = settings.total_steps(rows, harmful.labels)
    classes = int(harmful.labels.max()) + 1
    penalties = tuple(penalties)
    # What the programs do not depend on is left out, so that trainings that differ in nothing else share them.
    unweighted = tuple(penalty._replace(weight=None) for penalty in penalties)
    programs = _programs(cut, unweighted, few, replace(settings, strength=1.0, seed=0), total)
    state = _first_state(parts, start or (parts.tail, parts.head), programs.optimizer, penalties, few, classes)
    begun: dict[str, Any] = {"epoch": 0, "made": 0, "losses": [], "observed": []}
    if checkpoint is not None:
        more = _depends_on((parts, start, targets), cut, primary, harmful, penalties, few, settings)
        checkpoint = checkpoint.that_depends_on(**more)
        state, begun = checkpoint.restore(lambda notes: state) or (state, begun)
    state = everywhere(state, mesh)
    found, observed = begun["losses"], begun["observed"]
    if observe is not None and not observed:
        observed.append(observe(_on_one(parts)))
    epochs = -(-total // per_epoch)
    for epoch in range(begun["epoch"], epochs):
        made = begun["made"] if epoch == begun["epoch"] else 0
        batches = settings.batches(rows, harmful.labels, epoch)
        for number, (p, h) in enumerate(islice(batches, made, total - epoch * per_epoch), made):
            rows_p = p if held is None else held.trained[p]
            shown = _classes_of(harmful.labels[h], classes) if targets is None else (targets[0][rows_p], targets[1][h])
            turn = epoch * per_epoch + number
            data = (*by_rows((primary.x[rows_p], primary.labels[rows_p], harmful.x[h], shown), mesh), turn)
            if epoch == number == 0:
                if any(penalty.weight is None for penalty in penalties):
                    state = state._replace(weights=programs.balance(state, parts, data, settings.strength))
                state = state._replace(weights=everywhere(_given_or(state.weights, penalties), mesh))
            if few is not None and programs.choose is not None and is_chosen_at(few, turn, total):
                state = state._replace(moving=programs.choose(state, parts, data))
            state, loss = finished(programs.step(state, parts, data), mesh)
            found.append(loss)
            if held is not None and (turn + 1) % EVERY == 0:
                factor = held.factor(_on_one(_with(parts, state)))
                state = state._replace(weights=tuple(weight * factor for weight in state.weights))
            if checkpoint is not None:
                notes = {"epoch": epoch, "made": number + 1, "losses": found, "observed": observed}
                checkpoint.offer(state, notes)
            if progress is not None:
                progress(turn + 1)
        if observe is not None and (settings.steps is None or epoch == epochs - 1):
            observed.append(observe(_on_one(_with(parts, state))))
        if checkpoint is not None:
            checkpoint.save(state, {"epoch": epoch + 1, "made": 0, "losses": found, "observed": observed})
    return _trained(parts, state, found, observed)


def _classes_of(labels: np.ndarray, classes: int) -> tuple[None, np.ndarray]:
    """What penalties are shown unless there are other targets: nothing of the primary rows, and classes of the harmful ones."""
    return None, one_hot(labels, classes).astype(np.float32)


def _depends_on(
    begun_with: Any,
    cut: str,
    primary: Labelled,
    harmful: Labelled,
    penalties: tuple[Penalty, ...],
    few: FewWeights | None,
    settings: TrainingSettings,
) -> dict[str, Any]:
    """What states on the way depend on, but for the activations, which may be larger than memory."""
    named = [f"{getattr(p.value, '__module__', '')}.{getattr(p.value, '__qualname__', '')}" for p in penalties]
    after = [
        p.after and {"steps": p.after.steps, "rates": list(p.after.rates), "images": p.after.images} for p in penalties
    ]
    return {
        "settings": asdict(settings),
        "cut": cut,
        "penalties": [
            {"value": name, "weight": p.weight, "after": attack, "against": p.against}
            for name, p, attack in zip(named, penalties, after, strict=True)
        ],
        "few": few,
        "begun_with": checksum((begun_with, primary.labels, harmful.labels)),
        "activations": [primary.x.shape, harmful.x.shape],
    }


def _first_state(
    parts: Split,
    params: tuple[Any, Any],
    optimizer: optax.GradientTransformation,
    penalties: tuple[Penalty, ...],
    few: FewWeights | None,
    classes: int,
) -> State:
    """Before the first step; weights and the few are found in it."""
    width = len(head_of(functional.merge(parts)).kernel)
    return State(
        params,
        optimizer.init(params),
        tuple(jnp.zeros((), jnp.float32) for _ in penalties),
        tuple(first_head(width, classes) for penalty in penalties if penalty.against is not None),
        () if few is None else none_chosen(params[0]),
    )


def _trained(parts: Split, state: State, found: Sequence[jax.Array], observed: list[Any]) -> Trained:
    """The result, its arrays on one device."""
    losses, weights = (np.asarray([float(number) for number in numbers]) for numbers in (found, state.weights))
    return Trained(_on_one(_with(parts, state)), losses, weights, observed)


def _on_one(parts: Split) -> Split:
    """What whoever looks at the network is shown: its arrays on one device."""
    return jax.tree.map(on_one_device, parts)


def _with(parts: Split, state: State) -> Split:
    tail, head = state.params
    return parts._replace(tail=tail, head=head)


def _optimizer(settings: TrainingSettings, steps: int) -> optax.GradientTransformation:
    warmup = max(1, round(settings.warmup * steps)) if settings.warmup else 0
    rate = optax.warmup_cosine_decay_schedule(
        0.0 if warmup else settings.learning_rate, settings.learning_rate, warmup, max(steps, warmup + 1)
    )
    descent = optax.sgd(rate, momentum=0.9, nesterov=True)
    if settings.longest_gradient is None:
        return descent
    return optax.chain(optax.clip_by_global_norm(settings.longest_gradient), descent)


class _Programs(NamedTuple):
    """What a training runs, compiled.

    Attributes:
      optimizer: of the parameters.
      step: (state, parts, data) -> the next state and the primary loss.
      balance: (state, parts, data, strength) -> lambda of each penalty.
      choose: (state, parts, data) -> which weights move; None where all do.
    """

    optimizer: optax.GradientTransformation
    step: Callable[..., tuple[State, jax.Array]]
    balance: Callable[..., tuple[jax.Array, ...]]
    choose: Callable[..., Any] | None


@lru_cache(maxsize=16)
def _programs(
    cut: str, penalties: tuple[Penalty, ...], few: FewWeights | None, settings: TrainingSettings, total: int
) -> _Programs:
    """Of penalties without weights, and settings without strength and seed."""
    optimizer = _optimizer(settings, total)
    terms = partial(terms_of, cut=cut, penalties=penalties, settings=settings)
    return _Programs(
        optimizer,
        jax.jit(partial(_step, terms=terms, optimizer=optimizer, few=few)),
        jax.jit(partial(_balanced, terms=terms)),
        None if few is None else jax.jit(partial(_chosen, terms=terms, few=few)),
    )


def _step(state: State, parts: Split, data, *, terms, optimizer, few: FewWeights | None):
    def total(params):
        found = terms(params, state.heads, parts, data)
        return found.loss + _weighted(state.weights, found.added), found

    gradient, found = jax.grad(total, has_aux=True)(state.params)
    if few is not None:
        tail = jax.tree.map(lambda slope, moves: jnp.where(moves, slope, 0), gradient[0], state.moving)
        gradient = (tail, optax.tree.zeros_like(gradient[1]))
    updates, inner = optimizer.update(gradient, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    return State(params, inner, state.weights, found.heads, state.moving), found.primary


def _weighted(weights: Sequence[jax.Array], added: Sequence[jax.Array]) -> jax.Array:
    return sum((w * value for w, value in zip(weights, added, strict=True)), jnp.zeros(()))


def _slope_of_tail(of: Callable[[Terms], jax.Array], state: State, parts: Split, data, terms) -> Any:
    """The gradient in the tail's parameters of a function of the terms."""

    def value(tail):
        return of(terms((tail, state.params[1]), state.heads, parts, data))

    return jax.grad(value)(state.params[0])


def _chosen(state: State, parts: Split, data, *, terms, few: FewWeights) -> Any:
    """The weights that move once a round more is chosen."""
    wanted = _slope_of_tail(lambda found: _weighted(state.weights, found.added), state, parts, data, terms)
    unwanted = _slope_of_tail(lambda found: found.primary, state, parts, data, terms)
    return more_chosen(few, state.moving, wanted, unwanted)


def _balanced(state: State, parts: Split, data, strength: jax.Array | float, *, terms) -> tuple[jax.Array, ...]:
    """Lambda of each penalty that makes its gradient of the tail `strength` times as long as the loss's."""

    def tail_norm(of: Callable[[Terms], jax.Array]) -> jax.Array:
        return optax.tree.norm(_slope_of_tail(of, state, parts, data, terms))

    length, weights = tail_norm(lambda found: found.primary), []
    for term in range(len(state.weights)):
        own = tail_norm(lambda found, term=term: found.added[term])
        weights.append(jnp.where(own > 0, strength * length / jnp.where(own > 0, own, 1), 0))
    return tuple(weights)


def _given_or(balanced: Sequence[jax.Array], penalties: Sequence[Penalty]) -> tuple[jax.Array, ...]:
    """The weights that are given, and else what balances."""
    return tuple(
        weight if penalty.weight is None else jnp.full((), penalty.weight, weight.dtype)
        for weight, penalty in zip(balanced, penalties, strict=True)
    )
