"""The programs in the documents run as printed."""

import re
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from pages import sketched, undrawn
from sample_records import immunize_record

from cimm_jax import CovarianceSum, Task, TaskPair, condition_number, covariance, immunize, probe_hessian
from cimm_jax.data import save_covariance_sum
from cimm_jax.front import protecting

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


def test_features_of_one_s_own_are_protected_in_python(tmp_path, monkeypatch, capsys, rng):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        protecting, "measured", lambda prepared, made: replace(immunize_record(), source=prepared.subject.source)
    )
    (tmp_path / "features").mkdir()
    for name in ("primary", "harmful"):
        np.savez(tmp_path / f"features/{name}.npz", x=rng.standard_normal((20, 3)), y=np.arange(20) % 2)
    for part in ("features-00.npy", "features-01.npy"):
        np.save(tmp_path / part, rng.standard_normal((20, 3)))
    save_covariance_sum(tmp_path / "second.sum", CovarianceSum(3))
    text = (ROOT / "docs/own_features.md").read_text()
    names = {}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"), undrawn(), sketched():
        for program in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
            exec(compile(program, "docs/own_features.md", "exec"), names)
    assert "By Definition 3.1" in capsys.readouterr().out
    assert (tmp_path / "runs/own/primary.npz").exists()
    (short,) = re.findall(r"```py\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert short in text
    assert names["k"].shape == (3, 3)
    assert names["total"].rows == 40


def test_the_counterexample_to_proposition_3_2_holds():
    run_the_program_of("docs/theory.md")
