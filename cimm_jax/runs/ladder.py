"""The attack ladder: every rung's attackers, on the same images, against defences, the published network, random weights."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from cimm_jax.attacks import HeldOut, Operator
from cimm_jax.attacks.ladder.by_rung import findings
from cimm_jax.attacks.ladder.climb import Rows, summarised, try_features
from cimm_jax.attacks.ladder.draws import Draws, ImageBudget, draw_rows, image_budgets
from cimm_jax.attacks.ladder.operators import dtype_of, operators_of
from cimm_jax.attacks.ladder.rungs import FINE_TUNING, LAYERS, PROBES, RUNGS
from cimm_jax.attacks.ladder.tried import Reached, Tried, reached
from cimm_jax.errors import InputError, check_count
from cimm_jax.networks.backbone import FEATURES
from cimm_jax.numerics.threads import blas_threads_for
from cimm_jax.progress import progress_bar
from cimm_jax.runs.defence import Defence
from cimm_jax.runs.kept_units import KeptUnits
from cimm_jax.runs.ladder_scene import BEFORE_MAP, Exposed, Scene, open_scene
from cimm_jax.runs.ladder_tuning import TuningSettings, fine_tuned, runs_of_tuning
from cimm_jax.runs.peak_memory import peak_bytes
from cimm_jax.runs.records import LadderNetwork, LadderRecord, Manifest
from cimm_jax.runs.subject import Subject

__all__ = ["FOLDER", "LadderSettings", "climb", "output_floor"]

FOLDER = "ladder"
"""In a run folder, while the ladder is climbed."""


@dataclass(frozen=True)
class LadderSettings:
    """How the ladder is climbed.

    Attributes:
      images_a_class: images of each class that attackers have, ascending; all of them come last. None is 5, 20 and 100, as far
        as there are so many.
      seeds: draws of these images and of whatever else is random.
      judged: at most so many held-out images judge everybody.
      layers: whose pooled outputs heads are put on; all if empty.
      rungs: numbers of those to climb; all if empty. Those left out are said to be.
      tuning: of those who fine-tune.
      primary_alone: weights of the same network trained on the primary task alone, which is attacked as well; None if there are
        none.
      with_defences_images: attackers have the harmful images of the defences beside their own.
      seed: the first.
    """

    images_a_class: tuple[int, ...] | None = None
    seeds: int = 3
    judged: int = 1000
    layers: tuple[str, ...] = ()
    rungs: tuple[int, ...] = ()
    tuning: TuningSettings = field(default_factory=TuningSettings)
    primary_alone: Path | None = None
    with_defences_images: bool = False
    seed: int = 0

    def __post_init__(self):
        check_count(self.seeds, "seeds")
        if unknown := set(self.rungs) - {rung.number for rung in RUNGS}:
            raise InputError(f"rungs: {min(unknown)} is unknown; choose of {PROBES} to {FINE_TUNING}")


def climb(
    manifest: Manifest,
    subject: Subject,
    defences: Sequence[Defence],
    settings: LadderSettings,
    *,
    kept: Path | None = None,
) -> LadderRecord:
    """Climbs the whole ladder, with progress bars.

    Args:
      manifest: how the record is made.
      subject: what is protected.
      defences: what protects it; names differ.
      settings: how.
      kept: folder that keeps what is finished, so that the same ladder goes on where it was; whoever writes the record removes
        it then.

    Raises:
      InputError: if the harmful task has no classes or no held-out rows, there are fewer images a class than asked for, a layer
        is unknown, or the weights of `primary_alone` cannot be used.
    """
    scene = open_scene(
        subject,
        defences,
        judged=settings.judged,
        seed=settings.seed,
        primary_alone=settings.primary_alone,
        with_defences_images=settings.with_defences_images,
    )
    budgets = image_budgets(scene.labels, settings.images_a_class)
    draws = draw_rows(scene.labels, budgets, seeds=settings.seeds, seed=settings.seed)
    wanted = settings.rungs or tuple(rung.number for rung in RUNGS)
    absent = {**scene.absent, **{rung.name: "it was left out" for rung in RUNGS if rung.number not in wanted}}
    if FINE_TUNING in wanted and subject.network is not None:
        left_out = settings.tuning.of(subject.network, scene.classes).left_out
        absent |= dict(told.split(": ", 1) for told in left_out)
        tuned = settings.tuning.budgets(draws)
        absent |= {f"fine-tuning, {one.images} images": "it was left out" for one in budgets if one not in tuned}
    made_by = {"images": scene.checksums, "seeds": settings.seeds, "seed": settings.seed, "versions": manifest.versions}
    of_features = {"images": {part: scene.checksums[part] for part in ("fit", "judged")}}
    units = KeptUnits(kept, Tried, {**made_by, **of_features})
    with blas_threads_for(subject.features):
        climbers = _Climbers(scene, draws, units, settings)
        tried = climbers.on_features([number for number in wanted if number != FINE_TUNING])
        outputs = climbers.on_outputs()
        if FINE_TUNING in wanted and scene.images is not None:
            tried += _fine_tuned(scene, draws, settings, subject, kept, made_by)
    judged = HeldOut.of_labels(scene.judged)
    return LadderRecord(
        manifest=manifest,
        source=subject.source,
        names=subject.names,
        classes=scene.classes,
        judged=judged,
        budgets=budgets,
        seeds=settings.seeds,
        own_images=scene.own_images,
        networks={one.name: LadderNetwork(one.kind, one.primary, outputs[one.name]) for one in scene.exposed},
        absent=absent,
        rungs={
            one.name: findings(tried, one.name, judged=judged, primary=one.primary)
            for one in scene.exposed
            if one.kind in ("map", "blocks")
        },
        tried=tuple(tried),
        peak_bytes=peak_bytes(),
        network=subject.network_data,
    )


def output_floor(subject: Subject, *, judged: int = 1000, seed: int = 0) -> dict[str, Reached]:
    """What the best head gets from a network's features, and from what its published head says of the harmful images.

    Whoever keeps an output leaks as much: no defence can prevent it. By "features", "logits", "softmax" and "classes"; empty if
    there is no network, or no held-out harmful images.

    Args:
      subject: what is to be protected.
      judged: at most so many held-out images judge.
      seed: draws them.
    """
    if subject.network is None or not subject.can_be_judged:
        return {}
    scene = open_scene(subject, (), judged=judged, seed=seed, with_random=False)
    budgets = image_budgets(scene.labels, ())
    draws = draw_rows(scene.labels, budgets, seeds=1, seed=seed)
    (found,) = _Climbers(scene, draws, KeptUnits(None, Tried, {}), LadderSettings(seed=seed)).on_outputs().values()
    return found


class _Climbers:
    """Attackers of features."""

    def __init__(self, scene: Scene, draws: Draws, units: KeptUnits, settings: LadderSettings):
        self._scene, self._draws, self._units, self._seed = scene, draws, units, settings.seed
        self._layers = _layers(scene, settings.layers)
        self._made: dict[str, Tried] = {}

    def on_features(self, rungs: Sequence[int]) -> list[Tried]:
        """Every attacker of these rungs on every network with every budget."""
        jobs = [
            (rung, place, operator, exposed, budget)
            for budget in self._draws.budgets
            for rung in rungs
            for exposed in self._scene.exposed
            for place in (self._places(exposed) if rung == LAYERS else [(FEATURES,)])
            for operator in operators_of(rung, self._scene.classes)
        ]
        with progress_bar("heads on features and layers", len(jobs)) as progress:
            tried = []
            for number, (rung, place, operator, exposed, budget) in enumerate(jobs):
                rows = partial(_side_by_side, exposed, place)
                tried.append(self._tried(rung, " + ".join(place), operator, exposed, budget, rows))
                progress(number + 1)
        return tried

    def on_outputs(self) -> dict[str, dict[str, Reached]]:
        """By network, what the best head gets from what is published of the primary task, with all images."""
        budget, judged = self._draws.budgets[-1], len(self._scene.judged)
        jobs = [
            (exposed, output, operator)
            for exposed in self._scene.exposed
            for output in exposed.outputs
            for operator in operators_of(LAYERS, self._scene.classes)
        ]
        found: dict[str, dict[str, list[Tried]]] = {exposed.name: {} for exposed in self._scene.exposed}
        with progress_bar("heads on the published outputs", len(jobs)) as progress:
            for number, (exposed, output, operator) in enumerate(jobs):
                rows = partial(exposed.outputs.__getitem__, output)
                tried = self._tried(LAYERS, output, operator, exposed, budget, rows)
                found[exposed.name].setdefault(output, []).append(tried)
                progress(number + 1)
        return {
            name: {output: best for output, of in outputs.items() if (best := reached(of, judged)) is not None}
            for name, outputs in found.items()
        }

    def _tried(
        self,
        rung: int,
        place: str,
        operator: Operator,
        exposed: Exposed,
        budget: ImageBudget,
        looked_up: Callable[[], tuple[Rows, Rows]],
    ) -> Tried:
        rows, dtype = self._draws.rows(budget), dtype_of(rung)
        if operator.random and len(rows) < len(self._draws.orders):
            rows = np.repeat(rows, len(self._draws.orders), axis=0)

        def make() -> Tried:
            begun = time.monotonic()
            fit, judged = looked_up()
            runs = try_features(operator, fit, judged, rows, classes=self._scene.classes, seed=self._seed, dtype=dtype)
            about = {"rung": rung, "attacker": operator.name, "place": place, "network": exposed.name}
            return summarised(
                runs, operator.rates, operator.records, seconds=time.monotonic() - begun, images=budget.images, **about
            )

        described = [rung, operator.name, operator.rates, operator.records, operator.loss.__name__, budget.images]
        looked_at = [exposed.identity(name) for name in place.split(" + ")]
        key = json.dumps([described, looked_at])
        if key not in self._made:
            self._made[key] = self._units.get(make, operator=described, looked_at=looked_at)
        return replace(self._made[key], network=exposed.name, place=place)

    def _places(self, exposed: Exposed) -> list[tuple[str, ...]]:
        """Layers one by one, the last three and all together."""
        layers = tuple(place for place in (*self._layers, BEFORE_MAP) if place in exposed.places)
        several = [layers[-3:], layers] if len(layers) > 3 else [layers] if len(layers) > 1 else []
        return [*((place,) for place in layers), *several]


def _fine_tuned(
    scene: Scene, draws: Draws, settings: LadderSettings, subject: Subject, kept: Path | None, made_by: dict
) -> list[Tried]:
    """Whoever changes weights, with a progress bar."""
    from cimm_jax.runs.network_subject import NetworkSubject

    assert isinstance(subject, NetworkSubject)  # only networks have images
    total = runs_of_tuning(scene, draws, settings.tuning)
    with progress_bar("fine-tuning", total) as progress:
        made = 0

        def one_more() -> None:
            nonlocal made
            made += 1
            progress(made)

        return fine_tuned(
            scene,
            draws,
            settings.tuning,
            seed=settings.seed,
            cache=subject.cache,
            kept=kept,
            made_by=made_by,
            progress=one_more,
        )


def _layers(scene: Scene, asked: Sequence[str]) -> tuple[str, ...]:
    """Of the undefended network; raises `InputError` with the known ones for an unknown one."""
    known = tuple(place for place in scene.exposed[0].places if place != FEATURES)
    for name in asked:
        if name not in known:
            told = ", ".join(known) or "none, without a network"
            raise InputError(f"layers: {name!r} is unknown; choose among {told}")
    return tuple(asked) or known


def _side_by_side(exposed: Exposed, place: tuple[str, ...]) -> tuple[Rows, Rows]:
    """Rows at several places, one beside the other: the attackers' and the judge's."""
    parts = [exposed.places[name] for name in place]
    return tuple(
        Rows(np.concatenate([part[side].x for part in parts], axis=1), parts[0][side].labels) for side in (0, 1)
    )  # pyright: ignore[reportReturnType]
