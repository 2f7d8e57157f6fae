import pytest
from pages import sketched, undrawn


@pytest.fixture(scope="module", autouse=True)
def pictures():
    """Hardly any: tests/views lays out and colours those of every command."""
    with sketched(), undrawn():
        yield
