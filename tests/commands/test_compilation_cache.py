"""Compiled programs are kept in a folder of this kind of machine, unless JAX was told otherwise."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache as jax_cache

from cimm_jax.commands import compilation_cache
from cimm_jax.commands.compilation_cache import keep_programs

SETTINGS = (
    "jax_enable_compilation_cache",
    "jax_compilation_cache_dir",
    "jax_compilation_cache_max_size",
    "jax_persistent_cache_min_compile_time_secs",
)


@pytest.fixture
def enabled(tmp_path, monkeypatch):
    """JAX's cache as it is outside of tests, and a home of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    former = {name: getattr(jax.config, name) for name in SETTINGS}
    jax.config.update("jax_enable_compilation_cache", True)
    jax_cache.reset_cache()
    yield tmp_path
    for name, value in former.items():
        jax.config.update(name, value)
    jax_cache.reset_cache()


def test_what_was_compiled_lies_in_the_folder_of_the_machine(enabled, monkeypatch):
    monkeypatch.setattr(compilation_cache, "LEAST_SECONDS", 0.0)
    folder = keep_programs()
    assert folder is not None
    assert folder.parent == enabled / "cimm_jax" / "programs"
    assert folder.stat().st_mode & 0o077 == 0
    jax.jit(lambda x: jnp.cumsum(jnp.sin(x)))(jnp.ones(7))
    assert [path for path in folder.iterdir() if path.name.endswith("-cache")]


def test_a_folder_that_jax_was_given_stays(enabled):
    jax.config.update("jax_compilation_cache_dir", str(enabled / "own"))
    assert keep_programs() is None
    assert jax.config.jax_compilation_cache_dir == str(enabled / "own")


def test_a_cache_that_was_turned_off_stays_off(enabled):
    jax.config.update("jax_enable_compilation_cache", False)
    assert keep_programs() is None
    assert jax.config.jax_compilation_cache_dir is None
    assert not list(enabled.iterdir())


def test_without_a_place_to_write_commands_run_as_before(enabled):
    (enabled / "cimm_jax").write_text("no folder")
    assert keep_programs() is None
    assert jax.config.jax_compilation_cache_dir is None
