"""Which runs next: on planted laws the chosen runs locate the optimum sooner than random ones, within the budget."""

import numpy as np
import pandas as pd
import pytest

from mixscale.cli import main
from mixscale.errors import InputError
from mixscale.laws import fit, fitting
from mixscale.laws.families import LAWS, Points
from mixscale.mixtures.acquisition import next_runs
from mixscale.mixtures.candidates import near_hull
from mixscale.run_table import RunTable

DOMAINS = ("books", "code", "maths", "news", "web")
THETA_TxP = np.array([[0.9, 0.6, 0.5, -0.9, 0.3, 0.1, -0.4], [0.9, 0.6, -0.7, 0.4, -0.5, 0.2, -0.3]])
NOISE = 0.01


def losses(h_RxK):
    return fitting.evaluate(LAWS["effective"], THETA_TxP, Points.of(h_RxK)).T


def table(h_RxK, seed=0, noise=NOISE):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(h_RxK, columns=[f"mix/{d}" for d in DOMAINS])
    frame.insert(0, "run", [f"r{i}" for i in range(len(h_RxK))])
    y_RxT = losses(h_RxK) * (1 + noise * rng.standard_normal((len(h_RxK), 2)))
    return RunTable(frame.assign(**{"loss/qa": y_RxT[:, 0], "loss/chat": y_RxT[:, 1]}))


def scaled_table():
    """A law with scale, run at three sizes and two token counts."""
    rng = np.random.default_rng(0)
    h_RxK = np.tile(rng.dirichlet(np.ones(5), 9), (6, 1))
    n_R, d_R = np.repeat([1e6, 4e6, 1.6e7], 18), np.tile(np.repeat([1e8, 3e8], 9), 3)
    theta_P = np.array([0.8, -1.5, 0.3, 0.4, 0.5, -0.9, 0.3, 0.1, -0.4])
    points = Points.of(h_RxK, n_R / 4e6, d_R / 2e8)
    y_R = fitting.evaluate(LAWS["effective-scale"], theta_P[None], points)[0]
    frame = pd.DataFrame(h_RxK, columns=[f"mix/{d}" for d in DOMAINS])
    frame.insert(0, "run", [f"r{i}" for i in range(len(h_RxK))])
    y_R = y_R * (1 + 0.005 * rng.standard_normal(len(y_R)))
    return RunTable(frame.assign(n_params=n_R, n_tokens=d_R, **{"loss/qa": y_R}))


@pytest.fixture(scope="module")
def fitted():
    return fit(table(np.random.default_rng(1).dirichlet(np.ones(5), 14)), law="effective", bootstrap=40)


@pytest.fixture(scope="module")
def scaled():
    return fit(scaled_table(), law="effective-scale", bootstrap=30)


def test_chosen_runs_locate_the_optimum_sooner_than_random_ones():
    pool_NxK = np.random.default_rng(2).dirichlet(np.full(5, 0.5), 120)
    true_N = losses(pool_NxK).mean(axis=1)
    best_N = np.argsort(true_N)[:20]

    def error(known, seed):
        """How badly the fit tells the best mixtures apart, and its regret."""
        one = fit(table(pool_NxK[known], seed), law="effective", bootstrap=20)
        predicted_N = one.predict(pool_NxK).mean(axis=1)
        return np.std((predicted_N - true_N)[best_N]), true_N[predicted_N.argmin()] - true_N.min()

    ours, random = [], []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        start = rng.choice(120, 9, replace=False)
        rest = np.setdiff1d(np.arange(120), start)
        first = fit(table(pool_NxK[start], seed), law="effective", bootstrap=40)
        chosen = next_runs(first, 6, candidates=pool_NxK[rest], among=pool_NxK)
        ours.append(error([*start, *rest[chosen["candidate"]]], seed))
        random += [error([*start, *rng.choice(rest, 6, replace=False)], seed) for _ in range(3)]
    assert np.mean(ours, axis=0)[0] < 0.9 * np.mean(random, axis=0)[0]
    assert np.mean(ours, axis=0)[1] <= np.mean(random, axis=0)[1] + 1e-9


def test_each_run_reduces_the_uncertainty_and_a_seed_is_reproducible(fitted):
    chosen = next_runs(fitted, 6, seed=3)
    errors = [chosen.attrs["standard_error"], *chosen["standard_error"]]
    assert (np.diff(errors) < 0).all()
    np.testing.assert_allclose(chosen["reduction"], 1 - (chosen["standard_error"] / errors[0]) ** 2)
    assert chosen.equals(next_runs(fitted, 6, seed=3))
    weights = chosen[[f"mix/{d}" for d in DOMAINS]]
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    assert len(weights.drop_duplicates()) == 6


def test_next_runs_are_within_bounds(fitted):
    chosen = next_runs(fitted, 6, lower={"web": 0.1}, upper={"maths": 0.2, "code": 0.0})
    assert (chosen["mix/web"] >= 0.1 - 1e-9).all()
    assert (chosen["mix/maths"] <= 0.2 + 1e-9).all()
    assert (chosen["mix/code"] == 0).all()


def test_proposed_mixtures_lie_near_the_hull_of_the_table():
    # Weights of the table stay below a half; the corners that an optimal design loves lie far outside of it.
    h_RxK = np.random.default_rng(1).dirichlet(np.full(5, 12.0), 20)
    one = fit(table(h_RxK), law="effective", bootstrap=20)
    near, far = (
        next_runs(one, 6, anywhere=anywhere)[[f"mix/{d}" for d in DOMAINS]].to_numpy() for anywhere in (False, True)
    )
    middle_K = h_RxK.mean(axis=0)
    reach = np.abs(h_RxK - middle_K).sum(axis=1).max()
    assert np.abs(near - middle_K).sum(axis=1).max() < 1.3 * reach
    assert np.abs(far - middle_K).sum(axis=1).max() > 2 * reach
    bounded = next_runs(one, 3, lower={"web": 0.6})
    assert (bounded["mix/web"] >= 0.6 - 1e-9).all()


def test_candidates_leave_the_hull_by_at_most_a_quarter():
    seen_RxK = np.array([[0.6, 0.2, 0.2], [0.2, 0.6, 0.2], [0.2, 0.2, 0.6]])
    moved_QxK = near_hull(np.array([[1.0, 0.0, 0.0], [0.4, 0.3, 0.3], [0.0, 0.5, 0.5]]), seen_RxK)
    third = 1 / 3
    np.testing.assert_allclose(moved_QxK[0], third + 1.25 * (seen_RxK[0] - third))
    np.testing.assert_allclose(moved_QxK[1], [0.4, 0.3, 0.3])
    edge_K = np.array([0.2, 0.4, 0.4])
    np.testing.assert_allclose(moved_QxK[2], third + 1.25 * (edge_K - third))


def test_a_mixture_that_was_run_is_less_informative():
    h_RxK = np.random.default_rng(1).dirichlet(np.ones(5), 14)
    new_1xK = np.array([[0.05, 0.6, 0.3, 0.0, 0.05]])
    without = fit(table(h_RxK), law="effective", bootstrap=60)
    with_it = fit(table(np.concatenate([h_RxK, np.repeat(new_1xK, 4, axis=0)])), law="effective", bootstrap=60)
    before, after = (next_runs(one, 1, candidates=new_1xK, among=h_RxK) for one in (without, with_it))
    gone = [one.attrs["standard_error"] ** 2 - one["standard_error"].iloc[0] ** 2 for one in (before, after)]
    assert gone[1] < 0.6 * gone[0]


def test_a_target_of_weight_zero_has_no_influence(fitted):
    chosen = next_runs(fitted, 4, weights={"chat": 1.0})
    assert chosen.attrs["standard_error"] > 0
    assert not chosen.equals(next_runs(fitted, 4, weights={"qa": 1.0}))


def test_a_larger_budget_reduces_the_uncertainty_more(scaled):
    at = {"n_params": 6.4e7, "n_tokens": 1e9, "sizes": [1e6, 4e6, 1.6e7], "tokens": [1e8, 3e8]}
    small, large = (next_runs(scaled, 6, budget_flops=b, **at) for b in (1e16, 1e17))
    assert small["flops"].sum() <= 1e16
    assert large["flops"].sum() <= 1e17
    np.testing.assert_allclose(small["flops"], 6 * small["n_params"] * small["n_tokens"])
    assert large["standard_error"].iloc[-1] < small["standard_error"].iloc[-1] < small.attrs["standard_error"]
    assert set(small["n_params"]) <= {1e6, 4e6, 1.6e7}


def test_sizes_and_tokens_are_those_of_the_table_where_none_are_given(scaled):
    chosen = next_runs(scaled, 4, n_params=6.4e7, n_tokens=1e9)
    assert set(chosen["n_params"].round(-2)) <= {1e6, 4e6, 1.6e7}
    assert set(chosen["n_tokens"].round(-4)) <= {1e8, 3e8}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"runs": 0}, ["runs is 0", "1 or more"]),
        ({"runs": 2, "budget_flops": 1e15}, ["budget", "sizes and tokens"]),
        ({"runs": 2, "budget_flops": 1e10, "sizes": [1e6], "tokens": [1e8]}, ["1e+10", "6e+14", "cheapest"]),
        ({"runs": 2, "sizes": [1e6, 2e6]}, ["sizes", "2", "does not use scale"]),
        ({"runs": 2, "sizes": [-1.0]}, ["sizes", "-1", "positive"]),
        ({"runs": 2, "candidates": np.full((1, 5), 0.3)}, ["sum"]),
        ({"runs": 2, "lower": {"wib": 0.1}}, ["'wib'"]),
        ({"runs": 2, "weights": {"qu": 1.0}}, ["'qu'"]),
        ({"runs": 2, "seed": -1}, ["seed is -1"]),
    ],
)
def test_wrong_options_of_next_runs_are_errors(fitted, options, words):
    with pytest.raises(InputError) as refusal:
        next_runs(fitted, **options)
    assert all(word in str(refusal.value) for word in words)


def test_a_law_with_scale_needs_a_size_for_the_optimum(scaled):
    with pytest.raises(InputError, match="n_params"):
        next_runs(scaled, 2)


def test_the_command_designs_first_runs(tmp_path, capsys):
    out = tmp_path / "mixtures.csv"
    assert (
        main(["design", "--domains", "web,code,books", "--runs", "7", "--lower", "web", "0.2", "--out", str(out)]) == 0
    )
    printed, saved = capsys.readouterr().out, pd.read_csv(out)
    assert "web" in printed
    assert "variance" in printed
    assert len(saved) == 7
    assert (saved["mix/web"] >= 0.2).all()
    assert main(["design", "--candidates", str(out), "--runs", "3"]) == 0
    assert "saved" not in capsys.readouterr().out


def test_the_command_designs_next_runs(tmp_path, capsys, fitted):
    fitted.save(tmp_path / "fit")
    scale = ["--sizes", "1e6", "--tokens", "1e8", "--budget-flops", "2e15"]
    assert main(["design", str(tmp_path / "fit"), "--runs", "5", *scale, "--out", str(tmp_path / "next.csv")]) == 0
    printed, saved = capsys.readouterr().out, pd.read_csv(tmp_path / "next.csv")
    assert len(saved) == 3
    assert "FLOPs" in printed
    assert "standard_error" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["needs a fit", "--domains"]),
        (["--domains", "a,b", "--budget-flops", "1e15"], ["budget_flops", "without a fit"]),
        (["nowhere"], ["nowhere", "no fit"]),
        (["nowhere", "--domains", "a,b"], ["--domains", "with a fit"]),
    ],
)
def test_the_command_explains_missing_arguments(arguments, words, capsys):
    assert main(["design", *arguments]) == 2
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    assert all(word in printed for word in words), printed


def test_runs_follow_a_fit_for_larger_sizes():
    larger = fit(scaled_table(), "effective-scale", holdout="larger-n", bootstrap=20)
    chosen = next_runs(larger, 3, budget_flops=1e18, n_params=6.4e7, n_tokens=3e8)
    assert np.isfinite(chosen["standard_error"]).all()
    assert (chosen["reduction"] >= 0).all()
