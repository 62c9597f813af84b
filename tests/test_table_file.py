"""Tables and numbers as people write them, at every door that takes a table."""

import numpy as np
import pandas as pd
import pytest

from mixscale import RunTable
from mixscale.errors import InputError
from mixscale.mixture_file import read_mixtures
from mixscale.table_file import numeric, read_frame

ROWS = pd.DataFrame(
    {"run": ["007", "b"], "mix/web": [0.25, 0.8125], "mix/code": [0.75, 0.1875], "loss/web": [2.5, 2.125],
     "n_tokens": [1_000_000, 2_500_000]}
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "encoding", "how"),
    [
        ("a.csv", "utf-8", {}),
        ("a.csv", "utf-8-sig", {"sep": ";"}),
        ("a.csv", "utf-16", {"sep": "\t"}),
        ("a.tsv", "utf-8", {"sep": "\t"}),
        ("a.txt", "utf-8", {"sep": "|"}),
        ("a.csv", "utf-8", {"decimal": ","}),
        ("a.csv", "utf-8", {"decimal": ",", "sep": ";"}),
    ],
)
def test_a_table_is_read_whatever_its_dialect(tmp_path, name, encoding, how):
    ROWS.to_csv(tmp_path / name, index=False, encoding=encoding, **how)
    pd.testing.assert_frame_equal(RunTable.read(tmp_path / name).frame, ROWS, check_dtype=False)


def test_the_separator_line_of_excel_is_read(tmp_path):
    (tmp_path / "a.csv").write_text("sep=;\n" + ROWS.to_csv(index=False, sep=";", decimal=","))
    pd.testing.assert_frame_equal(RunTable.read(tmp_path / "a.csv").frame, ROWS, check_dtype=False)


def test_percentages_and_thousands_are_read_and_noted(tmp_path):
    written = ROWS.assign(
        **{"mix/web": ["25%", "81.25%"], "mix/code": ["75 %", "18.75 %"], "n_tokens": ["1,000,000", "2,500,000"]}
    )
    written.to_csv(tmp_path / "a.csv", index=False)
    table = RunTable.read(tmp_path / "a.csv")
    pd.testing.assert_frame_equal(table.frame, ROWS, check_dtype=False)
    assert any("mix/web" in note and "3 columns" in note for note in table.notes)


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["1,5", "2"], [1.5, 2]),
        (["0,125", "0,250"], [0.125, 0.25]),
        (["1.234,5", "-0,25"], [1234.5, -0.25]),
        (["1,234.5", "7"], [1234.5, 7]),
        (["1,234,567"], [1234567]),
        (["1.234.567"], [1234567]),
        (["1 234 567", "1\u00a0000"], [1234567, 1000]),
        (["1'234", "2"], [1234, 2]),
        (["2,5e3", "inf"], [2500, np.inf]),
        (["-0,5", "NA", None], [-0.5, np.nan, np.nan]),
    ],
)
def test_numbers_with_one_meaning_are_read(cells, numbers):
    np.testing.assert_array_equal(numeric(pd.Series(cells, name="loss/web")), numbers)


@pytest.mark.parametrize(
    ("cells", "named"),
    [
        (["1,234", "2,345"], ["1234", "1.234"]),
        (["12%", "13"], ["12%", "13"]),
        (["3,14", "1.5"], ["3,14", "1.5"]),
        (["1,2,3"], ["1,2,3"]),
        (["1_0", "x"], ["1_0"]),
        (["true", "0,5"], ["true"]),
    ],
)
def test_numbers_with_two_meanings_are_refused(cells, named):
    with pytest.raises(InputError) as error:
        numeric(pd.Series(cells, name="loss/web"))
    assert all(word in str(error.value) for word in ["loss/web", *named])


def test_a_count_with_a_comma_is_whole():
    np.testing.assert_array_equal(numeric(pd.Series(["1,234", "2,000"], name="n_tokens")), [1234, 2000])


@pytest.mark.parametrize("column", ["loss/web", "mix/web", "run", "note"])
def test_a_column_that_occurs_twice_is_refused_everywhere(tmp_path, column):
    names = [*ROWS.columns, "note", column]
    twice = pd.DataFrame([[*row, "x", row[0]] for row in ROWS.to_numpy().tolist()], columns=names)
    twice.to_csv(tmp_path / "a.csv", index=False)
    for read in (RunTable.read, read_frame, lambda path: read_mixtures(path, "--current")):
        with pytest.raises(InputError, match=column):
            read(tmp_path / "a.csv")
    with pytest.raises(InputError, match=column):
        RunTable(twice)


@pytest.mark.parametrize("name", ["runs.csv", "runs.parquet"])
def test_a_git_lfs_pointer_is_named(tmp_path, name):
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")
    with pytest.raises(InputError, match="git lfs pull"):
        RunTable.read(tmp_path / name)


@pytest.mark.parametrize("row", ["b,0.5,0.5,2.5,1,000", "b,0,5,0,5,2.5,7"])
def test_a_row_with_more_values_than_columns_is_refused(tmp_path, row):
    """As a thousands separator or a decimal comma without quotes makes it; pandas would drop the last values."""
    for rows in ([row], ["a,0.5,0.5,2.5,1000", row], [row, "a,0.5,0.5,2.5,1000"]):
        (tmp_path / "a.csv").write_text("\n".join(["run,mix/web,mix/code,loss/web,n_tokens", *rows]) + "\n")
        with pytest.raises(InputError, match=rf"row {rows.index(row) + 1} .*5 columns.*double quotes"):
            RunTable.read(tmp_path / "a.csv")


def test_a_separator_at_the_end_of_rows_adds_no_value(tmp_path):
    lines = ROWS.to_csv(index=False).splitlines()
    for kept in (lines[:1], []):
        (tmp_path / "a.csv").write_text("\n".join([line + "," * (line not in kept) for line in lines]) + "\n")
        pd.testing.assert_frame_equal(RunTable.read(tmp_path / "a.csv").frame[list(ROWS)], ROWS, check_dtype=False)
