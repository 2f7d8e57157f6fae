"""The programs in the documents run as printed."""

import re
from pathlib import Path

import jax

ROOT = Path(__file__).parent.parent


def run_the_program_of(document):
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), flags=re.DOTALL)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(compile(program, document, "exec"), {})


def test_the_readme_s_example_runs_and_prints_a_verdict(capsys):
    run_the_program_of("README.md")
    printed = capsys.readouterr().out
    assert "held-out RIR" in printed
    assert "immunized" in printed
    assert printed.count("\n  (") == 3
    assert "steps of Adam" in printed


def test_the_counterexample_to_proposition_3_2_holds():
    run_the_program_of("docs/theory.md")
