"""From a table of runs to an optimum, in Python: fit, predict, optimize, choose the next runs, plot, export.

    python analysis/examples/from_a_table.py OUT [RUNS]

RUNS is a CSV or Parquet file with columns run, mix/DOMAIN and loss/TARGET; without it, the example makes one up. In a
notebook each result displays itself, so the prints can go.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from mixscale import Mixture, RunTable, design, export, fit, optimize, plots, predict


def made_up() -> RunTable:
    """Thirty runs of three domains; each loss falls with the weight of its own domain."""
    rng = np.random.default_rng(0)
    h_RxK = rng.dirichlet([1, 1, 1], 30)
    runs = pd.DataFrame(h_RxK, columns=["mix/web", "mix/code", "mix/books"])
    runs.insert(0, "run", [f"run-{i}" for i in range(30)])
    for name, sizes_K in (("web", [1, 0.1, 0.4]), ("code", [0.1, 1, 0]), ("books", [0.3, 0, 1])):
        runs[f"loss/{name}"] = 1.5 + 0.9 * np.exp(-3 * h_RxK @ sizes_K) + rng.normal(0, 0.004, 30)
    return RunTable(runs)


def main(out: Path, table: RunTable) -> None:
    """Takes every step from a table to a trainer, and saves figures, the optimum and a config in `out`."""
    print(table)
    fitted = fit(table, law="exponential", bootstrap=50)
    print(fitted.summary())

    now = Mixture.uniform(table.domains)
    best = optimize(fitted, current=now, upper={table.domains[0]: 0.5})
    print(best.summary())

    print(predict(fitted, [now, best.mixture]).round(3).T)
    print(design(fitted, runs=2).round(3))

    plots.save(plots.predicted_observed(fitted), out / "predicted")
    plots.save(plots.proportion(fitted), out / "proportion")
    plots.save(plots.parallel(table, optimum=best.mixture), out / "swarm")
    (out / "levanter.yaml").write_text(export(best.mixture, "levanter"))
    best.save(out / "optimum.json")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    main(folder, RunTable.read(sys.argv[2]) if len(sys.argv) > 2 else made_up())
