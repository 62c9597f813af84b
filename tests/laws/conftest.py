"""Tables planted from a known law, and fits to them that the tests of laws share."""

import numpy as np
import pandas as pd
import pytest

from mixscale.laws import fitting
from mixscale.laws.families import LAWS, Law, Points
from mixscale.run_table import RunTable

DOMAINS = ("code", "web", "wiki")
FORMULAS = {name: law for name, law in LAWS.items() if isinstance(law, Law)}

OWN = 1.2
"""How much the log-term of a target's own domain is below the others'."""


def planted_theta(name, targets):
    """Scaled parameters; target t depends most on domain t."""
    return np.array([_theta(np.arange(3) == t)[name] for t in range(targets)])


def _theta(own_K):
    v_K = np.array([0.5, 0.3, 0.1]) - OWN * own_K
    gamma_K = np.array([0.3, 0.5, 0.7])
    autoscale = np.r_[np.where(own_K, -0.3, -2.0), -2.0, -1.5, -1.0, 0.5, 0.8, 0.4]
    return {
        "linear": np.exp(v_K) + 1,
        "exponential": np.r_[0.9, v_K],
        "log-linear": np.r_[np.log(0.9), v_K],
        "effective": np.r_[0.9, 0.6, v_K],
        "additive": np.r_[0.9, v_K, gamma_K],
        "power-additive": np.r_[0.9, 0.6, v_K, gamma_K + 0.2],
        "autoscale": np.r_[0.6, autoscale],
        "m1": np.r_[1.8, np.where(own_K, -0.2, -2.0), np.where(own_K, -3.0, -1.0)],
        "m2": np.r_[1.8, -0.7, np.where(own_K, -3.0, -0.4)],
        "m3": np.r_[1.2, -0.6, -0.8 - 0.5 * own_K[0]],
        "chinchilla": np.r_[0.8, -1.5, 0.3, -1.2 + 0.3 * own_K[0], 0.4],
        "exponential-scale": np.r_[0.8, -1.5, 0.3, 0.4, v_K],
        "effective-scale": np.r_[0.8, -1.5, 0.3, 0.4, v_K],
        "additive-scale": np.r_[-1.5, 0.3, -1.2, 0.4, 0.8, v_K, gamma_K],
        "joint": np.r_[0.3, 0.4, 1.5, 2.0, v_K - 2, v_K[::-1] - 1.5, 0.8, v_K, gamma_K],
        "power-additive-scale": np.r_[0.8, -1.5, 0.3, -1.2, 0.4, 0.6, 0.1, v_K, gamma_K + 0.2],
        "bimix": np.r_[-1.0, 0.4, 0.3, v_K / 2],
        "d-cpt": np.r_[0.8, -1.5, 0.3, -1.2, 0.4, 0.3, 0.5, v_K],
        "autoscale-scale": np.r_[0.6, -1.5, 0.3, autoscale],
    }


def planted_table(name, runs=29, targets=3, noise=0.0, seed=0, replicates=0):
    rng = np.random.default_rng(seed)
    h_RxK = np.concatenate([np.eye(3), np.full((1, 3), 1 / 3), rng.dirichlet(np.ones(3), runs - 4)])
    h_RxK = np.concatenate([h_RxK, h_RxK[4 : 4 + replicates]])
    rows = len(h_RxK)
    frame = pd.DataFrame({f"mix/{d}": h_RxK[:, k] for k, d in enumerate(DOMAINS)})
    frame["run"] = [f"r{i}" for i in range(rows)]
    # Geometric means are exactly 1e6 and 1e8, so that scaled parameters are the planted ones.
    frame["n_params"] = 1e6
    frame["n_tokens"] = 1e8
    if LAWS[name].uses_scale:
        frame = pd.concat(
            [
                frame.assign(run=frame["run"] + f"-{i}{j}", n_params=1e6 * 4.0**i, n_tokens=1e8 * 3.0**j)
                for i in (-1, 0, 1)
                for j in (-1, 0, 1)
            ],
            ignore_index=True,
        )
    h_RxK = frame[[f"mix/{d}" for d in DOMAINS]].to_numpy()
    points = Points.of(h_RxK, frame["n_params"].to_numpy() / 1e6, frame["n_tokens"].to_numpy() / 1e8)
    y_TxR = fitting.evaluate(LAWS[name], planted_theta(name, targets), points)
    y_TxR = y_TxR * (1 + noise * rng.standard_normal(y_TxR.shape))
    return RunTable(frame.assign(**{f"loss/{DOMAINS[t]}": y_TxR[t] for t in range(targets)}))


@pytest.fixture(scope="session")
def noisy_table():
    return planted_table("effective", noise=0.005, replicates=4)
