"""`cimm attack`: what every attacker of a sweep gets from immunized extractors, and what the protection costs."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax

from cimm_jax import attacks
from cimm_jax.attacks import Operator, Swept
from cimm_jax.attacks.protocol import are_classes
from cimm_jax.cli import Attack
from cimm_jax.closed_form.limits import share_of_pair
from cimm_jax.commands.attack_shared import all_finished, deliver, operators_of, sweep_records, swept_by_task
from cimm_jax.commands.battlefield import extractors, read_battlefield
from cimm_jax.commands.shared import POLICIES, blas_threads_for, check_count, manifest, ratio_record
from cimm_jax.files import output_folder
from cimm_jax.measures.metrics import relative_immunization_ratio
from cimm_jax.numerics import losses
from cimm_jax.tasks import SplitPair, SplitTask


def run_attack(command: Attack) -> None:
    """Loads or immunizes, attacks, writes results.json and attack.png, prints what broke which extractor first.

    Raises:
      KeyboardInterrupt: after everything that had been finished was written and printed.
    """
    check_count(command.seeds, "seeds")
    check_count(command.immunization_steps, "immunization_steps")
    operators = operators_of(command, attacks.standard_names(getattr(losses, command.loss)))
    field = read_battlefield(command)
    folder = output_folder(command.out)
    with blas_threads_for(field.pair.train.primary.x.shape[1]):
        thetas = extractors(field, seed=command.seed, steps=command.immunization_steps, batch_size=command.batch_size)
        wanted = {name: task for name, task in field.tasks().items() if name == "harmful" or not command.harmful_only}
        tasks = _tasks(command, wanted, thetas, operators)
        swept = swept_by_task(tasks, operators)
    results: dict[str, Any] = {
        **manifest(command, {"pair": field.pair, "benign": field.benign}),
        "data": field.settings,
        "rows": {task: {part: len(t.x) for part, t in split._asdict().items()} for task, split in wanted.items()},
        "classes": are_classes(field.pair.train.harmful.y),
        "extractors": {name: _measured(theta, field.pair) for name, theta in thetas.items()},
        **sweep_records(command, operators, swept, list(thetas)),
    }
    deliver(command, folder, results, complete=all_finished(swept, tasks, operators))


def _tasks(
    command: Attack, tasks: Mapping[str, SplitTask], thetas: Mapping[str, jax.Array], operators: Sequence[Operator]
) -> dict[str, Callable[..., dict[str, Swept]]]:
    keys = jax.random.split(jax.random.key(command.seed), command.seeds)

    def sweep(split: SplitTask, progress: Callable[[int], None]) -> dict[str, Swept]:
        targets = {name: attacks.behind(theta, split) for name, theta in thetas.items()}
        return attacks.sweep(operators, targets, keys=keys, progress=progress)

    return {task: partial(sweep, split) for task, split in tasks.items()}


def _measured(theta: jax.Array, pair: SplitPair) -> dict[str, Any]:
    return {
        part: {
            "ratios": {
                type(policy).__name__: ratio_record(relative_immunization_ratio(theta, tasks, policy))
                for policy in POLICIES
            },
            "limit": share_of_pair(theta, tasks)._asdict(),
        }
        for part, tasks in pair._asdict().items()
    }
