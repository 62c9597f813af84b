"""Accuracy of laws on public tables of runs, if they are next to the repository."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from mixscale import laws
from mixscale.run_table import RunTable

DATA = Path(__file__).parents[2].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the public run tables are not next to the repository")


def regmix(part):
    mixtures = pd.read_csv(DATA / "regmix" / f"{part[0]}_mixture_{part[1]}.csv")
    losses = pd.read_csv(DATA / "regmix" / f"{part[0]}_pile_loss_{part[1]}.csv")
    names = {c: "mix/" + c.removeprefix("train_the_pile_") for c in mixtures if c != "index"}
    targets = [c for c in losses if c != "index"]
    names |= {c: "loss/" + c.removeprefix("metric/the_pile_").removesuffix("_val_loss") for c in targets}
    return RunTable(mixtures.merge(losses, on="index").rename(columns=names | {"index": "run"}))


@needs_data
def test_additive_reaches_the_published_bar_on_regmix():
    fitted, held = regmix(("train", "1m")), regmix(("test", "1m"))
    assert "were normalized" in fitted.notes[0]
    fit = laws.fit(fitted, "additive", bootstrap=20)
    predicted_QxT = fit.predict(held.mixtures_RxK)
    true_QxT = np.stack([held.losses(c) for c in fit.dataset.columns], axis=1)
    rho = np.mean([spearmanr(p, y)[0] for p, y in zip(predicted_QxT.T, true_QxT.T, strict=True)])
    assert rho >= 0.985
    assert np.abs(predicted_QxT - true_QxT).mean() < 0.07
    lo_QxT, hi_QxT = fit.interval(held.mixtures_RxK)
    assert 0.86 < ((lo_QxT <= true_QxT) & (true_QxT <= hi_QxT)).mean() < 0.96
