"""The one reader of table files and of numbers: .csv, .tsv and .parquet as people have them.

Every command, importer and function that takes a table or numbers of a table reads them here. Of what columns mean it
knows only which hold counts. Names of columns are the text of the file; what has two meanings is an error.
"""

from __future__ import annotations

import codecs
import csv
import itertools
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mixscale.errors import InputError
from mixscale.io import LFS_POINTER, refuse_pointer

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")
ABSENT = ("", "nan", "NaN", "NAN", "NA", "N/A", "null", "None")  # ways in which a file may write a missing value
# Reads floats bit for bit; pandas does so by default since 3.1, and deprecates the option.
PRECISE = {} if tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1) else {"float_precision": "round_trip"}
SEPARATORS = (",", ";", "\t", "|")
csv.field_size_limit(2**31 - 1)  # a cell may hold the config of a run
INSPECTED_LINES = 100  # lines among which the header is looked for
WHOLE = ("seed", "step", "n_params", "n_params_total", "n_tokens")
WHOLE_PREFIXES = ("tokens/", "unique_tokens/", "n/")  # columns of counts, in which 1,234 has a thousands separator


def read_frame(path: str | Path, text: Collection[str] = ("run",)) -> pd.DataFrame:
    """The rows of a .csv, .tsv, .txt or .parquet file, unchecked.

    A text file may be UTF-8 or UTF-16, begin with Excel's `sep=` line, and separate columns by a comma, semicolon, tab
    or |, whichever is the most frequent in the header. Numbers are left as pandas reads them; `numeric` reads the
    others.

    Args:
        text: columns that stay text, such as run names 007 or NA.

    Raises:
        InputError: the file does not exist or cannot be read, or a column occurs twice.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"table '{path}' {'is a folder; give a file' if path.is_dir() else 'does not exist'}")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"table '{path}' has suffix '{path.suffix}'; it must be one of {', '.join(SUFFIXES)}")
    try:
        with path.open("rb") as stream:
            head = stream.read(len(LFS_POINTER))
        refuse_pointer(path, head)
        if path.suffix.lower() == ".parquet":
            frame = pd.read_parquet(path)
            check_unique(list(frame.columns), f"table '{path}'")
            return frame
        # UTF-16 has a byte order mark; that of UTF-8 is Excel's and may be absent.
        encoding = "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
        with path.open(encoding=encoding, newline="") as stream:
            skipped, separator = _layout(list(itertools.islice(stream, INSPECTED_LINES)))
            stream.seek(0)
            columns = _checked_header(path, itertools.islice(stream, skipped, None), separator)
        absent = {c: ABSENT for c in columns if c and c not in text}
        return pd.read_csv(
            path, **PRECISE, sep=separator, skiprows=skipped, encoding=encoding, dtype=dict.fromkeys(text, str),
            keep_default_na=False, na_values=absent, index_col=False, usecols=range(len(columns)),
        )  # fmt: skip
    except InputError:
        raise
    except UnicodeError as error:
        raise InputError(f"table '{path}' is not UTF-8 or UTF-16 text ({error}); save it as UTF-8") from error
    except (OSError, ValueError, csv.Error) as error:  # pandas' and pyarrow's parse errors are ValueErrors
        raise InputError(f"table '{path}' cannot be read: {error}") from error


def check_unique(columns: Sequence, what: str) -> None:
    """Raises InputError if a name occurs twice among the columns of `what`."""
    known: set[str] = set()
    for name in filter(None, map(str, columns)):
        if name in known:
            raise InputError(f"{what} has column '{name}' twice; give each column its own name")
        known.add(name)


def _checked_header(path: Path, lines: Iterable[str], separator: str) -> list[str]:
    """Names of the columns; InputError if one occurs twice or a row has more values, which pandas would drop."""
    rows = csv.reader(lines, delimiter=separator)
    columns = next(rows, [])
    check_unique(columns, f"table '{path}'")
    for number, row in enumerate(rows, 1):
        if len(row) > len(columns) and any(cell.strip() for cell in row[len(columns) :]):
            raise InputError(
                f"row {number} of table '{path}' has {len(row)} values for {len(columns)} columns: "
                f"{separator.join(row)[:80]}; put values that contain {separator!r} in double quotes"
            )
    return columns


def numeric(values: pd.Series, converted: dict[str, str] | None = None) -> pd.Series:
    """A column as numbers. Text is read where it has one meaning.

    That is: percentages (if all values have a percent sign), a decimal comma, and thousands separators (comma, point,
    space, apostrophe). `1,234` alone could be either; it is a count in a column of counts, and an error elsewhere.

    Args:
        converted: takes an example by the column's name if text was read.

    Raises:
        InputError: a value is not a number or is ambiguous, or only some values are percentages.
    """
    try:
        return pd.to_numeric(values)
    except (ValueError, TypeError):
        pass
    text = values.map(lambda v: re.sub(r"[\u00a0\u202f]", " ", str(v)).strip(), na_action="ignore")
    known = text[text.notna() & ~text.isin(ABSENT)]
    percent = known.str.endswith("%")
    if percent.any() and not percent.all():
        raise InputError(
            f"column '{values.name}' has '{known[percent].iloc[0]}' and '{known[~percent].iloc[0]}'; write all of its "
            "values with a percent sign, or none"
        )
    numbers = np.array(_parsed(list(known.str.removesuffix("%").str.strip()), str(values.name)))
    numbers = numbers / 100.0 if percent.any() else numbers
    if converted is not None and len(known):
        converted[str(values.name)] = f"{known.iloc[0]} to {numbers[0]:.12g}"
    return pd.Series(numbers, index=known.index).reindex(values.index).rename(values.name)


def conversion_note(converted: dict[str, str]) -> str:
    """A sentence about the columns that `numeric` converted."""
    column, example = next(iter(converted.items()))
    count = "1 column" if len(converted) == 1 else f"{len(converted)} columns"
    return f"text in {count} was read as numbers, for example {example} in {column}"


def _parsed(cells: list[str], name: str) -> list[float]:
    """The numbers of a column's cells, which share one decimal sign."""
    bare = [re.sub(r"(?<=\d)[ '’](?=\d{3})", "", c) for c in cells]
    commas = [c for c in bare if "," in c]
    both = [c for c in commas if "." in c]
    counts = name in WHOLE or name.startswith(WHOLE_PREFIXES)
    if both:
        decimal = "," if both[0].rfind(",") > both[0].rfind(".") else "."
    elif not commas:
        decimal = "," if any(c.count(".") > 1 for c in bare) else "."
    elif not all(re.fullmatch(r"[-+]?[1-9]\d{0,2}(,\d{3})+", c) for c in commas):
        decimal = ","
    elif counts or any(c.count(",") > 1 for c in commas):
        decimal = "."
    else:
        written = commas[0]
        raise InputError(
            f"column '{name}' has '{written}', which could be {written.replace(',', '')} or "
            f"{written.replace(',', '.')}; write it without a thousands separator and with a decimal point"
        )
    thousands = "," if decimal == "." else "."
    numbers = []
    for written, cell in zip(cells, bare, strict=True):
        whole, *fraction = cell.split(decimal)
        grouped = re.fullmatch(rf"[-+]?\d{{1,3}}(\{thousands}\d{{3}})+", whole)
        try:
            if "_" in cell or (thousands in whole and not grouped):
                raise ValueError
            numbers.append(float(".".join([whole.replace(thousands, ""), *fraction])))
        except ValueError as error:
            if decimal == "," and re.fullmatch(r"[-+]?\d+\.\d+", cell):
                raise InputError(
                    f"column '{name}' has '{commas[0]}' and '{written}'; use one decimal sign in all of its values"
                ) from error
            raise InputError(f"column '{name}' has '{written}', which is not a number") from error
    return numbers


def _layout(lines: Sequence[str]) -> tuple[int, str]:
    """Number of lines before the header, and the separator of columns."""
    at = next((i for i, line in enumerate(lines) if line.strip()), 0)
    header = lines[at] if lines else ""
    if found := re.fullmatch(r'"?sep=(.)"?\s*', header, re.IGNORECASE | re.DOTALL):
        return at + 1, found[1]
    bare = re.sub(r'"[^"]*"', "", header)
    return at, max(SEPARATORS, key=bare.count)
