"""Parts and tables on a terminal of 80 columns, where nothing is cut, and in a pipe, where every table is whole."""

import io
import re

import numpy as np
import pytest
from rich.console import Console
from sample_records import attack_record, changed, immunize_record, shown_records

from cimm_jax.errors import printable
from cimm_jax.views.blocks import Cell, Code, Facts, Items, Part, Section, Table, Text
from cimm_jax.views.numbers import format_number
from cimm_jax.views.registry import part_of
from cimm_jax.views.render import terminal
from cimm_jax.views.render.terminal import print_part, print_table


@pytest.fixture
def on_terminal(monkeypatch):
    """What is printed on a terminal of so many columns."""

    def printed(show, width=80) -> str:
        file = io.StringIO()
        console = Console(
            file=file, force_terminal=True, color_system=None, width=width, markup=False, emoji=False, highlight=False
        )
        with monkeypatch.context() as patched:
            patched.setattr(terminal, "_console", lambda: console)
            show()
        return file.getvalue()

    return printed


def tables_of(part: Part) -> list[Table]:
    return [block for section in part.sections for block in section.blocks if isinstance(block, Table)]


def part_with(*blocks, folded=False) -> Part:
    return Part("title", "headline", "good", [Section("section", blocks, folded)])


def lines_of(cell: object) -> list[str]:
    """What must stand on one line: each line of a number, each word of a text."""
    if isinstance(cell, Cell):
        return [line.replace("\xa0", " ") for line in (cell.main, *cell.small, *cell.marks) if line]
    return cell.split() if isinstance(cell, str) else [format_number(cell)]


def check_whole(table: Table, printed: str, width: int) -> None:
    assert "…" not in printed
    assert max(map(len, printed.splitlines())) <= width
    shown = [part.strip() for line in printed.splitlines() for part in re.split("[│┃]", line)]
    words = {word for part in shown for word in part.split()}
    for column in table.columns:
        assert set(column.split()) <= words, column
    for header, rows in table.groups:
        assert set(header.split()) <= words, header
        for place, cell in ((place, cell) for row in rows for place, cell in enumerate(row)):
            for line in lines_of(cell):
                assert line in (words if table.is_words(place) and not isinstance(cell, Cell) else shown), line


@pytest.mark.parametrize("record", shown_records(), ids=lambda record: type(record).__name__)
def test_no_table_of_any_run_is_cut_at_80_columns(record, on_terminal):
    tables = tables_of(part_of(record))
    assert tables
    for table in tables:
        check_whole(table, on_terminal(lambda table=table: print_part(part_with(table))), 80)


def test_many_extractors_with_long_names_are_not_cut(on_terminal):
    record = attack_record()
    names = ["undefended", *(f"runs_of_{'a' * number}_method" for number in range(8))]
    tasks = {task: dict.fromkeys(names, of["pencil"]) for task, of in record.tasks.items()}
    record = changed(record, "tasks", to=tasks)
    record = changed(record, "extractors", to=dict.fromkeys(names, record.extractors["pencil"]))
    record = changed(record, "best_so_far", to=dict.fromkeys(names, record.best_so_far["pencil"]))
    for table in tables_of(part_of(record)):
        check_whole(table, on_terminal(lambda table=table: print_part(part_with(table))), 80)


def test_no_table_of_anything_is_cut(on_terminal):
    rng = np.random.default_rng(0)
    words = ["a", "PseudoInverse", "the primary task", "one_long_name_of_a_thing", "yes", "gradient followers"]
    for _ in range(200):
        columns = [words[rng.integers(6)] for _ in range(rng.integers(2, 14))]
        kinds = rng.integers(3, size=len(columns) - 1)
        makers = (
            lambda: words[rng.integers(6)],
            lambda: float(10.0 ** rng.uniform(-9, 9)),
            lambda: Cell("0.25", ("12 / 345 / never", "accuracy 100\xa0%"), ("edge",)),
        )
        count = rng.integers(1, 3)
        rows = [(words[rng.integers(6)], [[makers[kind]() for kind in kinds] for _ in range(count)]) for _ in range(3)]
        width = int(rng.choice([60, 80, 120]))
        table = Table("caption", columns, rows)
        check_whole(table, on_terminal(lambda table=table: print_part(part_with(table)), width), width)


def test_what_does_not_fit_goes_on_below_with_the_first_column_again(on_terminal):
    columns = ["attacker", *(f"extractor_{number}" for number in range(9))]
    rows = [(name, [[1000.5 + place for place in range(9)]]) for name in ("adam", "newton")]
    printed = on_terminal(lambda: print_part(part_with(Table("caption", columns, rows))))
    assert printed.count("attacker") == printed.count("adam") == printed.count("newton") == 3
    assert printed.count("caption") == 1


def test_rows_of_one_header_are_told_apart_wherever_the_table_goes_on(on_terminal):
    (table,) = (table for table in tables_of(part_of(immunize_record())) if "policy" in table.columns)
    printed = on_terminal(lambda: print_part(part_with(table)))
    blocks = printed.split("┏")[1:]
    assert len(blocks) > 1
    for block in blocks:
        assert {"method", "rows", "policy"} <= set(block.split())
        for text in ("PseudoInverse", "ReleasedCode", "training", "held-out"):
            assert block.count(text) == 2


def test_a_narrow_table_is_printed_once(on_terminal):
    printed = on_terminal(lambda: print_table(["first", "second"], [["x", 1.5]], title="title"))
    assert printed.count("first") == printed.count("title") == 1


def test_a_word_wider_than_the_terminal_is_folded_not_cut(on_terminal):
    name = "n" * 100
    printed = on_terminal(lambda: print_part(part_with(Table("caption", ["a", "b", "c"], [(name, [[name, 1.5]])]))))
    assert printed.count("n") >= 200
    assert "1.5" in printed
    assert "…" not in printed


@pytest.mark.parametrize("piped", [True, False])
def test_numbers_stand_on_the_right_and_words_on_the_left(capsys, on_terminal, piped):
    rows = [["first", 1.5, np.float32(0.1), "ab"], ["b", None, np.float32(1e-4), "abcdef"]]

    def show():
        print_table(["what", "number", "single", "word"], rows, title="title")

    printed = on_terminal(show)
    if piped:
        show()
        printed = capsys.readouterr().out
    cells = [line.strip("│").split("│") for line in printed.splitlines() if line.startswith("│")]
    assert cells[0] == [" first ", "    1.5 ", "       0.1 ", " ab     "]
    assert cells[1] == [" b     ", "      - ", " 1.000e-04 ", " abcdef "]


def test_a_piped_table_of_any_width_keeps_every_cell(capsys):
    columns = [f"a rather long column number {i}" for i in range(12)]
    path = "/long" * 60
    print_table([*columns, "path"], [["first", *[1.5] * 11, path]], title="title")
    lines = capsys.readouterr().out.splitlines()
    assert any(all(column in line for column in columns) for line in lines), "the header is one line"
    assert any(path in line and line.count("1.5") == 11 for line in lines)


@pytest.mark.parametrize("record", shown_records(), ids=lambda record: type(record).__name__)
def test_in_a_pipe_a_row_is_a_line_and_a_sentence_too(record, capsys):
    part = part_of(record)
    print_part(part)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [printable(part.title), printable(part.headline)]
    for section in part.sections:
        if section.folded:
            continue
        assert section.title in lines
        for block in section.blocks:
            if isinstance(block, Table):
                assert any(all(f" {column} " in line for column in block.columns) for line in lines)
            if isinstance(block, Text):
                assert printable(block.text) in lines


def test_brackets_and_colons_are_printed_as_they_are(capsys, on_terminal):
    texts = ("opt[bold]x", "[/x]", ":x:", "[red]")
    table = Table("kind [one]", ["[a]", ":b:"], [(text, [[text]]) for text in texts])
    blocks = [
        table,
        Text(texts[0]),
        Items([("", texts[1])]),
        Facts([(texts[2], texts[3])], title=texts[1]),
        Code(texts[0]),
    ]
    for show in (capsys, on_terminal):
        printed = on_terminal(lambda: print_part(part_with(*blocks)))
        if show is capsys:
            print_part(part_with(*blocks))
            printed = capsys.readouterr().out
        assert all(printed.count(text) >= 3 for text in texts[:2])
        assert all(text in printed for text in (*texts, "kind [one]"))


def test_what_is_folded_is_left_out(capsys):
    print_part(part_with(Text("a text"), folded=True))
    assert "text" not in capsys.readouterr().out


def test_control_characters_do_not_reach_the_terminal(capsys):
    print_part(
        part_with(
            Text("a\x1b[31mb\x07"), Items([("\x1b[2J", "x")]), Table("c", ["\x1bd", "e"], [("\x1bf", [["\x1bg"]])])
        )
    )
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", capsys.readouterr().out)
