"""Are designed runs more informative than random ones? Chooses among published runs of other people.

    python analysis/next_runs.py DATA_DIR --out OUT

DATA_DIR holds the folders `regmix` and `olmix_dclm` with the published CSV files. Two questions:
- before any table: 20, 40 and 80 of RegMix's runs, chosen by their mixtures alone, and a law fitted to them; its error
  on runs of another random half of the pool, which compares the designs, and on the published test mixtures;
- after a first table: batches that `next_runs` chooses, against random ones and against those predicted to be best;
  the regret of the mixture that each fit would choose among the runs that exist, and how well it separates the best
  tenth of them.
Writes next_runs_*.csv and next_runs.png. Takes about ten minutes on two cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tyro
from scipy.stats import spearmanr

from mixscale import laws
from mixscale.interop import importers
from mixscale.laws import fitting
from mixscale.laws.families import LAWS, Points
from mixscale.laws.result import LawFit
from mixscale.mixtures.acquisition import law_prior, next_runs
from mixscale.mixtures.designs import optimal_subset
from mixscale.plots.runs import objective
from mixscale.run_table import RunTable


@dataclass(frozen=True)
class Study:
    """What to compare."""

    data: tyro.conf.Positional[Path]
    """folder that holds regmix/ and olmix_dclm/"""
    out: Path = Path("docs/figures")
    laws: tuple[str, ...] = ("additive", "effective")
    """fitted to the designs before any table, each alone and the mean of their predictions"""
    sequence_law: str = "effective"
    """fitted after each batch: it has few parameters, so a sequence can start from few runs"""
    sizes: tuple[int, ...] = (20, 40, 80)
    halves: int = 4
    """random halves of RegMix's pool over which designs are compared"""
    first: int = 8
    """random runs before the first chosen batch, beyond the number of domains"""
    batch: int = 8
    batches: int = 6
    seeds: tuple[int, ...] = (0, 1, 2)


def main(study: Study) -> None:
    """Prints and writes both tables, and the figure."""
    study.out.mkdir(parents=True, exist_ok=True)
    pool, test = regmix(study.data, "train"), regmix(study.data, "test")
    one_shot = pd.DataFrame(designs(study, pool, test))
    one_shot.round(5).to_csv(study.out / "next_runs_designs.csv", index=False)
    means = one_shot.groupby(["measured on", "runs", "design", "law"], sort=False)[["rho", "mae"]].mean()
    print(means.unstack().round(4).to_string())
    steps = []
    tables = {"RegMix": pool, "RegMix, Pile-CC": only(pool, "loss/pile_cc"), "olmix": olmix(study.data)}
    for name, table in tables.items():
        steps += sequences(study, name, table)
    sequential = pd.DataFrame(steps)
    sequential.round(6).to_csv(study.out / "next_runs_sequences.csv", index=False)
    means = sequential.groupby(["table", "runs", "chosen by"], sort=False)[["regret", "apart"]].mean()
    print(means.unstack().round(4).to_string())
    draw(sequential, study.out / "next_runs.png")


def regmix(data: Path, part: str) -> RunTable:
    folder = data / "regmix"
    return importers.regmix(folder / f"{part}_mixture_1m.csv", folder / f"{part}_pile_loss_1m.csv")


def only(table: RunTable, target: str) -> RunTable:
    """The table without its other targets."""
    return RunTable(table.frame.drop(columns=[t for t in table.targets if t != target]))


def olmix(data: Path) -> RunTable:
    """The mean of its 110 metrics as the only target."""
    folder = data / "olmix_dclm"
    table = importers.olmix(folder / "dclm_ratios.csv", folder / "dclm_metrics.csv")
    _, mean_R = objective(table)
    return RunTable(table.frame.drop(columns=list(table.targets)).assign(**{"loss/mean": mean_R}))


def designs(study: Study, pool: RunTable, test: RunTable) -> list[dict]:
    """Errors of the law fitted to each design, on the half of the pool it could not choose from and on the test."""
    rows = []
    for seed in range(study.halves):
        rng = np.random.default_rng(seed)
        order_R = rng.permutation(len(pool))
        half_R, other_R = np.split(order_R, 2)
        for runs in study.sizes:
            for name, chosen in choices(pool.mixtures_RxK[half_R], runs, rng).items():
                about = {"measured on": "other half", "design": name, "runs": runs, "seed": seed}
                rows += [about | one for one in errors(study, part(pool, half_R[chosen]), part(pool, other_R))]
            # A design of the whole pool is one; a random choice is another with every seed.
            whole = choices(pool.mixtures_RxK, runs, rng)
            for name in whole if seed == 0 else ["random"]:
                about = {"measured on": "test", "design": name, "runs": runs, "seed": seed}
                rows += [about | one for one in errors(study, part(pool, whole[name]), test)]
    return rows


def choices(h_NxK: np.ndarray, runs: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Indices that each design chooses."""
    return {
        "random": rng.choice(len(h_NxK), runs, replace=False),
        "far apart": far_apart(np.sqrt(h_NxK), runs),
        "smooth prior": np.array(optimal_subset(h_NxK, runs)[0]),
        "law's prior": np.array(optimal_subset(h_NxK, runs, prior=law_prior())[0]),
    }


def far_apart(x_NxK: np.ndarray, runs: int) -> np.ndarray:
    """The point nearest to the mean, then always the one farthest from those chosen (maximin, greedily)."""
    chosen = [int(((x_NxK - x_NxK.mean(axis=0)) ** 2).sum(axis=1).argmin())]
    far_N = np.full(len(x_NxK), np.inf)
    while len(chosen) < runs:
        far_N = np.minimum(far_N, ((x_NxK - x_NxK[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(far_N.argmax()))
    return np.array(chosen)


def errors(study: Study, fitted: RunTable, held: RunTable) -> list[dict]:
    """Mean over targets of Spearman's rho and of the absolute error, of point fits: designs need no bootstrap."""
    true_QxT, y_RxT = (t.frame[list(fitted.targets)].to_numpy() for t in (held, fitted))
    unit_T = np.median(y_RxT, axis=0)
    predicted = {}
    for law in study.laws:
        theta_TxP, _ = fitting.fit_points(LAWS[law], Points.of(fitted.mixtures_RxK), (y_RxT / unit_T).T, 0)
        predicted[law] = fitting.evaluate(LAWS[law], theta_TxP, Points.of(held.mixtures_RxK)).T * unit_T
    predicted["their mean"] = np.mean(list(predicted.values()), axis=0)
    rows = []
    for law, p_QxT in predicted.items():
        rho_T = [spearmanr(p_Q, y_Q)[0] for p_Q, y_Q in zip(p_QxT.T, true_QxT.T, strict=True)]
        rows.append({"law": law, "rho": float(np.mean(rho_T)), "mae": float(np.abs(p_QxT - true_QxT).mean())})
    return rows


def sequences(study: Study, name: str, table: RunTable) -> list[dict]:
    """Regret and standard error after every batch, for each way to choose it, from the same random first runs."""
    rows = []
    for way in ("next_runs", "random", "best predicted"):
        for seed in study.seeds:
            rng = np.random.default_rng(seed)
            known = list(first_runs(table.mixtures_RxK, len(table.domains) + study.first, rng))
            for _ in range(study.batches + 1):
                fit = laws.fit(part(table, known), law=study.sequence_law, bootstrap=50, seed=seed)
                rest = np.setdiff1d(np.arange(len(table)), known)
                row, batch = step(study, fit, table, rest, way, rng)
                rows.append({"table": name, "chosen by": way, "seed": seed, "runs": len(known), **row})
                known += list(batch)
    return rows


def first_runs(h_RxK: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random runs that use every domain: nothing can be predicted of one that none has used."""
    while True:
        chosen = rng.choice(len(h_RxK), count, replace=False)
        if (h_RxK[chosen] > 0).any(axis=0).all():
            return chosen


def step(study: Study, fit: LawFit, table: RunTable, rest: np.ndarray, way: str, rng) -> tuple[dict, np.ndarray]:
    """What one fit is worth, and the batch that follows it."""
    h_RxK = table.mixtures_RxK
    predicted_R, (_, true_R) = fit.mean_objective().mean(fit.predict(h_RxK)), objective(table)
    after = next_runs(fit, min(study.batch, len(rest)), candidates=h_RxK[rest], among=h_RxK)
    tenth_R = np.argsort(true_R)[: len(true_R) // 10]
    row = {
        "regret": float(true_R[predicted_R.argmin()] - true_R.min()),
        "apart": float(np.std(predicted_R[tenth_R] - true_R[tenth_R])),
        "standard_error": after.attrs["standard_error"],
    }
    if way == "next_runs":
        return row, rest[after["candidate"].to_numpy()]
    if way == "random":
        return row, rng.permutation(rest)[: study.batch]
    return row, rest[np.argsort(predicted_R[rest])[: study.batch]]


def part(table: RunTable, rows: np.ndarray) -> RunTable:
    return table.where(np.isin(np.arange(len(table)), rows))


def draw(sequential: pd.DataFrame, path: Path) -> None:
    """What is left to learn against runs, a panel a table, a line a way to choose."""
    names = list(sequential["table"].unique())
    labels = {"regret": "regret of the chosen mixture", "apart": "error of differences, best tenth"}
    figure, axes = plt.subplots(2, len(names), figsize=(3.6 * len(names), 5.4), layout="constrained", squeeze=False)
    for row, (column, label) in zip(axes, labels.items(), strict=True):
        for panel, name in zip(row, names, strict=True):
            for way, of_way in sequential[sequential["table"] == name].groupby("chosen by", sort=False):
                mean = of_way.groupby("runs")[column].mean()
                panel.plot(mean.index, mean, "o-", label=way)
            panel.set(title=name, xlabel="runs fitted", ylabel=label)
            panel.set_ylim(bottom=0)
    axes[0][0].legend(frameon=False)
    figure.savefig(path, dpi=160)


if __name__ == "__main__":
    main(tyro.cli(Study, description=__doc__))
