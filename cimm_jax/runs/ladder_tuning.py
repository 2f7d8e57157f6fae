"""The rung of those who fine-tune: every attacker at every rate on one draw of images, then the best of them on the others."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.attacks.fine_tuning import FineTuning, Victim, fine_tune, standard_fine_tuning
from cimm_jax.attacks.ladder.by_rung import RANDOM_WEIGHTS
from cimm_jax.attacks.ladder.draws import Draws, ImageBudget
from cimm_jax.attacks.ladder.rungs import FINE_TUNING
from cimm_jax.attacks.ladder.tried import Tried
from cimm_jax.data.image_set import ImageSet
from cimm_jax.errors import check_count
from cimm_jax.networks import functional
from cimm_jax.networks.activation_cache import BATCH_ROWS, cached_outputs
from cimm_jax.networks.backbone import Backbone
from cimm_jax.resuming import checksum
from cimm_jax.runs.kept_units import KeptUnits
from cimm_jax.runs.ladder_scene import Exposed, Scene

__all__ = ["TunedRun", "TuningSettings", "fine_tuned", "runs_of_tuning"]


@dataclass(frozen=True)
class TuningSettings:
    """How attackers fine-tune.

    Attributes:
      attackers: all of them; None is `standard_fine_tuning` of the network.
      steps: of each.
      records: how often each is judged.
    """

    attackers: tuple[FineTuning, ...] | None = None
    steps: int = 40
    records: int = 4

    def __post_init__(self):
        check_count(self.steps, "steps")
        check_count(self.records, "records")

    def of(self, network: Backbone) -> tuple[FineTuning, ...]:
        """The attackers of a network."""
        return standard_fine_tuning(network) if self.attackers is None else self.attackers


@dataclass(frozen=True)
class TunedRun:
    """One attacker at one rate on one draw of images.

    Attributes:
      accuracy: on the judge's images, each time they were judged.
      primary: of the published primary head on the tuned features.
      diverged: whether it did.
      seconds: that it took.
    """

    accuracy: tuple[float, ...]
    primary: tuple[float, ...]
    diverged: bool
    seconds: float


def runs_of_tuning(scene: Scene, draws: Draws, attackers: Sequence[FineTuning], seeds: int) -> int:
    """How many runs `fine_tuned` makes, about."""
    total = 0
    for exposed in scene.exposed:
        members = _members(exposed, attackers)
        total += len(draws.budgets) * (sum(len(one.rates) for one in members) + seeds - 1)
    return total


def fine_tuned(
    scene: Scene,
    draws: Draws,
    settings: TuningSettings,
    *,
    seeds: int,
    seed: int,
    cache: Path,
    kept: Path | None,
    made_by: Mapping[str, Any],
    progress: Callable[[], None],
) -> Iterator[Tried]:
    """Fine-tunes every network with every budget of images.

    Args:
      scene: what is attacked; it has images.
      draws: the attackers' images.
      settings: how.
      seeds: draws to use.
      seed: seeds the attackers.
      cache: folder of activations.
      kept: folder that keeps what is finished; None keeps nothing.
      made_by: what everything depends on.
      progress: called after each run.
    """
    units = KeptUnits(kept, TunedRun, made_by)
    network = scene.exposed[0].published.network  # pyright: ignore[reportOptionalMemberAccess]
    attackers = settings.of(network)
    for exposed in scene.exposed:
        victims = _Victims(scene, exposed, cache)
        for budget in draws.budgets:
            yield from _on_budget(
                exposed,
                budget,
                victims,
                _members(exposed, attackers),
                draws,
                settings,
                units,
                seeds,
                seed,
                scene,
                progress,
            )


def _members(exposed: Exposed, attackers: Sequence[FineTuning]) -> list[FineTuning]:
    """All of them, but on random weights only those who train everything: what is frozen there is worth nothing."""
    if exposed.name != RANDOM_WEIGHTS:
        return list(attackers)
    return [one for one in attackers if one.cut is None and one.rank is None] or list(attackers)


def _on_budget(
    exposed: Exposed,
    budget: ImageBudget,
    victims: "_Victims",
    attackers: Sequence[FineTuning],
    draws: Draws,
    settings: TuningSettings,
    units: KeptUnits,
    seeds: int,
    seed: int,
    scene: Scene,
    progress: Callable[[], None],
) -> Iterator[Tried]:
    steps = [-(-(i + 1) * settings.steps // settings.records) for i in range(settings.records)]

    def run(attacker: FineTuning, rate: float, number: int) -> TunedRun:
        def make() -> TunedRun:
            begun = time.monotonic()
            victim = victims.of(attacker.cut, draws.orders[number], budget.images)
            attack = fine_tune(attacker, classes=scene.classes, records=settings.records)
            found = jax.device_get(attack(jax.random.key(seed + number), victim, rate, settings.steps))
            accuracy, primary = (tuple(map(float, part)) for part in (found.accuracy, found.primary_accuracy))
            return TunedRun(accuracy, primary, bool(found.diverged[-1]), time.monotonic() - begun)

        described = {**asdict(attacker), "rates": rate, "steps": settings.steps, "records": settings.records}
        made = units.get(make, attacker=described, network=exposed.checksum, images=budget.images, draw=number)
        progress()
        return made

    first = {attacker.name: [run(attacker, rate, 0) for rate in attacker.rates] for attacker in attackers}
    more: dict[str, list[TunedRun]] = {}

    def tried(attacker: FineTuning) -> Tried:
        runs = first[attacker.name]
        best = _best(runs)
        made = [runs[best], *more.get(attacker.name, [])]
        curve = np.mean([one.accuracy for one in made], axis=0)
        stop = int(curve.argmax())
        return Tried(
            rung=FINE_TUNING,
            attacker=attacker.name,
            place="all weights" if attacker.cut is None else f"from {attacker.cut}",
            network=exposed.name,
            images=budget.images,
            settings=attacker.rates,
            accuracy=tuple(max(one.accuracy) for one in runs),
            by_seed=tuple(one.accuracy[stop] for one in made),
            steps=tuple(steps),
            curve=tuple(map(float, curve)),
            primary=None if exposed.primary is None else float(np.mean([one.primary[stop] for one in made])),
            diverged=float(np.mean([one.diverged for one in (*runs, *made[1:])])),
            seconds=sum(one.seconds for one in (*runs, *made[1:])),
        )

    found = {attacker.name: tried(attacker) for attacker in attackers}
    # Whoever is best on one draw may owe it to chance, so they go on to the others, and then whoever is best now, if that is
    # somebody else.
    by_name = {attacker.name: attacker for attacker in attackers}
    while len((best := max(found.values(), key=lambda one: one.best)).by_seed) < seeds:
        attacker = by_name[best.attacker]
        rate = attacker.rates[_best(first[attacker.name])]
        more[attacker.name] = [run(attacker, rate, number) for number in range(1, seeds)]
        found[attacker.name] = tried(attacker)
    yield from found.values()


def _best(runs: Sequence[TunedRun]) -> int:
    return int(np.argmax([max(one.accuracy) for one in runs]))


class _Victims:
    """A network at every cut that somebody fine-tunes from, with the activations there."""

    def __init__(self, scene: Scene, exposed: Exposed, cache: Path):
        assert scene.images is not None
        assert exposed.published is not None
        self._images, self._labels = scene.images, (scene.labels, scene.judged, scene.images[2].labels)
        self._published, self._cache = exposed.published, cache
        self._at: dict[str | None, Victim] = {}

    def of(self, cut: str | None, order: np.ndarray, count: int) -> Victim:
        """With the first `count` rows of an order for the attacker."""
        if cut not in self._at:
            self._at = {cut: self._opened(cut)}  # of one cut at a time: images are large
        return self._at[cut]._replace(order=jnp.asarray(order, jnp.int32), count=jnp.int32(count))

    def _opened(self, cut: str | None) -> Victim:
        network, mapping, head = self._published
        at = network.cuts[0] if cut is None else cut
        fit, judged, primary = (self._activations(images, at) for images in self._images)
        fit_labels, judged_labels, primary_labels = (jnp.asarray(labels, jnp.int32) for labels in self._labels)
        return Victim(
            parts=functional.split(network, at),
            mapping=None if mapping is None else jnp.asarray(mapping),
            head=head,
            fit_x=fit,
            fit_labels=fit_labels,
            order=jnp.arange(len(fit), dtype=jnp.int32),
            count=jnp.int32(len(fit)),
            heldout_x=judged,
            heldout_labels=judged_labels,
            primary_x=primary,
            primary_labels=primary_labels,
        )

    def _activations(self, images: ImageSet, cut: str) -> jax.Array:
        network = self._published.network
        if cut == network.cuts[0]:
            batches = images.batches(min(BATCH_ROWS, len(images)))
            return jnp.concatenate([network.config.preprocess(pixels) for pixels in batches])
        weights = checksum(functional.split(network))
        rows = min(BATCH_ROWS, len(images))
        return jnp.asarray(
            cached_outputs(self._cache, network, images, weights_sha256=weights, cut=cut, batch_rows=rows)
        )
