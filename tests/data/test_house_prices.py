import csv
import io
import os
import re
import statistics
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pandas as pd
import pytest
import sklearn.datasets

from cimm_jax.data.house_prices import load_benign_houses, load_house_prices
from cimm_jax.errors import InputError

ORIGINALS = Path(__file__).parents[3] / "shared" / "data" / "house_prices"
MISSING = {"", "NA", "None"}


@pytest.fixture(scope="module")
def table():
    """A made-up table of the original's size as text: a header, and rows of numbers, words and missing entries."""
    rng = np.random.default_rng(0)
    houses = 1460
    zones = rng.permutation(["RL"] * 1151 + ["RM"] * 200 + ["C (all)"] * 100 + ["FV"] * 9)
    columns = {"Id": range(1, houses + 1), "MSZoning": zones, "LotArea": rng.integers(1000, 9000, houses)}
    columns["Masonry"] = rng.choice(["None", "NA", "Brick", "Stone", "0ld"], houses)
    columns["Frontage"] = [f"{value:.1f}" if value > 1 else "NA" for value in rng.normal(3, 1, houses)]
    columns["Fence"] = rng.choice(["", "Wood"], houses)
    columns["Pool"] = ["NA"] * houses
    columns["Flat"] = [7] * houses
    while len(columns) < 80:
        columns[f"Number{len(columns)}"] = rng.integers(0, 50, houses)
    columns["SalePrice"] = rng.integers(50_000, 500_000, houses)
    return [list(columns), *([str(entry) for entry in row] for row in zip(*columns.values(), strict=True))]


def text_of(rows):
    stream = io.StringIO()
    csv.writer(stream).writerows(rows)
    return stream.getvalue()


def by_zone(table):
    header, *rows = table
    zone = header.index("MSZoning")
    return [[header, *(row for row in rows if (row[zone] == "RL") == low)] for low in (False, True)]


def write(folder, table):
    for name, rows in zip(("D1.csv", "D2.csv"), by_zone(table), strict=True):
        (folder / name).write_text(text_of(rows))


def changed(table, column, function):
    position = table[0].index(column)
    return [table[0], *([*row[:position], function(row[position]), *row[position + 1 :]] for row in table[1:])]


def expected_column(entries):
    """The rule, in plain Python: numbers with 0 for missing, or the place of a word among the sorted words."""
    present = [entry for entry in entries if entry not in MISSING]
    try:
        numbers = [0.0 if entry in MISSING else float(entry) for entry in entries]
    except ValueError:
        words = sorted({*present, *("0" for entry in entries if entry in MISSING)})
        numbers = [float(words.index("0" if entry in MISSING else entry)) for entry in entries]
    mean, deviation = statistics.fmean(numbers), statistics.stdev(numbers)
    return [(number - mean) / (deviation or 1.0) for number in numbers]


def equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_the_preprocessing_is_that_of_the_released_code(table, tmp_path):
    write(tmp_path, table)
    split = load_house_prices(tmp_path)
    for part, (header, *rows), target in zip(
        ("primary", "harmful"), by_zone(table), ("LotArea", "SalePrice"), strict=True
    ):
        columns = {
            name: expected_column(entries) for name, entries in zip(header, zip(*rows, strict=True), strict=True)
        }
        features = np.array([column for name, column in columns.items() if name not in ("LotArea", "SalePrice")]).T
        for task, kept in (
            (getattr(split.train, part), slice(0, 200)),
            (getattr(split.heldout, part), slice(200, 300)),
        ):
            assert isinstance(task.x, np.ndarray)
            assert task.x.dtype == task.y.dtype == np.float64
            assert task.x.shape[1] == 79
            np.testing.assert_allclose(task.x, features[kept], atol=1e-10)
            np.testing.assert_allclose(task.y, columns[target][kept], atol=1e-10)


def with_quality(table):
    """The table with a column of qualities in place of one of numbers."""
    return [["OverallQual" if name == "Number40" else name for name in table[0]], *table[1:]]


def test_the_benign_task_is_the_quality_of_other_houses_which_its_own_column_does_not_tell(table, tmp_path):
    write(tmp_path, with_quality(table))
    found, pair = load_benign_houses(tmp_path), load_house_prices(tmp_path)
    header, *rows = by_zone(with_quality(table))[1]
    expected = expected_column([row[header.index("OverallQual")] for row in rows])
    features = [name for name in header if name not in ("LotArea", "SalePrice")]
    column = features.index("OverallQual")
    for part, houses in ((found.train, slice(300, 500)), (found.heldout, slice(500, 600))):
        np.testing.assert_allclose(part.y, expected[houses], rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(part.x[:, column], 0)
        numbers = expected_column([row[header.index("Number41")] for row in rows])
        np.testing.assert_allclose(part.x[:, features.index("Number41")], numbers[houses], rtol=1e-9, atol=1e-12)
    assert found.train.x.shape == pair.train.harmful.x.shape
    assert found.heldout.x.shape == pair.heldout.harmful.x.shape


def test_without_a_column_of_qualities_there_is_no_benign_task(table, tmp_path):
    write(tmp_path, table)
    with pytest.raises(InputError, match=r"D2\.csv has no column OverallQual; use the original table"):
        load_benign_houses(tmp_path)


def test_the_whole_table_is_split_by_zone_in_file_order(table, tmp_path):
    (tmp_path / "train.csv").write_text(text_of(table))
    whole = load_house_prices(tmp_path)
    (tmp_path / "train.csv").write_text("never read, since D1.csv and D2.csv come first")
    write(tmp_path, table)
    equal(load_house_prices(tmp_path), whole)


def test_openml_gives_the_same_pair(table, tmp_path, monkeypatch):
    write(tmp_path, table)
    asked = []

    def fetch_openml(**arguments):
        asked.append(arguments)
        # As OpenML does: "None" stays a word, other missing entries are marked, words are categories or strings.
        frame = pd.read_csv(io.StringIO(text_of(table)), keep_default_na=False, na_values=["NA", ""])
        return SimpleNamespace(frame=frame.astype({"MSZoning": "category", "Masonry": "category"}))

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch_openml)
    equal(load_house_prices(), load_house_prices(tmp_path))
    assert asked == [{"data_id": 42165, "as_frame": True}]


@pytest.mark.parametrize(
    ("failure", "reason"), [(OSError("no network\nat all"), "no network"), (TimeoutError(), "TimeoutError")]
)
def test_openml_that_fails_ends_in_one_line_with_the_remedy(monkeypatch, failure, reason):
    def fetch_openml(**arguments):
        raise failure

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch_openml)
    with pytest.raises(InputError) as raised:
        load_house_prices()
    assert str(raised.value) == (
        f"data: OpenML cannot provide house_prices ({reason}); give --data-dir with D1.csv and D2.csv, or train.csv"
    )


def test_openml_with_another_table_is_told_from_a_bad_file(table, monkeypatch):
    frame = pd.DataFrame({"MSZoning": ["RL"]})
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", lambda **arguments: SimpleNamespace(frame=frame))
    with pytest.raises(InputError, match=r"^data: OpenML's table 42165 has no column LotArea"):
        load_house_prices()


@pytest.mark.parametrize("there", [None, "D1.csv", "D2.csv"])
def test_missing_files_are_named(table, tmp_path, there):
    if there is not None:
        (tmp_path / there).write_text(text_of(table))
    with pytest.raises(InputError, match=f"^--data-dir: {tmp_path} has neither D1.csv and D2.csv nor train.csv; put"):
        load_house_prices(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'a,b\n1,2\n3,4,5\n"'], ids=["empty", "binary", "ragged"])
def test_a_file_that_is_no_csv_is_named_in_one_line(tmp_path, content):
    path = tmp_path / "train.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"^--data-dir: {path} cannot be read .*; download it again$"):
        load_house_prices(tmp_path)


@pytest.mark.parametrize("name", ["MSZoning", "LotArea", "SalePrice"])
def test_a_missing_column_is_named(table, tmp_path, name):
    position = table[0].index(name)
    (tmp_path / "train.csv").write_text(text_of([row[:position] + row[position + 1 :] for row in table]))
    with pytest.raises(
        InputError, match=f"^--data-dir: {tmp_path}/train.csv has no column {name}; use the original table$"
    ):
        load_house_prices(tmp_path)


def test_a_missing_feature_is_counted(table, tmp_path):
    (tmp_path / "train.csv").write_text(text_of([row[1:] for row in table]))
    with pytest.raises(InputError, match=r"train.csv has 80 columns, expected 81; use the original table$"):
        load_house_prices(tmp_path)


def test_tables_whose_columns_differ_are_refused(table, tmp_path):
    write(tmp_path, table)
    _, second = by_zone(table)
    (tmp_path / "D2.csv").write_text(text_of([[*row[1:3], row[0], *row[3:]] for row in second]))
    with pytest.raises(
        InputError, match=f"^--data-dir: {tmp_path}/D2.csv has other columns than D1.csv, or in another order"
    ):
        load_house_prices(tmp_path)


def test_a_table_that_was_cut_short_is_told_by_its_rows(table, tmp_path):
    write(tmp_path, table)
    path = tmp_path / "D2.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(InputError, match=f"^--data-dir: {path} has 1150 rows, expected 1151"):
        load_house_prices(tmp_path)
    path.unlink()
    (tmp_path / "train.csv").write_text(
        text_of(changed(table, "MSZoning", lambda zone: "RL" if zone == "FV" else zone))
    )
    with pytest.raises(InputError, match=r"train.csv, zones other than RL, has 300 rows, expected 309"):
        load_house_prices(tmp_path)


@pytest.mark.parametrize(("column", "zone"), [("LotArea", "zones other than RL"), ("SalePrice", "zone RL")])
@pytest.mark.parametrize("entry", ["NA", "much", "inf"])
def test_a_target_that_is_no_number_is_counted(table, tmp_path, column, zone, entry):
    position = table[0].index(column)
    first = {low: next(row for row in table[1:] if (row[1] == "RL") == low)[0] for low in (False, True)}
    rows = [[*row[:position], entry, *row[position + 1 :]] if row[0] in first.values() else row for row in table]
    (tmp_path / "train.csv").write_text(text_of(rows))
    with pytest.raises(InputError, match=f"{zone}, has 1 entries of {column} that are no numbers; download it again$"):
        load_house_prices(tmp_path)


def with_entries(table, column, entry, count=1):
    """The table with an entry in a column of the first rows of zone RL, and the numbers of these rows."""
    position, rows, numbers = table[0].index(column), [table[0]], []
    for number, row in enumerate(table[1:], 1):
        here = row[1] == "RL" and len(numbers) < count
        numbers += [number] if here else []
        rows.append([*row[:position], entry, *row[position + 1 :]] if here else row)
    return rows, numbers


@pytest.mark.parametrize("column", ["Number40", "Frontage", "Id"])
@pytest.mark.parametrize("entry", ["inf", "-inf", "Infinity", "1e400", "1e200", "-3e101"])
def test_a_feature_that_no_deviation_can_be_made_of_is_named_with_its_row(table, tmp_path, column, entry):
    rows, (number,) = with_entries(table, column, entry)
    (tmp_path / "train.csv").write_text(text_of(rows))
    with pytest.raises(InputError) as caught:
        load_house_prices(tmp_path)
    where = f"--data-dir: {tmp_path}/train.csv, zone RL, has {float(entry)} in column {column}, row {number};"
    assert str(caught.value).startswith(where)


@pytest.mark.parametrize("column", ["Number40", "Frontage", "SalePrice"])
@pytest.mark.parametrize(("digits", "told"), [(30, None), (200, "1e+200"), (400, "inf")])
def test_an_integer_of_many_digits_is_a_number_and_no_word(table, tmp_path, column, digits, told):
    rows, (number,) = with_entries(table, column, "1" + "0" * digits)
    (tmp_path / "train.csv").write_text(text_of(rows))
    if told is None:
        expected, _ = with_entries(table, column, f"1e{digits}")
        (tmp_path / "other").mkdir()
        write(tmp_path / "other", expected)
        equal(load_house_prices(tmp_path), load_house_prices(tmp_path / "other"))
        return
    with pytest.raises(
        InputError, match=rf"{re.escape(told)} in column {column}, row {number};|1 entries of SalePrice"
    ):
        load_house_prices(tmp_path)


def test_rows_are_those_of_the_file_and_not_all_of_them_are_named(table, tmp_path):
    rows, numbers = with_entries(table, "Number40", "inf", 9)
    (tmp_path / "train.csv").write_text(text_of(rows))
    with pytest.raises(InputError, match=f"row {', '.join(map(str, numbers[:5]))} and 4 more; "):
        load_house_prices(tmp_path)
    (tmp_path / "train.csv").unlink()
    write(tmp_path, rows)
    with pytest.raises(InputError, match=r"/D2.csv has inf in column Number40, row 1, 2, 3, 4, 5 and 4 more; "):
        load_house_prices(tmp_path)


def test_a_target_that_is_too_large_is_named(table, tmp_path):
    rows, (number,) = with_entries(table, "SalePrice", "1e300")
    (tmp_path / "train.csv").write_text(text_of(rows))
    with pytest.raises(InputError, match=rf"has 1e\+300 in column SalePrice, row {number};"):
        load_house_prices(tmp_path)


def test_rows_that_are_longer_than_the_header_are_refused(table, tmp_path):
    (tmp_path / "train.csv").write_text(text_of([table[0], *([*row, "1"] for row in table[1:])]))
    with pytest.raises(InputError, match=r"train.csv cannot be read .Length of header .*; download it again$"):
        load_house_prices(tmp_path)


def test_a_table_is_a_regular_file_of_a_bounded_size(tmp_path):
    path = tmp_path / "train.csv"
    os.mkfifo(path)
    with pytest.raises(InputError, match=f"^--data-dir: {path} cannot be read .no regular file.; download it again$"):
        load_house_prices(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match="a folder"):
        load_house_prices(tmp_path)
    path.rmdir()
    with path.open("wb") as file:
        file.truncate(1 << 33)
    with pytest.raises(InputError, match="8,589,934,592 bytes, of which at most 16,777,216 are read"):
        load_house_prices(tmp_path)


@pytest.mark.skipif(not ORIGINALS.exists(), reason="the House Prices tables are not here")
@pytest.mark.parametrize("name", ["D1.csv", "train.csv"])
def test_the_original_tables_have_the_known_spectra(tmp_path, name):
    folder = ORIGINALS
    if name == "train.csv":
        folder = tmp_path
        (folder / name).write_bytes((ORIGINALS / name).read_bytes())
    known = {"primary": (7.732e3, 1.795e9), "harmful": (2.080e5, 2.010e9)}
    for part, (by_definition, released) in known.items():
        x = getattr(load_house_prices(folder).train, part).x
        k = x.T @ x
        spectrum = np.linalg.eigvalsh(k)
        nonzero = spectrum[spectrum > 1e-12 * spectrum[-1]]
        assert len(nonzero) == 74
        np.testing.assert_allclose(nonzero[-1] / nonzero[0], by_definition, rtol=5e-4)
        floored = np.linalg.eigvalsh(k + 1e-6 * np.eye(79))
        np.testing.assert_allclose(floored[-1] / floored[floored > 1e-6][0], released, rtol=5e-4)
