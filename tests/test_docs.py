"""The programs in the documents run as printed."""

import re
from pathlib import Path

import jax
import numpy as np

from cimm_jax import Task, TaskPair, condition_number, covariance, immunize, probe_hessian

ROOT = Path(__file__).parent.parent


def run_the_program_of(document):
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), flags=re.DOTALL)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(compile(program, document, "exec"), names := {})
    return names


def test_the_readme_s_example_runs_and_prints_a_verdict(capsys):
    run_the_program_of("README.md")
    printed = capsys.readouterr().out
    assert "held-out RIR" in printed
    assert "immunized" in printed
    assert printed.count("\n  (") == 3
    assert "steps of Adam" in printed


def test_the_method_of_one_s_own_is_one():
    easy = run_the_program_of("docs/own_methods.md")["easy"]
    rng = np.random.default_rng(0)
    tasks = [Task(rng.standard_normal((20, 3)) * [1, 10, 100], None) for _ in range(2)]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        theta = immunize(easy(ridge=1e-9), TaskPair(*tasks)).theta
    assert condition_number(probe_hessian(theta, covariance(tasks[0].x))).kappa < 1.01
    assert easy() is easy(ridge=1e-6)


def test_the_counterexample_to_proposition_3_2_holds():
    run_the_program_of("docs/theory.md")
