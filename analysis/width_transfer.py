"""Does one learning rate serve every width? Trains widths × learning rates and draws loss against learning rate.

    python analysis/width_transfer.py --out docs/figures
    python analysis/width_transfer.py --optimizer muon

Each width's best rate should be the same, and a wider model no worse at it. Runs are kept under runs/width-transfer
and not trained twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tyro

from mixscale.config import Corpus, Design, Embedded, Experiment, Model, Optimizer, Tokenizer, Train
from mixscale.launch import build_corpus, train_design


@dataclass(frozen=True)
class Sweep:
    """What to train."""

    widths: tuple[int, ...] = (32, 64, 128, 256)
    learning_rates: tuple[float, ...] = (0.0025, 0.005, 0.01, 0.02, 0.04)
    optimizer: Literal["adamw", "muon"] = "adamw"
    tokens: int = 150_000
    out: Path = Path("docs/figures")
    """folder for width_transfer.csv, .png and .pdf; of muon, for width_transfer_muon.*"""

    @property
    def name(self) -> str:
        return "width_transfer" + ("" if self.optimizer == "adamw" else f"_{self.optimizer}")


def experiment(sweep: Sweep, learning_rate: float) -> Experiment:
    """The uniform mixture of the quickstart's domains at every width."""
    return Experiment(
        name=f"{sweep.name.replace('_', '-')}/lr-{learning_rate:g}",
        corpus=Corpus(
            domains={name: Embedded(name) for name in ("abstracts", "code", "docs", "fiction", "romance", "wiki")},
            tokenizer=Tokenizer(kind="bpe", vocab_size=1024),
        ),
        models={f"width {w}": Model(d_model=w, layers=3, heads=w // 16, kv_heads=w // 32) for w in sweep.widths},
        optimizer=Optimizer(sweep.optimizer, learning_rate),
        train=Train(tokens=sweep.tokens, batch=8),
        design=Design(dirichlet=0, held_out=0, vertices=False, natural=False, replicates=0),
    )


def main(sweep: Sweep) -> None:
    """Trains what is missing, prints the table and draws the figure."""
    rows = []
    for rate in sweep.learning_rates:
        table = train_design(one := experiment(sweep, rate), build_corpus(one))
        loss = table.frame.filter(regex="^loss/").mean(axis=1)
        rows.append(pd.Series(dict(zip(table.frame["size"], loss, strict=True)), name=rate))
    loss_WxR = pd.DataFrame(rows).T
    sweep.out.mkdir(parents=True, exist_ok=True)
    loss_WxR.round(4).to_csv(sweep.out / f"{sweep.name}.csv", index_label="width")
    print(loss_WxR.round(4).to_string())
    for width, best in loss_WxR.idxmin(axis=1).items():
        regret = loss_WxR.loc[width, sweep.learning_rates[len(sweep.learning_rates) // 2]] - loss_WxR.loc[width].min()
        print(f"{width}: best rate {best:g}; the middle rate costs {regret:.4f} nats more")
    draw(loss_WxR, sweep.out / sweep.name)


def draw(loss_WxR: pd.DataFrame, path: Path) -> None:
    """Loss against learning rate, a line a width, to PNG and PDF."""
    figure, axes = plt.subplots(figsize=(5, 3.4), layout="constrained")
    colours = plt.colormaps["viridis"](np.linspace(0, 0.85, len(loss_WxR)))
    for (width, loss_R), colour in zip(loss_WxR.iterrows(), colours, strict=True):
        axes.plot(loss_R.index, loss_R, "o-", color=colour, label=width)
        axes.plot(loss_R.idxmin(), loss_R.min(), "o", color=colour, markersize=10, markerfacecolor="none")
    axes.set(xscale="log", xlabel="learning rate", ylabel="mean held-out loss (nats a token)")
    axes.set_xticks(loss_WxR.columns, [f"{rate:g}" for rate in loss_WxR.columns])
    axes.minorticks_off()
    axes.legend(frameon=False)
    figure.savefig(path.with_suffix(".png"), dpi=160)
    figure.savefig(path.with_suffix(".pdf"))


if __name__ == "__main__":
    main(tyro.cli(Sweep, description=__doc__))
