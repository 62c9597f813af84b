"""Whatever a table holds, `fit` gives finite predictions within their intervals, or an `InputError`."""

import numpy as np
import pandas as pd
import pytest

from mixscale import laws
from mixscale.errors import InputError
from mixscale.run_table import RunTable

SMALL, ALL, BATCH = 60, 2000, 100  # tables in the suite and under --all, and tables of one shape
# Runs, domains and targets: few shapes, so that few programs are compiled.
SMALL_SHAPES = ((6, 2, 1), (8, 2, 2), (12, 3, 2))
SCALES = (1.0, 1.0, 3.0, 1e-9, 1e9)


def weights(rng, runs, domains):
    """Mixtures of a random kind, shape (R, K)."""
    kind = rng.integers(6)
    h_RxK = rng.dirichlet(np.full(domains, (1.0, 0.05, 100.0, 1.0, 1.0, 0.3)[kind]), runs)
    if kind == 3:  # repeated
        h_RxK = h_RxK[rng.integers(max(1, runs // 3), size=runs)]
    if kind == 4:  # near vertices
        at = rng.integers(domains, size=runs)
        h_RxK = (1 - 1e-6) * np.eye(domains)[at] + 1e-6 * h_RxK
    if rng.random() < 0.2:  # rounded, with zeros
        h_RxK = np.maximum(np.round(h_RxK, 2), 0.0)
        h_RxK[h_RxK.sum(axis=1) == 0, 0] = 1.0
    if rng.random() < 0.1:  # a constant column
        h_RxK[:, 0] = rng.choice([0.0, 0.1])
    if rng.random() < 0.1:  # one domain is used once
        h_RxK[1:, -1] = 0.0
        h_RxK[1:, 0] += 1e-9
    sums_Rx1 = h_RxK.sum(axis=1, keepdims=True)
    return np.where(sums_Rx1 > 0, h_RxK / np.where(sums_Rx1 > 0, sums_Rx1, 1.0), 1 / domains)


def losses(rng, h_RxK, scale_R):
    """One target of a random kind, shape (R,)."""
    runs, domains = h_RxK.shape
    y_R = 1.5 + np.exp(-h_RxK @ rng.gamma(1.0, 2.0, domains)) + 0.3 * scale_R
    y_R = y_R * (1 + rng.choice([0.0, 1e-12, 0.003, 0.1, 1.0]) * rng.standard_normal(runs))
    kind = rng.integers(12)
    if kind == 0:  # ties
        y_R = np.round(y_R, 1)
    if kind == 1:  # outliers
        y_R[rng.integers(runs, size=1 + runs // 10)] *= rng.choice([1e-6, 10.0, 1e6])
    if kind == 2:  # almost constant
        y_R = 2.0 + 1e-8 * y_R
    if kind == 3:
        y_R = y_R - np.median(y_R)
    if kind == 4:  # all decades
        y_R = np.exp(rng.uniform(-20, 20, runs))
    if kind == 5:
        y_R = (y_R > np.median(y_R)).astype(float)
    if kind == 6 and rng.random() < 0.2:
        y_R = np.full(runs, 2.0)
    if kind == 7:
        y_R[rng.integers(runs)] = 0.0
    return y_R * rng.choice(SCALES)


def random_table(seed, shape):
    """A table, and mixtures of the same domains, with their scale, to predict."""
    rng = np.random.default_rng(seed)
    runs, domains, targets = shape
    frame = pd.DataFrame({"run": [f"r{i}" for i in range(runs)]})
    h_RxK, scale_R = weights(rng, runs, domains), np.zeros(runs)
    if rng.random() < 0.25:
        sizes, tokens = 10.0 ** rng.uniform(3, 11, 3), 10.0 ** rng.uniform(4, 13, 3)
        some = rng.integers(1, 4)
        frame["n_params"], frame["n_tokens"] = rng.choice(sizes[:some], runs), rng.choice(tokens, runs)
        scale_R = (frame["n_params"] / sizes.max()).to_numpy() ** -0.1
    fresh_QxK = np.concatenate([rng.dirichlet(np.ones(domains), 3), np.eye(domains)[:2]])
    y_TxR = [losses(rng, h_RxK, scale_R) for _ in range(targets)]
    prefix = rng.choice(["loss", "loss", "loss", "score", "metric"])
    frame = frame.assign(
        **{f"mix/d{k}": h_RxK[:, k] for k in range(domains)}, **{f"{prefix}/t{t}": y for t, y in enumerate(y_TxR)}
    )
    if rng.random() < 0.2:
        frame["status"] = np.where(rng.random(runs) < 0.1, "diverged", "complete")
        frame.loc[frame["status"] == "diverged", f"{prefix}/t0"] = np.nan
    fresh = pd.DataFrame(fresh_QxK, columns=[f"mix/d{k}" for k in range(domains)])
    scale = {c: frame[c].max() for c in ("n_params", "n_tokens") if c in frame}
    return frame, fresh.assign(**scale)


def check(seed, shape):
    """Whether the table could be fitted."""
    frame, fresh = random_table(seed, shape)
    try:
        fit = laws.fit(RunTable(frame), bootstrap=2, seed=seed)
        fit.summary()
        predicted = fit.predict_table(fresh)
    except InputError:
        return False
    for target in fit.targets:
        lo_Q, pred_Q, hi_Q = (predicted[f"{kind}/{target}"].to_numpy() for kind in ("lo", "pred", "hi"))
        missing_Q = predicted["note"].notna().to_numpy() if "note" in predicted else np.zeros(len(predicted), bool)
        assert np.isfinite([lo_Q, pred_Q, hi_Q])[:, ~missing_Q].all(), seed
        assert ((lo_Q <= pred_Q) & (pred_Q <= hi_Q))[~missing_Q].all(), seed
    return True


@pytest.mark.filterwarnings("ignore:.*cannot be predicted")
@pytest.mark.parametrize("number", range(len(SMALL_SHAPES)))
def test_small_random_tables_are_fitted_or_refused(number):
    fitted = [check(seed, SMALL_SHAPES[number]) for seed in range(number, SMALL, len(SMALL_SHAPES))]
    assert np.mean(fitted) > 0.5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*cannot be predicted")
@pytest.mark.parametrize("first", range(0, ALL, BATCH))
def test_random_tables_are_fitted_or_refused(first):
    rng = np.random.default_rng(first)
    shape = rng.integers(4, 61), rng.integers(2, 13), rng.integers(1, 26)
    for seed in range(first, first + BATCH):
        check(seed, shape)
