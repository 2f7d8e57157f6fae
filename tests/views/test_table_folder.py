"""Tables as files: numbers in full, every small line beside its figure, names that every system takes."""

import csv
import io

import numpy as np
import pytest
from sample_records import one_of_each_command

from cimm_jax.views.blocks import Cell, Part, Section, Table
from cimm_jax.views.registry import part_of
from cimm_jax.views.render.comma_separated import to_csv
from cimm_jax.views.render.table_folder import table_files


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_numbers_are_written_in_full_and_absent_ones_are_empty():
    row = [1 / 3, np.float32(0.25), 12345678, None, float("nan"), True, 'yes, "it\'s"', -1e-20]
    table = Table("c", ["name", *"abcdefgh"], [("first", [row])])
    header, line = read(to_csv(table))
    assert header == ["name", *"abcdefgh"]
    assert line == ["first", repr(1 / 3), "0.25", "12345678", "", "nan", "yes", 'yes, "it\'s"', "-1e-20"]


def test_small_lines_and_marks_stand_in_a_column_of_their_own():
    cells = [[Cell("3", ("2 to 4", "before 1"), ("best",)), 1.0], [Cell("5"), 2.0]]
    assert read(to_csv(Table("c", ["who", "what", "n"], [("a", cells)]))) == [
        ["who", "what", "what, notes", "n"],
        ["a", "3", "2 to 4; before 1; best", "1.0"],
        ["a", "5", "", "2.0"],
    ]


def test_a_heading_over_rows_is_repeated_beside_each_of_them():
    table = Table("c", ["who", "n"], [("kind", []), ("a", [[1]]), ("b", [[2]]), ("other", []), ("c", [[3]])])
    assert read(to_csv(table)) == [
        ["group", "who", "n"],
        ["kind", "a", "1"],
        ["kind", "b", "2"],
        ["other", "c", "3"],
    ]


@pytest.mark.parametrize("text", ["=1+1", "@x", "+cmd", "-cmd", "=", "--x"])
def test_no_spreadsheet_takes_a_name_for_a_formula(text):
    assert read(to_csv(Table("c", ["a", "b"], [(text, [[text]])])))[1] == [f"'{text}"] * 2


@pytest.mark.parametrize("text", ["-", "-3.5", "+2", "-infinite", "-.5", "a=b", "x@y"])
def test_numbers_with_signs_and_other_words_are_left_as_they_are(text):
    assert read(to_csv(Table("c", ["a", "b"], [(text, [[Cell(text)]])])))[1] == [text] * 2


def test_a_line_break_or_an_escape_in_a_name_is_a_space():
    assert read(to_csv(Table("c", ["a", "b"], [("x\ny\x1b", [[1]])])))[1] == ["x y ", "1"]


def test_every_table_of_every_kind_of_run_is_two_files_and_names_differ():
    parts = [part_of(record, f"runs/{record.manifest.command}") for record in one_of_each_command()]
    files = table_files(parts)
    tables = [block for part in parts for of in part.sections for block in of.blocks if isinstance(block, Table)]
    assert len(files) == 2 * len(tables)
    for table, name in zip(tables, [name for name in files if name.endswith(".csv")], strict=True):
        lines = read(files[name])
        assert len(lines) == 1 + sum(len(rows) for _, rows in table.groups)
        assert len({len(line) for line in lines}) == 1
        markdown = files[name.removesuffix("csv") + "md"]
        assert markdown.count("\n| ") >= len(lines)
        assert name == name.lower()
        assert name.replace("-", "").replace("_", "").replace(".", "").isalnum()


def test_two_runs_of_one_name_and_one_without_any_letter_have_files_of_their_own():
    section = Section("s", [Table("Größe: (a/b)", ["a", "b"], [("x", [[1]])])])
    parts = [Part("t", "h", "neutral", [section], folder) for folder in ("a/run", "b/run", "../..")]
    assert [name for name in table_files(parts) if name.endswith("csv")] == [
        "1-run-1-gr-e-a-b.csv",
        "2-run-1-gr-e-a-b.csv",
        "3-x-1-gr-e-a-b.csv",
    ]
