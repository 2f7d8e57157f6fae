"""Programs are compiled quickly where jaxlib surely knows how, and nobody said otherwise."""

import os

import pytest
from jaxlib import version

from cimm_jax.commands.quick_compilation import FLAG, KNOWN_IN, compile_quickly


@pytest.mark.parametrize(
    ("found", "told", "then"),
    [
        (KNOWN_IN, "", f"--{FLAG}=false"),
        (KNOWN_IN, "--xla_dump_to=x", f"--xla_dump_to=x --{FLAG}=false"),
        (KNOWN_IN, f"--{FLAG}=true", f"--{FLAG}=true"),
        ((KNOWN_IN[0], KNOWN_IN[1] + 1), "", ""),
    ],
)
def test_the_flag_is_set_where_it_is_known_and_free(monkeypatch, found, told, then):
    monkeypatch.setattr(version, "__version_info__", (*found, 0))
    monkeypatch.setenv("XLA_FLAGS", told)
    compile_quickly()
    assert os.environ["XLA_FLAGS"] == then
