"""How much is said is asked for where a command begins, and holds until it ends."""

import pytest

from cimm_jax.verbosity import Level, at_level, level


def test_a_level_holds_within_and_not_after():
    assert level() is Level.NORMAL
    with at_level(Level.QUIET):
        with at_level(Level.VERBOSE):
            assert level() is Level.VERBOSE
        assert level() is Level.QUIET
    with pytest.raises(RuntimeError), at_level(Level.QUIET):
        raise RuntimeError
    assert level() is Level.NORMAL
