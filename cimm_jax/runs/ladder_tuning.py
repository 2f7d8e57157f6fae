"""The rung of those who fine-tune: every attacker at every rate on one draw of images, then the best of them on the others."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.attacks.fine_tuners import FineTuners, standard_fine_tuners
from cimm_jax.attacks.fine_tuning import FineTuning, fine_tune
from cimm_jax.attacks.ladder.by_rung import RANDOM_WEIGHTS
from cimm_jax.attacks.ladder.draws import Draws, ImageBudget
from cimm_jax.attacks.ladder.rungs import FINE_TUNING
from cimm_jax.attacks.ladder.tried import Tried, best_of
from cimm_jax.attacks.protocol import UNDEFENDED
from cimm_jax.attacks.victim import Victim
from cimm_jax.data.image_set import ImageSet
from cimm_jax.errors import check_count
from cimm_jax.networks import functional
from cimm_jax.networks.activation_cache import BATCH_ROWS, cached_outputs
from cimm_jax.networks.backbone import Backbone
from cimm_jax.runs.kept_units import KeptUnits
from cimm_jax.runs.ladder_scene import Exposed, Scene

__all__ = ["TunedRun", "TuningSettings", "fine_tuned", "runs_of_tuning"]


@dataclass(frozen=True)
class TuningSettings:
    """How attackers fine-tune.

    Attributes:
      attackers: all of them; None is `fine_tuners.standard_fine_tuners` of the network.
      steps: of each who does not count in epochs.
      records: how often each is judged.
      most_images: with more of them nobody fine-tunes; None is no limit.
    """

    attackers: tuple[FineTuning, ...] | None = None
    steps: int = 40
    records: int = 2
    most_images: int | None = None

    def __post_init__(self):
        check_count(self.steps, "steps")
        check_count(self.records, "records")

    def budgets(self, draws: Draws) -> list[ImageBudget]:
        """Those with which anybody fine-tunes."""
        return [one for one in draws.budgets if self.most_images is None or one.images <= self.most_images]

    def of(self, network: Backbone, classes: int) -> FineTuners:
        """Who attacks a network with so many classes, and who cannot."""
        return (
            standard_fine_tuners(network, classes=classes) if self.attackers is None else FineTuners(self.attackers, ())
        )


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


def runs_of_tuning(scene: Scene, draws: Draws, settings: TuningSettings) -> int:
    """How many runs `fine_tuned` makes, about."""
    networks = [exposed for exposed in scene.exposed if exposed.kind != "map"]
    trials = sum(len(one.rates) for exposed in networks for one in _members(exposed, settings, scene.classes))
    return len(settings.budgets(draws)) * (trials + len(networks) * (len(draws.orders) - 1))


def fine_tuned(
    scene: Scene,
    draws: Draws,
    settings: TuningSettings,
    *,
    seed: int,
    cache: Path,
    kept: Path | None,
    made_by: Mapping[str, Any],
    progress: Callable[[], None],
) -> list[Tried]:
    """Fine-tunes every network with every budget of images. Whoever fine-tunes leaves a map out, so that it changes nothing.

    Args:
      scene: what is attacked; it has images.
      draws: the attackers' images.
      settings: how.
      seed: seeds the attackers.
      cache: folder of activations.
      kept: folder that keeps what is finished; None keeps nothing.
      made_by: what everything depends on.
      progress: called after each run.
    """
    units = KeptUnits(kept, TunedRun, made_by)
    found: dict[str, list[Tried]] = {}
    for exposed in scene.exposed:
        if exposed.kind == "map":
            found[exposed.name] = [replace(one, network=exposed.name) for one in found[UNDEFENDED]]
            continue
        tuner = _Tuner(exposed, _Victims(scene, exposed, cache), draws, settings, units, seed, scene.classes, progress)
        found[exposed.name] = [one for budget in settings.budgets(draws) for one in tuner.on(budget)]
    return [one for tried in found.values() for one in tried]


def _members(exposed: Exposed, settings: TuningSettings, classes: int) -> list[FineTuning]:
    """All of them, but on random weights only those who train everything: what is frozen there is worth nothing."""
    assert exposed.published is not None
    attackers = settings.of(exposed.published.network, classes).attackers
    if exposed.name != RANDOM_WEIGHTS:
        return list(attackers)
    return [one for one in attackers if one.cut is None and one.rank is None] or list(attackers)


class _Tuner(NamedTuple):
    """Everybody who fine-tunes one network.

    Attributes:
      exposed: the network.
      victims: the network at every cut.
      draws: the attackers' images.
      settings: how.
      units: what is finished.
      seed: seeds the attackers.
      classes: how many they tell apart.
      progress: called after each run.
    """

    exposed: Exposed
    victims: "_Victims"
    draws: Draws
    settings: TuningSettings
    units: KeptUnits[TunedRun]
    seed: int
    classes: int
    progress: Callable[[], None]

    def on(self, budget: ImageBudget) -> list[Tried]:
        """With one budget of images: all of them on one draw, and the best on the others.

        Whoever is best on one draw may owe it to chance: then somebody else is best on all, who goes on to the others too.
        """
        attackers = {one.name: one for one in _members(self.exposed, self.settings, self.classes)}
        runs = {name: [self._run(one, rate, 0, budget) for rate in one.rates] for name, one in attackers.items()}
        more: dict[str, list[TunedRun]] = {name: [] for name in attackers}
        seeds = len(self.draws.orders)
        while True:
            found = [self._tried(one, runs[name], more[name], budget) for name, one in attackers.items()]
            best = best_of(found)
            if len(best.by_seed) == seeds:
                return found
            attacker = attackers[best.attacker]
            rate = attacker.rates[int(np.argmax(best.accuracy))]
            more[attacker.name] = [self._run(attacker, rate, number, budget) for number in range(1, seeds)]

    def _run(self, attacker: FineTuning, rate: float, number: int, budget: ImageBudget) -> TunedRun:
        steps, records = attacker.steps(budget.images, self.settings.steps), self.settings.records

        def make() -> TunedRun:
            begun = time.monotonic()
            victim = self.victims.of(attacker.cut, self.draws.orders[number], budget.images)
            attack = fine_tune(attacker, classes=self.classes, records=records)
            found = jax.device_get(attack(jax.random.key(self.seed + number), victim, rate, steps))
            accuracy, primary = (tuple(map(float, part)) for part in (found.accuracy, found.primary_accuracy))
            return TunedRun(accuracy, primary, bool(found.diverged[-1]), time.monotonic() - begun)

        described = {**asdict(attacker), "rates": rate, "steps": steps, "records": records}
        made = self.units.get(make, attacker=described, network=self.exposed.weights, images=budget.images, draw=number)
        self.progress()
        return made

    def _tried(
        self, attacker: FineTuning, runs: Sequence[TunedRun], more: Sequence[TunedRun], budget: ImageBudget
    ) -> Tried:
        accuracy = [max(one.accuracy) for one in runs]
        made = [runs[int(np.argmax(accuracy))], *more]
        curve = np.mean([one.accuracy for one in made], axis=0)
        stop, records = int(curve.argmax()), self.settings.records
        steps = attacker.steps(budget.images, self.settings.steps)
        everybody = [*runs, *more]
        return Tried(
            rung=FINE_TUNING,
            attacker=attacker.name,
            place="all weights" if attacker.cut is None else f"from {attacker.cut}",
            network=self.exposed.name,
            images=budget.images,
            settings=attacker.rates,
            accuracy=tuple(accuracy),
            by_seed=tuple(one.accuracy[stop] for one in made),
            steps=tuple(-(-(i + 1) * steps // records) for i in range(records)),
            curve=tuple(map(float, curve)),
            primary=None if self.exposed.primary is None else float(np.mean([one.primary[stop] for one in made])),
            diverged=float(np.mean([one.diverged for one in everybody])),
            seconds=sum(one.seconds for one in everybody),
        )


class _Victims:
    """A network at every cut that somebody fine-tunes from, with the activations there."""

    def __init__(self, scene: Scene, exposed: Exposed, cache: Path):
        assert scene.images is not None
        assert exposed.published is not None
        self._images, self._labels = scene.images, (scene.labels, scene.judged, scene.images[2].labels)
        self._published, self._weights, self._cache = exposed.published, exposed.weights, cache
        self._at: dict[str | None, Victim] = {}

    def of(self, cut: str | None, order: np.ndarray, count: int) -> Victim:
        """With the first `count` rows of an order for the attacker."""
        if cut not in self._at:
            self._at = {cut: self._opened(cut)}  # of one cut at a time: images are large
        return self._at[cut]._replace(order=jnp.asarray(order, jnp.int32), count=jnp.int32(count))

    def _opened(self, cut: str | None) -> Victim:
        network, _, head = self._published
        at = network.cuts[0] if cut is None else cut
        fit, judged, primary = (self._activations(images, at) for images in self._images)
        fit_labels, judged_labels, primary_labels = (jnp.asarray(labels, jnp.int32) for labels in self._labels)
        return Victim(
            parts=functional.split(network, at),
            mapping=None,
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
        return jnp.asarray(cached_outputs(self._cache, network, images, weights_sha256=self._weights, cut=cut))
