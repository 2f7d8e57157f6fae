"""Tables: numbers as people read them, every column whole in a pipe."""

import math

import numpy as np

from cimm_jax.report.tables import format_number, print_table


def test_numbers_have_four_digits_and_the_scale_is_readable():
    assert format_number(0.0) == "0"
    assert format_number(99999.4) == "1e+05"
    assert format_number(-123456.0) == "-1.235e+05"
    assert format_number(math.nan) == "-"
    assert format_number(math.inf) == "inf"
    assert format_number(12) == "12"
    assert format_number("word") == "word"


def test_a_piped_table_is_not_cut(capsys):
    columns = [f"a rather long column {i}" for i in range(6)]
    print_table(columns, [[1.5] * 6], title="title")
    printed = capsys.readouterr().out
    assert all(column in printed for column in columns)
    assert printed.count("1.5") == 6


def test_a_piped_table_of_any_width_keeps_every_cell(capsys):
    columns = [f"a rather long column number {i}" for i in range(12)]
    path = "/long" * 60
    print_table([*columns, "path"], [[1.5] * 12 + [path]], title="title")
    lines = capsys.readouterr().out.splitlines()
    assert any(all(column in line for column in columns) for line in lines), "the header is one line"
    assert any(path in line for line in lines)


def test_brackets_and_colons_are_printed_as_they_are(capsys):
    print_table(["what"], [["opt[bold]x"], ["[/x]"], [":x:"]], title="kind [one]")
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("opt[bold]x", "[/x]", ":x:", "kind [one]"))


def test_numbers_stand_on_the_right_and_words_on_the_left(capsys):
    print_table(
        ["number", "single", "word"], [[1.5, np.float32(0.1), "ab"], [None, np.float32(1e-4), "abcdef"]], title="title"
    )
    cells = [line.strip("│").split("│") for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert cells[0] == ["    1.5 ", "       0.1 ", " ab     "]
    assert cells[1] == ["      - ", " 1.000e-04 ", " abcdef "]


def test_the_scale_changes_at_a_thousandth():
    assert format_number(1e-3) == "0.001"
    assert format_number(0.000999) == "9.990e-04"
    assert format_number(np.float32("nan")) == "-"
