"""The README's example runs as printed."""

import re
from pathlib import Path

import jax


def test_the_example_runs_and_prints_a_verdict(capsys):
    text = (Path(__file__).parent.parent / "README.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(compile(program, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "held-out RIR" in printed
    assert "immunized" in printed
    assert printed.count("\n  (") == 3
