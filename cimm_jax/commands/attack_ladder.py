"""`cimm attack --ladder`: every family of attackers instead of one sweep of linear probes."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cimm_jax.commands.delivery import deliver
from cimm_jax.commands.settings import Attack
from cimm_jax.errors import naming
from cimm_jax.runs.defence import Defence
from cimm_jax.runs.ladder import FOLDER, LadderSettings, climb
from cimm_jax.runs.ladder_tuning import TuningSettings
from cimm_jax.runs.records import Manifest
from cimm_jax.runs.subject import Subject

__all__ = ["GOES_ON", "climb_into", "ladder_settings"]

GOES_ON = "attackers that were finished are not run again when the same command is given again"


def ladder_settings(settings: Attack, seeds: int) -> LadderSettings:
    """How the ladder is climbed; raises `InputError` for what cannot be asked."""
    with naming("tuning_steps", "steps"):
        tuning = TuningSettings() if settings.tuning_steps is None else TuningSettings(steps=settings.tuning_steps)
    asked = LadderSettings(
        images_a_class=settings.images_a_class,
        seeds=seeds,
        layers=settings.layers or (),
        rungs=settings.rungs or (),
        tuning=tuning,
        primary_alone=settings.primary_alone,
        with_defences_images=settings.with_defences_images,
        seed=settings.seed,
    )
    return asked if settings.judged is None else replace(asked, judged=settings.judged)


def climb_into(
    folder: Path,
    asked: LadderSettings,
    manifest: Manifest,
    subject: Subject,
    defences: Sequence[Defence],
    *,
    json: bool,
) -> None:
    """Climbs, writes and prints; raises `KeyboardInterrupt` with what happens when the command is repeated."""
    kept = folder / FOLDER
    try:
        record = climb(replace(manifest, command="ladder"), subject, defences, asked, kept=kept)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(GOES_ON) from interrupt
    deliver(folder, record, json=json)
    shutil.rmtree(kept, ignore_errors=True)
