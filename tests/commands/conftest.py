import pytest
from pages import sketched


@pytest.fixture(scope="module", autouse=True)
def pictures():
    """Of every command tests/views lays out and colours one."""
    with sketched():
        yield
