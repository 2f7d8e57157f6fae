"""What docs/concepts.md says of its first picture is what the picture shows."""

from pathlib import Path

import pytest

from experiments.concepts import SHOWN, two_features

PAGE = Path(__file__).parent.parent.parent / "docs" / "concepts.md"


@pytest.mark.usefixtures("standard_promotion")
def test_descent_takes_as_long_as_the_page_says():
    found = two_features()
    kappas = [of.kappa for of in found.values()]
    assert kappas == pytest.approx([9, 9, 9, 9**3])
    (kept, kept_protected, blocked, blocked_protected) = (of.steps for of in found.values())
    page = " ".join(PAGE.read_text().split())
    assert f"{blocked} become {blocked_protected} for the blocked task, and {kept} become {kept_protected}" in page
    assert f"first {SHOWN} steps" in page
    assert all(of.path.shape == (SHOWN + 1, 2) for of in found.values())
