"""Renames the columns of a foreign table to those of a run table, by patterns or one by one; notes every change."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from mixscale.direction import higher_is_better
from mixscale.documents import expanded
from mixscale.errors import InputError, did_you_mean, listed
from mixscale.mixture import ROUNDING
from mixscale.run_table import NUMERIC, NUMERIC_PREFIXES, SCORE, TARGETS, is_complete

KNOWN = ("run", "status", "role", "origin", "size", *NUMERIC)
COUNTS = ("n_params", "n_params_total", "n_tokens")
UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}  # Factor of the letter in `90M` or `3B`.
COUNT = re.compile(r"\s*((?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?)\s*([KMBGT]?)\s*", re.IGNORECASE)
PLACEHOLDER = re.compile(r"\{\w*\}")


@dataclass(frozen=True)
class Columns:
    """What the columns of a foreign table hold.

    A pattern is the beginning of some columns' names (`w_`), or a whole name with braces for the domain or target
    (`eval/{target}/loss`). A column that several patterns match belongs to the longest of them.
    """

    mix: str = "mix/"  # pattern of the columns with the weights of the domains, such as w_ or {domain}_share
    loss: str = "loss/"  # pattern of the losses (nats per token), such as loss_ or eval/{target}/loss
    metric: str = "metric/"  # pattern of other measurements; their names say whether higher is better, or the options
    run: tuple[str, ...] = ()  # column that identifies a run, or several columns that do so together
    number_rows: bool = False  # each row is a run of its own without a name: number the rows
    rename: dict[str, str] = field(default_factory=dict)
    """single columns and their names in a run table, such as --rename tokens n_tokens share_a mix/web"""
    constant: dict[str, str] = field(default_factory=dict)
    """columns with the same value in every row, such as --constant n_params 90M mix/c4 1"""
    higher_is_better: tuple[str, ...] = ()
    """targets that are better when higher, such as accuracies; * and ? are wildcards, as in 'acc*'"""
    lower_is_better: tuple[str, ...] = ()
    """targets that are better when lower, whatever their names say; * and ? are wildcards, as in 'acc*'"""
    normalize: bool = False  # weights are percentages, token counts or relative: divide each row by its sum
    drop_missing: bool = False  # leave out complete rows that lack a weight or a target

    @property
    def identity(self) -> tuple[str, ...]:
        """The columns that you chose to identify a run."""
        return (*self.run, *(old for old, new in self.rename.items() if new == "run"))


def named(frame: pd.DataFrame, columns: Columns) -> tuple[pd.DataFrame, list[str]]:
    """The columns of a run table, under their names but unchecked, and notes.

    Raises:
        InputError: a column or pattern matches nothing, a name is no column of a run table or is used twice, no column
            identifies runs, or complete rows lack values.
    """
    notes: list[str] = []
    frame = expanded(frame)
    matched = _matched([str(c) for c in frame.columns], columns)
    names = directed(matched, columns.higher_is_better, columns.lower_is_better, notes)
    found = renamed(frame, names)
    run_R = run_names(frame, columns, found)
    for column in columns.constant:
        _check_known(column, "--constant")
        if column in found and column != "run":
            raise InputError(f"--constant names '{column}', which is a column of the table; use one of the two")
    found = found.drop(columns="run", errors="ignore").assign(**columns.constant)
    found.insert(0, "run", run_R)
    found = found[sorted(found, key=lambda c: 1 + NUMERIC_PREFIXES.index(_prefix(c)) if _prefix(c) else 0)]
    left_out = [str(c) for c in frame.columns if str(c) not in {*names, *columns.run}]
    notes += [f"columns without a meaning were not imported: {listed(left_out)}"] if left_out else []
    found = _with_blanks(found.assign(**{c: as_counts(found[c]) for c in COUNTS if c in found}), notes)
    if columns.normalize:
        found = _normalized(found, notes)
    return _without_gaps(found, columns.drop_missing, notes), notes


def target_tags(names: Sequence[str], columns: Columns) -> list[str]:
    """The `names` that are targets, by a pattern or by renaming."""
    patterns = [_expression(kind, getattr(columns, kind)) for kind in ("loss", "metric")]
    return [n for n in names if columns.rename.get(n, "").startswith(TARGETS) or any(p.fullmatch(n) for p in patterns)]


def renamed(frame: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """The columns in `names` (old to new) under their new names; raises InputError if two are the same."""
    old_of: dict[str, str] = {}
    for old, new in names.items():
        if new in old_of:
            raise InputError(f"columns '{old_of[new]}' and '{old}' would both be called '{new}'; rename one of them")
        old_of[new] = old
    return frame[list(names)].rename(columns=names)


def directed(
    names: dict[str, str], higher: Sequence[str], lower: Sequence[str], notes: list[str], known: bool = False
) -> dict[str, str]:
    """`names` (old to new), with `score/...` for targets that are better when higher.

    Options decide first, then, for a metric, the words of its name; a note lists what the names decided, and which
    of them do not say.

    Args:
        higher, lower: targets or globs of them. known: lower is better where a name does not say.

    Raises:
        InputError: a glob matches no target, or one is in both.
    """
    up, down = _globbed(names, higher, "--higher-is-better"), _globbed(names, lower, "--lower-is-better")
    if both := sorted(up & down):
        raise InputError(f"--higher-is-better and --lower-is-better both name '{both[0]}'; choose one")
    bare = {old: new.split("/", 1)[1] for old, new in names.items() if new.startswith(TARGETS)}
    said: dict[str, list[str]] = {}
    for old, name in bare.items():
        says = higher_is_better(name) if higher_is_better(old) is None else higher_is_better(old)
        if old not in up | down:
            said.setdefault(f"{_prefix(names[old])}{says}", []).append(old)
    if scores := said.get("metric/True", []):
        notes.append(
            "taken as scores, which are maximised, because their names say that higher is better: "
            f"{listed(scores)}; --lower-is-better NAME minimises one"
        )
    if losses := said.get("loss/True"):
        notes.append(
            f"taken as losses, which are minimised, although their names say that higher is better: {listed(losses)}; "
            "--higher-is-better NAME makes one a score"
        )
    if not known and (unclear := said.get("metric/None")):
        notes.append(
            f"taken as metrics to minimise, although their names do not say whether higher is better: "
            f"{listed(unclear)}; --higher-is-better NAME or --lower-is-better NAME decides"
        )
    changed = {old: SCORE for old in (*up, *scores)} | {old: "metric/" for old in down if names[old].startswith(SCORE)}
    return names | {old: prefix + bare[old] for old, prefix in changed.items()}


def _globbed(names: dict[str, str], globs: Sequence[str], option: str) -> set[str]:
    """The columns whose old, new or bare name matches a glob."""
    bare = {old: new.split("/", 1)[1] for old, new in names.items() if new.startswith(TARGETS)}
    found: set[str] = set()
    for glob in globs:
        hit = {old for old, name in bare.items() if any(fnmatch.fnmatchcase(n, glob) for n in (old, name, names[old]))}
        if not hit:
            # A name may have brackets, which a glob reads as a set of characters.
            hit = {old for old, name in bare.items() if glob in (old, name, names[old])}
        if not hit:
            raise InputError(
                f"{option} names '{glob}', but no target is called that{did_you_mean(glob, bare.values())}"
            )
        found |= hit
    return found


def _matched(present: list[str], columns: Columns) -> dict[str, str]:
    """Old names to new: renamed columns, those that a pattern matches, and columns of a run table."""
    for old, new in columns.rename.items():
        _check_present(old, present, "--rename")
        _check_known(new, "--rename")
    names = dict(columns.rename)
    patterns = {kind: getattr(columns, kind) for kind in ("mix", "loss", "metric")}
    for kind, pattern in sorted(patterns.items(), key=lambda p: -len(PLACEHOLDER.sub("", p[1]))):
        matches = _expression(kind, pattern)
        hit = {c: f"{kind}/{m.group(1)}" for c in present if c not in names and (m := matches.fullmatch(c))}
        if hit and not PLACEHOLDER.search(pattern) and all(n.startswith(f"{kind}/.") for n in hit.values()):
            hit = {c: n.replace("/.", "/", 1) for c, n in hit.items()}  # `config.mix` means `config.mix.`
        if not hit and pattern != getattr(Columns, kind):
            inside = next((c[: c.index(pattern) + len(pattern)] for c in present if pattern in c), None)
            hint = f"; did you mean --{kind} '{inside}'?" if inside else ""
            raise InputError(f"no column matches --{kind} '{pattern}' (found: {listed(present)}){hint}")
        names |= hit
    kept = (SCORE, "stage/", "tokens/", "unique_tokens/", "epochs/")
    return names | {c: c for c in present if c not in names and (c in KNOWN or c.startswith(kept))}


def _expression(kind: str, pattern: str) -> re.Pattern:
    places = PLACEHOLDER.findall(pattern)
    if len(places) > 1:
        raise InputError(f"--{kind} '{pattern}' has {len(places)} placeholders, {' and '.join(places)}; give one")
    before, after = PLACEHOLDER.split(pattern) if places else (pattern, "")
    return re.compile(f"{re.escape(before)}(.+){re.escape(after)}", re.DOTALL)


def _check_present(column: str, present: Collection[str], option: str) -> None:
    if column not in present:
        raise InputError(f"{option} names column '{column}', which is not in the table{did_you_mean(column, present)}")


def _check_known(name: str, option: str) -> None:
    if name not in KNOWN and _prefix(name) in ("", name):
        known = [*KNOWN, "mix/DOMAIN", "loss/TARGET", "metric/NAME", "score/NAME", "unique_tokens/DOMAIN"]
        raise InputError(f"{option} names '{name}', which is not a column of a run table{did_you_mean(name, known)}")


def _prefix(column: str) -> str:
    """`mix/` for `mix/web`, empty for a column without such a prefix."""
    return next((p for p in NUMERIC_PREFIXES if column.startswith(p)), "")


def run_names(frame: pd.DataFrame, columns: Columns, found: pd.DataFrame) -> pd.Series:
    """The name of each row's run; `found` may have a column run."""
    if columns.number_rows:
        return pd.Series([f"row-{i}" for i in range(len(frame))], index=frame.index, dtype=object)
    present = [str(c) for c in frame.columns]
    for column in columns.run:
        _check_present(column, present, "--run")
    if columns.run:
        return frame[list(columns.run)].astype(str).agg("-".join, axis=1)
    if "run" in found:
        return found["run"]
    raise InputError(
        "the table has no column 'run': give the column(s) that identify a run with --run, or --number-rows if each "
        f"row is a run (found: {listed(present)})"
    )


def as_counts(values: pd.Series) -> pd.Series:
    """Sizes and token counts written as `90M` or `3B`, as numbers; other values as they are."""

    def count(value: object) -> object:
        found = COUNT.fullmatch(str(value))
        return float(found[1]) * UNITS[found[2].upper()] if found else value

    return values if pd.api.types.is_numeric_dtype(values) else values.map(count, na_action="ignore")


def _with_blanks(frame: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Zero for missing weights if the others sum to one."""
    mix, weights = _weights(frame)
    blank_RxK = frame[mix].isna().to_numpy()
    sums_R = weights.sum(axis=1).to_numpy(dtype=np.float64)
    filled_R = blank_RxK.any(axis=1) & (np.abs(sums_R - 1) <= ROUNDING)
    if not filled_R.any():
        return frame
    notes.append(
        f"{int(filled_R.sum())} of {len(frame)} rows have blank weights; they became 0, because the others sum to 1"
    )
    return frame.assign(**{c: frame[c].mask(filled_R & blank_RxK[:, k], 0.0) for k, c in enumerate(mix)})


def _normalized(frame: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Weights over their sum in each row; the run table rejects rows with impossible weights."""
    mix, weights = _weights(frame)
    weights_RxK = weights.to_numpy(dtype=np.float64)
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


def _without_gaps(frame: pd.DataFrame, drop_missing: bool, notes: list[str]) -> pd.DataFrame:
    """Drops complete rows that lack a weight or a target; an error unless `drop_missing`."""
    needed = [c for c in frame if c.startswith(("mix/", *TARGETS))]
    lacking_RxC = frame[needed].isna()
    lacking_R = lacking_RxC.any(axis=1) & is_complete(frame)
    if not lacking_R.any():
        return frame
    count_C = lacking_RxC[lacking_R].sum()
    columns = ", ".join(f"{c} ({int(n)})" for c, n in count_C[count_C > 0].items())
    count = f"{int(lacking_R.sum())} of {len(frame)} rows lack a value"
    if lacking_R.all():
        raise InputError(
            f"no row has all weights and targets (missing: {columns}); if the targets of a run were logged at "
            "different steps, `mixscale import wandb` joins its rows"
        )
    if not drop_missing:
        first = frame.loc[lacking_R, "run"].iloc[0]
        raise InputError(f"{count}, run '{first}' first: {columns}; --drop-missing leaves such rows out")
    notes.append(f"{count} and were left out: {columns}")
    return frame[~lacking_R]


def _weights(frame: pd.DataFrame) -> tuple[list[str], pd.DataFrame]:
    """Columns of the weights, and their numbers; NaN for other texts."""
    mix = [c for c in frame if c.startswith("mix/")]
    return mix, frame[mix].apply(pd.to_numeric, errors="coerce")
