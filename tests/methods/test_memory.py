"""How much memory is left: never more than the container allows."""

import pytest

from cimm_jax.methods import memory


def test_some_is_left():
    assert memory.free_bytes() > 0


@pytest.mark.parametrize(("limit", "used", "left"), [("5000000", "2000000", 3_000_000), ("10\n", "4\n", 6)])
def test_a_container_s_limit_counts(tmp_path, monkeypatch, limit, used, left):
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text(limit)
    (tmp_path / "memory.current").write_text(used)
    assert memory.free_bytes() == left


@pytest.mark.parametrize("limit", ["max\n", None])
def test_without_a_limit_it_is_what_the_machine_has(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    if limit is not None:
        (tmp_path / "memory.max").write_text(limit)
        (tmp_path / "memory.current").write_text("0\n")
    assert memory.free_bytes() > 10**6
