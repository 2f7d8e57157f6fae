"""The notebooks run, and what is stored in them is what they print."""

import re
from pathlib import Path

import pytest
import run_notebooks

NOTEBOOKS = Path(__file__).parent.parent / "docs" / "notebooks"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]\d+)?")


def check(name):
    path = NOTEBOOKS / f"{name}.ipynb"
    stored, notebook = run_notebooks.read(path), run_notebooks.read(path)
    run_notebooks.run(notebook)
    cells = run_notebooks.code_cells(notebook)
    assert [cell["execution_count"] for cell in run_notebooks.code_cells(stored)] == [
        cell["execution_count"] for cell in cells
    ]
    for before, after in zip(run_notebooks.code_cells(stored), cells, strict=True):
        assert [kind(output) for output in before["outputs"]] == [kind(output) for output in after["outputs"]]
        assert_says_the_same(run_notebooks.printed(before), run_notebooks.printed(after))
    return cells


def kind(output):
    return sorted(output.get("data", {"text": None}))


def assert_says_the_same(stored, printed):
    """Word for word, and every number to 10 %, for the last digits differ between machines."""
    assert " ".join(NUMBER.sub("#", stored).split()) == " ".join(NUMBER.sub("#", printed).split())
    numbers = [list(map(float, NUMBER.findall(text))) for text in (stored, printed)]
    assert numbers[1] == pytest.approx(numbers[0], rel=0.1, abs=0.02)


@pytest.mark.usefixtures("standard_promotion_everywhere")
@pytest.mark.slow
def test_digits_end_to_end():
    cells = check("digits")
    assert any("image/png" in output.get("data", {}) for cell in cells for output in cell["outputs"])


@pytest.mark.slow
@pytest.mark.usefixtures("standard_promotion_everywhere")
def test_own_features():
    check("own_features")
