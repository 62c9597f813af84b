"""Result tables from cells: one function a table, each giving a frame whose rows are methods.

Numbers are means over seeds; an error of the mean (±) is over seeds too. What a method could not do stays empty, and
`missing` says why.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from benchmark import bars
from benchmark.tasks import MIXTURE, SCALE

BASELINES = ("mean", "lightgbm", "lightgbm-cv", "lightgbm-leak")
"""Methods that are no law of the package."""
ORDER = [m for m in dict.fromkeys((*MIXTURE, *SCALE)) if m not in (*BASELINES, "auto")]
"""Laws in the order of the tables; below them trees, and at last auto."""


def write(found: pd.DataFrame, folder: Path) -> dict[str, str]:
    """Every table that there are cells for, as CSV files and in Markdown by name."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for name, make in TABLES.items():
        frame = make(found)
        if len(frame) == 0:
            continue
        frame.to_csv(folder / f"{name}.csv", index=False)
        written[name] = markdown(frame)
    (folder / "all.md").write_text("\n\n".join(f"### {name}\n\n{text}" for name, text in written.items()) + "\n")
    return written


def markdown(frame: pd.DataFrame) -> str:
    """A Markdown table; numbers keep four significant figures."""
    lines = ["| " + " | ".join(map(str, frame.columns)) + " |", "|---" * len(frame.columns) + "|"]
    lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in frame.itertuples(index=False)]
    return "\n".join(lines)


def _cell(value) -> str:
    if isinstance(value, str):
        return value.replace("|", "\\|")
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def means(found: pd.DataFrame, table: str, split: str, part: str, columns: dict[str, str]) -> pd.DataFrame:
    """Means over seeds by method, in the order in which they were measured; `columns` maps measures to headings."""
    rows = found[(found["table"] == table) & (found["split"] == split) & (found["part"] == part)]
    rows = rows[rows["status"] == "done"]
    return rows.groupby("method", sort=False)[list(columns)].mean().rename(columns=columns)


def regmix(found: pd.DataFrame) -> pd.DataFrame:
    """512 runs at 1M; order at 60M and 1B; what the chosen mixture costs."""
    one = {"rho": "rho 1M", "mae": "MAE 1M", "relative": "relative 1M", "r2": "R2 1M", "coverage": "coverage 1M"}
    one |= {"width": "width 1M", "regret": "regret 1M", "seconds": "seconds"}
    parts = [means(found, "regmix", "all 512", "1M", one)]
    for part in ("60M", "1B"):
        parts.append(means(found, "regmix", "all 512", part, {"rho": f"rho {part}", "regret": f"regret {part}"}))
    parts.append(means(found, "regmix", "all 512", "1B, Pile-CC", {"rho": "rho 1B, Pile-CC"}))
    frame = pd.concat(parts, axis=1)
    order = ["rho 1M", "rho 60M", "rho 1B", "rho 1B, Pile-CC", "MAE 1M", "relative 1M", "R2 1M", "coverage 1M"]
    order += ["width 1M", "regret 1M", "regret 60M", "regret 1B", "seconds"]
    frame = frame[order]
    for i, column in enumerate(bars.REGMIX_COLUMNS):
        if column in ("rho 1M", "rho 60M", "rho 1B", "MAE 1M"):
            known = {method: bar[i] for method, bar in bars.REGMIX.items()}
            frame[f"bar {column}"] = [known.get(m) for m in frame.index]
    return _flat(frame)


def curves(measure: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """A measure at 1M against the number of runs, random and designed."""

    def table(found: pd.DataFrame) -> pd.DataFrame:
        rows = found[(found["table"] == "regmix") & (found["part"] == "1M") & (found["status"] == "done")]
        columns = {}
        for split in ("random", "all 512", "designed"):
            for runs, of_runs in rows[rows["split"] == split].groupby("runs"):
                label = {"designed": f"{runs} designed"}.get(split, str(runs))
                columns[label] = of_runs.groupby("method", sort=False)[measure].mean()
        return _flat(pd.DataFrame(columns))

    return table


def three_mix(found: pd.DataFrame) -> pd.DataFrame:
    """8 of 32 mixtures at 410M, over the splits."""
    split, part = "24 of 32 mixtures", "410M"
    columns = {"mae": "MAE", "rho": "rho", "relative": "relative", "r2": "R2", "coverage": "coverage"}
    columns |= {"width": "width", "regret": "regret", "rank": "rank", "seconds": "seconds"}
    frame = means(found, "3mix", split, part, columns)
    if len(frame):
        rows = found[(found["table"] == "3mix") & (found["part"] == part)]
        frame.insert(1, "± MAE", rows.groupby("method")["mae"].sem())
        frame["bar MAE"] = [bars.THREE_MIX.get(m) for m in frame.index]
    return _flat(frame)


def scale(table: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Every split and part of a table with several sizes: error, R2 and coverage."""

    def made(found: pd.DataFrame) -> pd.DataFrame:
        rows = found[(found["table"] == table) & (found["status"] == "done")]
        frames = []
        for (split, part), _ in rows.groupby(["split", "part"], sort=False):
            where = f"{split}: " + ("" if part == "all rows" else f"{part}: ")
            names = {"mae": "MAE", "relative": "relative", "r2": "R2", "rho": "rho", "coverage": "coverage"}
            frames.append(means(found, table, split, part, {k: where + v for k, v in names.items()}))
        seconds = rows.groupby("method", sort=False)["seconds"].mean().rename("seconds")
        return _flat(pd.concat([*frames, seconds], axis=1) if frames else pd.DataFrame())

    return made


def olmix(found: pd.DataFrame) -> pd.DataFrame:
    """The mean of the metrics over five folds."""
    columns = {"r2": "R2", "rho": "rho", "mae": "MAE", "relative": "relative", "coverage": "coverage"}
    columns |= {"width": "width", "regret": "regret", "rank": "rank", "seconds": "seconds"}
    frame = means(found, "olmix", "5 folds", "all rows", columns)
    if len(frame):
        frame["bar R2"] = [bars.OLMIX.get(m) for m in frame.index]
    return _flat(frame)


def datablations(found: pd.DataFrame) -> pd.DataFrame:
    """Relative error by part, then coverage."""
    rows = found[(found["table"] == "datablations") & (found["status"] == "done")]
    columns = {}
    for measure in ("relative", "coverage"):
        for (split, part), of_part in rows.groupby(["split", "part"], sort=False):
            where = split if split == "5 folds" else part.replace("all rows", "all of these")
            columns[f"{measure}: {where}"] = of_part.groupby("method", sort=False)[measure].mean()
    if columns:
        columns["seconds"] = rows.groupby("method", sort=False)["seconds"].mean()
    return _flat(pd.DataFrame(columns))


def hindsight(found: pd.DataFrame) -> pd.DataFrame:
    """Auto's error over that of the law that turned out best, and over that of the best method of all."""
    rows = found[(found["status"] == "done") & found["mae"].notna()]
    lines = []
    for (table, split, runs, part), of_part in rows.groupby(["table", "split", "runs", "part"], sort=False):
        mae = of_part.groupby("method", sort=False)["mae"].mean()
        laws = mae.drop([m for m in (*BASELINES, "auto") if m in mae.index])
        if "auto" not in mae.index or len(laws) == 0:
            continue
        every = mae.drop([m for m in ("auto", "lightgbm-leak") if m in mae.index])
        chosen = of_part.loc[of_part["method"] == "auto", "chosen"].dropna()
        about = {"table": table, "split": split, "runs": int(runs), "part": part, "chosen by auto": _counts(chosen)}
        found_best = {"best law": laws.idxmin(), "its MAE": float(laws.min()), "auto's MAE": float(mae["auto"])}
        ratios = {"auto / best law": float(mae["auto"] / laws.min()), "auto / best": float(mae["auto"] / every.min())}
        lines.append(about | found_best | ratios)
    return pd.DataFrame(lines)


def planted(found: pd.DataFrame) -> pd.DataFrame:
    """Shares over all trials, each cell weighted by its own."""
    rows = found[(found["table"] == "planted") & (found["status"] == "done")]
    lines = []
    for method, of_law in rows.groupby("method", sort=False):
        weight = of_law["trials"]
        share = {c: float(np.average(of_law[c], weights=weight)) for c in ("optimum_inside", "coverage", "excess")}
        names = {"optimum_inside": "weights within their region", "coverage": "new runs within their interval"}
        names |= {"excess": "optimum costs more by"}
        spent = {"seconds a trial": float(of_law["seconds"].sum() / weight.sum())}
        lines.append({"law": method, "trials": int(weight.sum())} | {names[c]: v for c, v in share.items()} | spent)
    return pd.DataFrame(lines)


def proposals(found: pd.DataFrame) -> pd.DataFrame:
    """What each judge expects of each proposal."""
    rows = found[(found["table"] == "proposals") & (found["status"] == "done")]
    if len(rows) == 0:
        return pd.DataFrame()
    index = ["split", "method"]
    frame = rows.pivot_table(index=index, columns="part", values="judged", sort=False)
    frame["distance of nearest run"] = rows.groupby(index)["nearest"].mean()
    return frame.reset_index().rename(columns={"split": "objective", "method": "proposal"})


def timings(found: pd.DataFrame) -> pd.DataFrame:
    rows = found[(found["table"] == "timings") & (found["status"] == "done")]
    if len(rows) == 0:
        return pd.DataFrame()
    frame = rows.pivot_table(index="split", columns="part", values="seconds", sort=False)
    names = {"split": "task", "first": "seconds, with compilation", "again": "seconds, again"}
    return frame.reset_index().rename(columns=names)


def draws(found: pd.DataFrame) -> pd.DataFrame:
    rows = found[(found["table"] == "draws") & (found["status"] == "done")]
    if len(rows) == 0:
        return pd.DataFrame()
    names = {
        "split": "optimum under",
        "trials": "draws that keep them",
        "excess": "its objective minus that of the best draw",
    }
    return rows[list(names)].rename(columns=names)


def missing(found: pd.DataFrame) -> pd.DataFrame:
    """What could not be measured, and why."""
    rows = found[found["status"] == "cannot"]
    if len(rows) == 0:
        return pd.DataFrame()
    reasons = rows.groupby(["table", "split", "runs", "method"], sort=False)["reason"].first()
    return reasons.str.split(";").str[0].reset_index()


TABLES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "regmix": regmix,
    "curves-rho": curves("rho"),
    "curves-mae": curves("mae"),
    "3mix": three_mix,
    "3mix-scale": scale("3mix-scale"),
    "olmix": olmix,
    "pile4": scale("pile4"),
    "datablations": datablations,
    "hindsight": hindsight,
    "planted": planted,
    "proposals": proposals,
    "timings": timings,
    "draws": draws,
    "missing": missing,
}


def _flat(frame: pd.DataFrame) -> pd.DataFrame:
    """With the method as the first column, in order; columns that nothing fills go."""
    if len(frame) == 0:
        return frame
    frame = frame.dropna(axis=1, how="all").rename_axis("method").reset_index()
    return frame.sort_values("method", key=lambda names: names.map(_place), kind="stable")


def _place(method: str) -> int:
    """The mean, the laws, those that are not in `ORDER` behind them, trees, auto."""
    last = [*BASELINES[1:], "auto"]
    if method == BASELINES[0]:
        return -1
    if method in last:
        return 1000 + last.index(method)
    return ORDER.index(method) if method in ORDER else len(ORDER)


def _counts(chosen: pd.Series) -> str:
    """Names with how often each was chosen."""
    counts = chosen.value_counts()
    return ", ".join(name if len(counts) == 1 else f"{name} ({count})" for name, count in counts.items())
