"""Laws fitted to planted tables, once a session."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from mixscale import laws
from mixscale.laws import fitting
from mixscale.laws.families import LAWS, Points
from mixscale.run_table import RunTable

DOMAINS = ("code", "web", "wiki", "news")
V_TxK = np.log([[0.4, 1.4, 1.6, 1.5], [1.5, 0.5, 1.1, 1.0], [1.6, 1.0, 0.4, 1.2]])
THETA = {
    "linear": np.exp(V_TxK) + 1,
    "exponential": np.column_stack([np.ones(3), V_TxK]),
    "effective": np.column_stack([np.ones(3), np.full(3, 0.6), V_TxK]),
    "additive": np.column_stack([np.ones(3), V_TxK, np.tile([0.3, 0.5, 0.7, 0.6], (3, 1))]),
}


def _planted(name, noise=0.003, seed=0, columns=("loss/code", "loss/web", "loss/wiki")):
    rng = np.random.default_rng(seed)
    h_RxK = np.concatenate([np.eye(4), rng.dirichlet(np.ones(4), 26)])
    y_TxR = fitting.evaluate(LAWS[name], THETA[name], Points.of(h_RxK))
    y_TxR = y_TxR * (1 + noise * rng.standard_normal(y_TxR.shape))
    frame = pd.DataFrame({f"mix/{d}": h_RxK[:, k] for k, d in enumerate(DOMAINS)})
    frame["run"] = np.arange(30)
    # A score is ten minus the loss, so that the same mixtures are good.
    return RunTable(
        frame.assign(**{c: 10 - y if c.startswith("score/") else y for c, y in zip(columns, y_TxR, strict=True)})
    )


@pytest.fixture(scope="session")
def planted():
    """A table whose losses follow a law, by its name, with noise."""
    return _planted


class _Fits(dict):
    """Fits on first use."""

    def __missing__(self, name):
        self[name] = laws.fit(_planted(name), name, bootstrap=100)
        return self[name]


@pytest.fixture(scope="session")
def fits():
    """A fit of each law's planted table, by the law's name."""
    return _Fits()


@pytest.fixture(scope="session")
def exactly(fits):
    """A fit with the given parameters, in units of the targets, without uncertainty."""

    def make(name, theta_TxP):
        fit = fits[name]
        scale = dataclasses.replace(fit.dataset.scale, offset_T=np.zeros(3), unit_T=np.ones(3))
        dataset = dataclasses.replace(fit.dataset, scale=scale)
        return dataclasses.replace(fit, theta_TxP=theta_TxP, theta_SxTxP=np.stack([theta_TxP] * 2), dataset=dataset)

    return make


@pytest.fixture(scope="session")
def truth():
    """The planted parameters of a law."""
    return THETA
