"""`cimm immunize`: one pair, one method, a verdict."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from safetensors.numpy import save

from cimm_jax.cli import Immunize
from cimm_jax.commands.shared import build_method, manifest, progress_bar, ratio_record
from cimm_jax.data import load_pair
from cimm_jax.files import output_folder, write_json, write_whole
from cimm_jax.methods import immunize
from cimm_jax.methods.run import check_batch_size, check_steps
from cimm_jax.metrics import definition_3_1, relative_immunization_ratio
from cimm_jax.report.history import history_plot
from cimm_jax.report.tables import print_table
from cimm_jax.spectra import PseudoInverse, ReleasedCode
from cimm_jax.tasks import check_pair

POLICIES = (PseudoInverse(), ReleasedCode())
NO_COMPARISON = (
    "Numbers under different policies are not comparable; ReleasedCode is shown to compare with published figures."
)


def run_immunize(command: Immunize) -> None:
    """Loads, immunizes, measures on training and held-out rows, writes results.json, theta.safetensors, history.png."""
    method = build_method(
        command.method,
        command.learning_rate,
        lambda_primary=command.lambda_primary,
        lambda_harmful=command.lambda_harmful,
    )
    split = load_pair(command.data, data_dir=command.data_dir, primary=command.primary, harmful=command.harmful)
    check_pair(split.heldout, "heldout")
    check_steps(command.steps)
    check_batch_size(command.batch_size, split.train)
    split = jax.tree.map(jnp.asarray, split)
    folder = output_folder(command.out)
    with progress_bar(f"{command.method} on {command.data}", command.steps) as progress:
        result = immunize(
            method,
            split.train,
            key=jax.random.key(command.seed),
            steps=command.steps,
            batch_size=command.batch_size,
            progress=progress,
        )
    parts = {"train": split.train, "heldout": split.heldout}
    ratios = {
        part: {type(policy).__name__: relative_immunization_ratio(result.theta, pair, policy) for policy in POLICIES}
        for part, pair in parts.items()
    }
    verdicts = {
        part: definition_3_1(result.theta, pair, fit_on=split.train.primary)._asdict() for part, pair in parts.items()
    }
    results: dict[str, Any] = {
        **manifest(command),
        "rows": {
            part: {"primary": len(pair.primary.x), "harmful": len(pair.harmful.x)} for part, pair in parts.items()
        },
        "ratios": {part: {name: ratio_record(r) for name, r in named.items()} for part, named in ratios.items()},
        "verdict": verdicts,
        "history": result.history._asdict(),
    }
    write_whole(folder / "theta.safetensors", save({"theta": np.asarray(result.theta)}))
    write_whole(folder / "history.png", history_plot(result.history, title=f"{command.method} on {command.data}"))
    written = write_json(folder / "results.json", results)
    if command.json:
        print(written.read_text(), end="")
        return
    _print(command, ratios, verdicts)
    print(f"\nWrote results.json, theta.safetensors and history.png to {folder}")


def _print(command: Immunize, ratios: dict, verdicts: dict) -> None:
    columns = ["rows", "policy", "(i) harmful", "(ii) primary", "RIR", "rank H", "rank P", "a floor decided"]
    rows = [
        [
            part,
            policy,
            float(ratio.harmful_ratio),
            float(ratio.primary_ratio),
            float(ratio.rir),
            int(ratio.harmful.rank),
            int(ratio.primary.rank),
            "yes" if bool(ratio.floored) else "no",
        ]
        for part, named in ratios.items()
        for policy, ratio in named.items()
    ]
    print_table(columns, rows, title=f"{command.method} on {command.data}: condition numbers, after over before")
    console = Console(soft_wrap=True, highlight=False)
    console.print(NO_COMPARISON)
    for part, verdict in verdicts.items():
        outcome = "immunized" if verdict["immunized"] else "NOT immunized"
        console.print(f"\nVerdict on {part} rows, Definition 3.1 under PseudoInverse: {outcome}")
        for reason in verdict["reasons"]:
            console.print(f"  {reason}", markup=False)
