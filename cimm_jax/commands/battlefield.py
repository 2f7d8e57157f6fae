"""What `cimm attack` attacks: three tasks, and the extractors that runs or methods made for the first two."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cimm_jax.attacks.protocol import are_classes
from cimm_jax.cli import Attack
from cimm_jax.commands.attack_shared import check_left_out
from cimm_jax.commands.defences import ImmunizedRun, build_defences, check_run, immunized, read_runs
from cimm_jax.commands.shared import progress_bar
from cimm_jax.data import load_pair_and_benign
from cimm_jax.errors import InputError
from cimm_jax.methods import Method
from cimm_jax.methods.run import check_batch_size
from cimm_jax.report.attack_facts import UNDEFENDED
from cimm_jax.tasks import SplitPair, SplitTask

DECIDED_BY_RUNS = (
    *("data", "primary", "harmful", "rows", "methods", "immunization_steps", "batch_size", "learning_rate"),
    *("ridge", "budget", "rotate", "objective", "horizon", "primary_no_slower_at"),
)
"""Settings that make no sense beside folders of runs."""


class Battlefield(NamedTuple):
    """The tasks, checked, and where the extractors come from.

    Attributes:
      settings: of the data: its name, folder, and the two tasks.
      pair: the pair of tasks.
      benign: a third task, if there is one.
      runs: folders with extractors; none if methods make them.
      methods: by name; none if there are runs.
    """

    settings: dict[str, Any]
    pair: SplitPair
    benign: SplitTask | None
    runs: list[ImmunizedRun]
    methods: dict[str, Method]

    def tasks(self) -> dict[str, SplitTask]:
        """Harmful, primary and, if there is one, benign."""
        tasks = {name: SplitTask(*(getattr(part, name) for part in self.pair)) for name in ("harmful", "primary")}
        return tasks if self.benign is None else {**tasks, "benign": self.benign}


def read_battlefield(command: Attack) -> Battlefield:
    """Reads the runs and the data; raises `InputError` for what cannot be used, before anything is computed."""
    runs = read_runs(command.runs)
    methods = {} if runs else build_defences(command.methods, command)
    settings = {name: getattr(command, name) for name in ("data", "data_dir", "primary", "harmful")}
    if runs:
        check_left_out(command, DECIDED_BY_RUNS)
        settings = {name: runs[0].settings[name] for name in settings}
        settings["data_dir"] = settings["data_dir"] if command.data_dir is None else command.data_dir
    source = {key: value for key, value in settings.items() if key != "data"}
    pair, benign = load_pair_and_benign(settings["data"], **source, benign=command.benign, rows=command.rows)
    check_batch_size(command.batch_size, pair.train)
    for run in runs:
        check_run(run, pair.train)
    settings["data_dir"] = None if settings["data_dir"] is None else str(settings["data_dir"])
    pair, benign = jax.tree.map(jnp.asarray, (pair, benign))
    field = Battlefield(settings, pair, benign, runs, methods)
    if command.loss != "squared":
        for name, task in field.tasks().items():
            if not are_classes(task.train.y):
                raise InputError(f"loss: the {name} task has no classes; use --loss squared")
            if command.loss == "softmax" and task.train.y.ndim == 1:
                raise InputError(f"loss: the {name} task has two classes; use --loss logistic")
    return field


def extractors(field: Battlefield, *, seed: int, steps: int, batch_size: int | None) -> dict[str, jax.Array]:
    """Extractors by name, the undefended identity first; methods are run with a progress bar."""
    thetas = {UNDEFENDED: jnp.eye(field.pair.train.primary.x.shape[1])}
    if field.runs:
        return thetas | {run.name: jnp.asarray(run.theta) for run in field.runs}
    with progress_bar("immunizing", len(field.methods)) as progress:
        for made, (name, method) in enumerate(field.methods.items()):
            thetas[name] = immunized(method, field.pair.train, seed=seed, steps=steps, batch_size=batch_size)
            progress(made + 1)
    return thetas
