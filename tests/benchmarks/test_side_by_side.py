"""What the side-by-side benchmarks rest on: turns, ratios, and contenders that make one and the same step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import growth, step
from benchmarks._timing import Timed, against, check_agreement, in_turn, relative_difference
from cimm_jax import InputError


def test_calls_are_made_in_turn_after_a_warm_up():
    seen = []
    timed = in_turn({name: lambda name=name: seen.append(name) for name in "ab"}, rounds=3)
    assert "".join(seen) == "ab" * 4
    assert [len(found.calls) for found in timed.values()] == [3, 3]


def test_short_calls_are_repeated_for_their_share():
    timed = in_turn({"a": lambda: None}, rounds=2, share=1e-4)
    assert len(timed["a"].calls) > 4


def test_ratios_are_to_the_reference():
    rows = against("a", {"a": Timed((1.0, 2.0, 3.0)), "b": Timed((6.0, 4.0, 11.0))}, {"b": 1e-3})
    assert [(row.median_ratio, row.fastest_ratio) for row in rows] == [(1, 1), (3, 4)]
    check_agreement(rows, 1e-2)
    with pytest.raises(SystemExit, match="b: the answers differ by 1"):
        check_agreement(rows, 1e-4)


def test_a_difference_is_relative_to_the_largest_entry():
    assert relative_difference(np.array([1.0, -2.2]), np.array([1.0, -2.0])) == pytest.approx(0.1)


def test_contenders_make_the_same_step():
    with jax.numpy_dtype_promotion("standard"):  # optax's own arithmetic mixes dtypes
        found = step.contenders(step.begin(d=12, rows=5), None)
    differences = {name: found[name].difference for name in found if name != step.OURS}
    assert len(differences) >= 2
    assert all(difference < 1e-6 for difference in differences.values()), differences


def test_growth_compares_with_an_independent_step():
    for make in (lambda: growth.one_step(12, 5), lambda: growth.one_covariance(20)):
        _, difference = make()
        assert difference < 1e-9


def test_a_folder_without_the_released_code_is_named_and_another_commit_warned_of(tmp_path, capsys):
    pytest.importorskip("torch")
    from benchmarks import _released

    with pytest.raises(InputError, match=r"--released-code.*models/linear\.py"):
        _released.load(tmp_path)
    for name, content in {"linear": "class Linear: pass", "loss": "def condition_number(s): return s"}.items():
        path = tmp_path / _released.FILES[name]
        path.parent.mkdir()
        path.write_text(content)
    loaded = _released.load(tmp_path)
    assert loaded.condition_number(jnp.eye(2)).shape == (2, 2)
    warning = capsys.readouterr().err
    assert _released.COMMIT in warning
    assert "unknown" in warning
