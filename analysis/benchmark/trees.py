"""LightGBM as RegMix uses it (github sail-sg/regmix, regression_fitting/regression.ipynb), without its leak.

Its hyper-parameters are the reference's: learning rate 0.01, at most 1,000 trees, l2, early stopping after three
rounds, seed 42, LightGBM's own values for the rest. Two things differ. The reference stops on the test set it then
reports; here a fifth of the fitted mixtures decides how many trees there are, and that many are grown on all of them.
And where runs differ in size, tokens or unique tokens, their logarithms are features beside the weights.

Made for hundreds of runs, these settings cannot split a leaf of fewer than 40, and stop at once on the noise of a few
runs. So that trees are not judged by that, `Trees.tuned` chooses the smallest leaf and the number of trees by
cross-validation; it is our own, and better on small tables.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmark.methods import Bounds, losses
from benchmark.tables import mixture_of
from mixscale.run_table import RunTable

PARAMETERS = {
    "boosting_type": "gbdt",
    "objective": "regression",
    "metric": "l2",
    "learning_rate": 0.01,
    "seed": 42,
    "verbosity": -1,
    # Tables are small: threads cost more than they save, and one gives the same trees everywhere.
    "num_threads": 1,
}
TREES, PATIENCE = 1000, 3
STOPPED_ON = 0.2
"""Share of the fitted mixtures on which the number of trees is decided."""
LEAVES, RATE, FOLDS, WAIT = (2, 5, 20), 0.05, 5, 25
"""What `tuned` compares: least runs in a leaf; with its learning rate, folds, and rounds without gain."""


@dataclass(frozen=True)
class Trees:
    """A forest for each target; without intervals, which the reference has not."""

    models: list
    chosen: str = ""

    @classmethod
    def of(cls, table: RunTable, seed: int, stop_on: RunTable | None = None) -> Trees:
        """Fit each target.

        Args:
            stop_on: rows on which to stop, as the reference does; None: a part of the table.
        """
        x_RxF, y_RxT = features(table), losses(table)
        if stop_on is not None:
            other = (features(stop_on), losses(stop_on))
            return cls([_grown(x_RxF, y_RxT[:, t], other[0], other[1][:, t]) for t in range(y_RxT.shape[1])])
        held_R = _held(table, seed)
        return cls([_stopped(x_RxF, y_R, held_R) for y_R in y_RxT.T])

    @classmethod
    def tuned(cls, table: RunTable, seed: int) -> Trees:
        """Fit each target, with leaf and number of trees of its own."""
        x_RxF, group_R = features(table), _groups(table)
        fold_G = np.random.default_rng(seed).permutation(np.arange(group_R.max() + 1) % FOLDS)
        folds = [np.flatnonzero(fold_G[group_R] == fold) for fold in range(FOLDS)]
        folds = [(np.setdiff1d(np.arange(len(x_RxF)), held), held) for held in folds if len(held)]
        return cls([_tuned(x_RxF, y_R, folds) for y_R in losses(table).T])

    def predict(self, rows: RunTable) -> np.ndarray:
        return self.predict_features(features(rows))

    def predict_features(self, x_QxF: np.ndarray) -> np.ndarray:
        return np.column_stack([model.predict(x_QxF) for model in self.models])

    def interval(self, rows: RunTable) -> Bounds:
        return None


def features(table: RunTable) -> np.ndarray:
    """Weights, and logarithms of what scale the table tells, shape (R, F)."""
    scale = [c for c in table.frame if c in ("n_params", "n_tokens") or str(c).startswith("unique_tokens/")]
    return np.column_stack([table.mixtures_RxK, *(np.log(table.frame[c].to_numpy(dtype=np.float64)) for c in scale)])


def _held(table: RunTable, seed: int) -> np.ndarray:
    """Which rows decide the number of trees: all those of a fifth of the groups."""
    group_R = _groups(table)
    count = int(group_R.max()) + 1
    held_G = np.random.default_rng(seed).permutation(count)[: max(1, round(STOPPED_ON * count))]
    return np.isin(group_R, held_G)


def _groups(table: RunTable) -> np.ndarray:
    """Number of each row's mixture, or of its run where there is one mixture, shape (R,)."""
    mixture_R = mixture_of(table)
    return mixture_R if mixture_R.max() > 0 else table.frame.groupby("run", sort=False).ngroup().to_numpy()


def _stopped(x_RxF: np.ndarray, y_R: np.ndarray, held_R: np.ndarray):
    trial = _grown(x_RxF[~held_R], y_R[~held_R], x_RxF[held_R], y_R[held_R])
    return _train(x_RxF, y_R, max(1, trial.best_iteration))


def _grown(x_RxF: np.ndarray, y_R: np.ndarray, x_VxF: np.ndarray, y_V: np.ndarray):
    """Trees until three rounds bring nothing on the rows V."""
    import lightgbm

    valid = lightgbm.Dataset(x_VxF, y_V)
    return _train(x_RxF, y_R, TREES, valid_sets=[valid], callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)])


def _train(x_RxF: np.ndarray, y_R: np.ndarray, rounds: int, **options):
    import lightgbm

    return lightgbm.train(PARAMETERS, lightgbm.Dataset(x_RxF, y_R), rounds, **options)


def _tuned(x_RxF: np.ndarray, y_R: np.ndarray, folds: list[tuple[np.ndarray, np.ndarray]]):
    """The leaf and the number of trees that have the smallest error in cross-validation, grown on all rows."""
    import lightgbm

    found = []
    for leaf in LEAVES:
        # A small leaf needs small bins too.
        settings = PARAMETERS | {"learning_rate": RATE, "min_data_in_leaf": leaf, "min_data_in_bin": min(3, leaf)}
        stop = lightgbm.early_stopping(WAIT, verbose=False)
        curve = lightgbm.cv(settings, lightgbm.Dataset(x_RxF, y_R), TREES, folds=folds, callbacks=[stop])
        error_N = np.array(curve["valid l2-mean"])
        found.append((float(error_N.min()), int(error_N.argmin()) + 1, settings))
    _, rounds, settings = min(found, key=lambda one: one[0])
    return lightgbm.train(settings, lightgbm.Dataset(x_RxF, y_R), rounds)
