"""Tables: numbers as people read them, every column whole in a pipe."""

import math

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
