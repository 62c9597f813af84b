"""Gives the columns of a foreign table the names of a run table, as a person says: by pattern or one by one.

It reads no file. What it leaves out or computes it says in a note.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from mixscale.errors import InputError, did_you_mean, listed
from mixscale.mixture import ROUNDING
from mixscale.run_table import NUMERIC, NUMERIC_PREFIXES, SCORE, TARGETS, is_complete

KNOWN = ("run", "status", "role", "origin", "size", *NUMERIC)
COUNTS = ("n_params", "n_params_total", "n_tokens")
LETTERS = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}
"""What the letter in `90M` or `3B` stands for."""
PLACE = re.compile(r"\{\w*\}")


@dataclass(frozen=True)
class Columns:
    """Which columns of a foreign table are what.

    A pattern is what the names of some columns begin with (`w_`), or a whole name with braces where the domain or
    target stands (`eval/{target}/loss`). A column that several patterns match goes to the longest of them.
    """

    mix: str = "mix/"
    """pattern of the columns that hold the weights of the domains, such as w_ or {domain}_share"""
    loss: str = "loss/"
    """pattern of the losses (nats a token), such as loss_ or eval/{target}/loss"""
    metric: str = "metric/"
    """pattern of other measurements; lower is better unless --higher-is-better names them"""
    run: tuple[str, ...] = ()
    """column that tells runs apart, or several that do so together"""
    number_rows: bool = False
    """each row is a run of its own and has no name: number them"""
    rename: dict[str, str] = field(default_factory=dict)
    """single columns and their names in a run table, such as --rename tokens n_tokens share_a mix/web"""
    constant: dict[str, str] = field(default_factory=dict)
    """columns that hold one value in every row, such as --constant n_params 90M mix/c4 1"""
    higher_is_better: tuple[str, ...] = ()
    """targets that are better when higher, such as accuracies; * and ? stand for anything, as in 'acc*'"""
    normalize: bool = False
    """weights are percentages, token counts or relative: divide each row by its sum"""
    drop_missing: bool = False
    """leave out complete rows that lack a weight or a target"""


def named(frame: pd.DataFrame, columns: Columns) -> tuple[pd.DataFrame, list[str]]:
    """The columns that a run table knows, under its names, and notes on what was done; unchecked.

    Raises:
        InputError: a column, pattern or name that was given is not there, is unknown to a run table, or is taken
            twice; there is nothing that tells runs apart; complete rows lack values.
    """
    names = as_scores(_matched([str(c) for c in frame.columns], columns), columns.higher_is_better)
    found = renamed(frame, names)
    run_R = _runs(frame, columns, found)
    found = _with_constants(found.drop(columns="run", errors="ignore"), columns.constant)
    found.insert(0, "run", run_R)
    found = found[sorted(found, key=_place)]
    notes = _left_out(frame, {*names, *columns.run})
    found = _with_blanks(_with_counts(found), notes)
    if columns.normalize:
        found = normalized(found, notes)
    return _whole(found, columns.drop_missing, notes), notes


def target_tags(names: Sequence[str], columns: Columns) -> list[str]:
    """Those of `names` that are a target: by a pattern, or renamed to one."""
    patterns = [_expression(kind, getattr(columns, kind)) for kind in ("loss", "metric")]
    return [n for n in names if columns.rename.get(n, "").startswith(TARGETS) or any(p.fullmatch(n) for p in patterns)]


def renamed(frame: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """The columns in `names` (old to new) under their new names.

    Raises:
        InputError: two would have one name.
    """
    old_of: dict[str, str] = {}
    for old, new in names.items():
        if new in old_of:
            raise InputError(f"columns '{old_of[new]}' and '{old}' would both be called '{new}'; rename one of them")
        old_of[new] = old
    return frame[list(names)].rename(columns=names)


def as_scores(names: dict[str, str], globs: Sequence[str]) -> dict[str, str]:
    """`names` (old to new) in which the targets that match a glob, by old or new name, are called `score/...`.

    Raises:
        InputError: a glob matches no target.
    """
    bare = {old: new.split("/", 1)[1] for old, new in names.items() if new.startswith(TARGETS)}
    scores = dict(names)
    for glob in globs:
        hit = [old for old, name in bare.items() if any(fnmatch.fnmatchcase(n, glob) for n in (old, name, names[old]))]
        if not hit:
            raise InputError(
                f"no target is called '{glob}', which is to be higher-is-better{did_you_mean(glob, bare.values())}"
            )
        scores |= {old: SCORE + bare[old] for old in hit}
    return scores


def normalized(frame: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Weights over their sum in each row; a row with what cannot be a weight stays as it is, to be refused."""
    mix = _weights(frame)
    weights_RxK = frame[mix].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    sums_R = weights_RxK.sum(axis=1)
    usable_R = (np.isfinite(weights_RxK) & (weights_RxK >= 0)).all(axis=1) & (sums_R > 0)
    moved_R = usable_R & (np.abs(sums_R - 1) > ROUNDING)
    if not moved_R.any():
        return frame
    low, high = sums_R[moved_R].min(), sums_R[moved_R].max()
    percent = max(abs(low - 100), abs(high - 100)) <= 100 * ROUNDING
    what = "percentages" if percent else f"sums {low:.6g} to {high:.6g}"
    notes.append(f"the weights of {int(moved_R.sum())} of {len(frame)} rows ({what}) were divided by their sum")
    weights_RxK = np.where(moved_R[:, None], weights_RxK / np.where(moved_R, sums_R, 1.0)[:, None], frame[mix])
    return frame.assign(**dict(zip(mix, weights_RxK.T, strict=True)))


def _matched(present: list[str], columns: Columns) -> dict[str, str]:
    """Old names to new: those renamed one by one, those a pattern matches, and those a run table knows as they are."""
    for old, new in columns.rename.items():
        if old not in present:
            raise InputError(
                f"column '{old}', which is to be renamed, is not in the table{did_you_mean(old, present)}"
            )
        _check_known(new, "--rename")
    names = dict(columns.rename)
    patterns = sorted(
        ((kind, getattr(columns, kind)) for kind in ("mix", "loss", "metric")), key=lambda p: -len(PLACE.sub("", p[1]))
    )
    for kind, pattern in patterns:
        matches = _expression(kind, pattern)
        hit = {c: f"{kind}/{m.group(1)}" for c in present if c not in names and (m := matches.fullmatch(c))}
        if not hit and pattern != getattr(Columns, kind):
            raise InputError(f"no column matches --{kind} '{pattern}' (found: {listed(present)})")
        names |= hit
    kept = (SCORE, "tokens/", "unique_tokens/", "epochs/")
    return names | {c: c for c in present if c not in names and (c in KNOWN or c.startswith(kept))}


def _expression(kind: str, pattern: str) -> re.Pattern:
    places = PLACE.findall(pattern)
    if len(places) > 1:
        raise InputError(f"--{kind} '{pattern}' has {len(places)} places {' and '.join(places)}; a name has one")
    before, after = PLACE.split(pattern) if places else (pattern, "")
    return re.compile(f"{re.escape(before)}(.+){re.escape(after)}", re.DOTALL)


def _check_known(name: str, option: str) -> None:
    prefix = next((p for p in NUMERIC_PREFIXES if name.startswith(p) and name != p), None)
    if name not in KNOWN and prefix is None:
        known = [*KNOWN, "mix/DOMAIN", "loss/TARGET", "metric/NAME", "score/NAME", "unique_tokens/DOMAIN"]
        raise InputError(f"{option} names '{name}', which is no column of a run table{did_you_mean(name, known)}")


def _runs(frame: pd.DataFrame, columns: Columns, found: pd.DataFrame) -> pd.Series:
    """The name of each row's run, shape (R,)."""
    if columns.number_rows:
        return pd.Series([f"row-{i}" for i in range(len(frame))], index=frame.index, dtype=object)
    present = [str(c) for c in frame.columns]
    if lost := [c for c in columns.run if c not in present]:
        raise InputError(
            f"column '{lost[0]}', which is to tell runs apart, is not in the table{did_you_mean(lost[0], present)}"
        )
    if columns.run:
        return frame[list(columns.run)].astype(str).agg("-".join, axis=1)
    if "run" in found:
        return found["run"]
    raise InputError(
        "the table has no column 'run': name the column(s) that tell runs apart with --run, or give --number-rows "
        f"where each row is a run (found: {listed(present)})"
    )


def _place(column: str) -> int:
    """Where a column stands: what a run is first, then its mixture, then what was measured."""
    return next((i for i, p in enumerate(NUMERIC_PREFIXES, 1) if column.startswith(p)), 0)


def _with_constants(frame: pd.DataFrame, constant: dict[str, str]) -> pd.DataFrame:
    for column in constant:
        _check_known(column, "--constant")
        if column in frame:
            raise InputError(f"--constant names '{column}', which the table has as a column; use one of the two")
    return frame.assign(**constant)


def _left_out(frame: pd.DataFrame, used: set[str]) -> list[str]:
    left = [str(c) for c in frame.columns if str(c) not in used]
    return [f"columns that nothing names were not imported: {listed(left)}"] if left else []


def _with_counts(frame: pd.DataFrame) -> pd.DataFrame:
    """Sizes and token counts written as `90M` or `3B` as numbers; what is no such text is left to be refused."""

    def count(value: object) -> object:
        found = re.fullmatch(r"\s*((?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?)\s*([KMBGT]?)\s*", str(value), re.IGNORECASE)
        return float(found[1]) * LETTERS[found[2].upper()] if found else value

    texts = [c for c in COUNTS if c in frame and not pd.api.types.is_numeric_dtype(frame[c])]
    return frame.assign(**{c: frame[c].map(count, na_action="ignore") for c in texts})


def _with_blanks(frame: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Zero for weights that are not there where the others sum to one."""
    mix = _weights(frame)
    blank_RxK = frame[mix].isna().to_numpy()
    sums_R = frame[mix].apply(pd.to_numeric, errors="coerce").sum(axis=1).to_numpy(dtype=np.float64)
    filled_R = blank_RxK.any(axis=1) & (np.abs(sums_R - 1) <= ROUNDING)
    if not filled_R.any():
        return frame
    notes.append(
        f"{int(filled_R.sum())} of {len(frame)} rows leave weights blank; they became 0, since the others sum to 1"
    )
    return frame.assign(**{c: frame[c].mask(filled_R & blank_RxK[:, k], 0.0) for k, c in enumerate(mix)})


def _whole(frame: pd.DataFrame, drop_missing: bool, notes: list[str]) -> pd.DataFrame:
    """The rows that are not complete or lack nothing; others are left out, or refused."""
    needed = [c for c in frame if c.startswith(("mix/", *TARGETS))]
    lacking_RxC = frame[needed].isna()
    lacking_R = lacking_RxC.any(axis=1) & is_complete(frame)
    if not lacking_R.any():
        return frame
    count_C = lacking_RxC[lacking_R].sum()
    columns = ", ".join(f"{c} ({int(n)})" for c, n in count_C[count_C > 0].items())
    first = frame.loc[lacking_R, "run"].iloc[0]
    if not drop_missing:
        raise InputError(
            f"{int(lacking_R.sum())} of {len(frame)} rows lack a value, run '{first}' first: {columns}; "
            "--drop-missing leaves such rows out"
        )
    notes.append(f"{int(lacking_R.sum())} of {len(frame)} rows lack a value and were left out: {columns}")
    return frame[~lacking_R]


def _weights(frame: pd.DataFrame) -> list[str]:
    return [c for c in frame if c.startswith("mix/")]
