"""A score, which is better when higher, is fitted as its negative and comes back in its own unit."""

import numpy as np
import pytest

from mixscale import laws
from mixscale.errors import InputError
from mixscale.laws.dataset import build_dataset
from mixscale.run_table import RunTable

FRESH_QxK = np.random.default_rng(7).dirichlet(np.ones(3), 50)


def with_score(table, of_loss):
    """The table in which `loss/web` has become `score/web`."""
    frame = table.frame.assign(**{"score/web": of_loss(table.frame["loss/web"])})
    return RunTable(frame.drop(columns="loss/web"))


@pytest.fixture(scope="module")
def scored(noisy_table):
    """Fits to losses, to the same with web's negated, and to the same with an accuracy of 0 to 1 for web."""
    names = ("loss/code", "score/web", "loss/wiki")
    tables = [with_score(noisy_table, f) for f in (np.negative, lambda loss: (4 - loss) / 4)]
    fits = [laws.fit(t, "effective", targets=names, bootstrap=20) for t in tables]
    return laws.fit(noisy_table, "effective", bootstrap=20), *fits


def test_a_negated_loss_is_predicted_as_the_mirror_of_that_loss(scored):
    losses, mirrored, _ = scored
    assert mirrored.targets == losses.targets
    np.testing.assert_array_equal(losses.mean_objective().sign_T, [1, 1, 1])
    np.testing.assert_array_equal(mirrored.mean_objective().sign_T, [1, -1, 1])
    sign_T = mirrored.mean_objective().sign_T
    np.testing.assert_allclose(mirrored.predict(FRESH_QxK), losses.predict(FRESH_QxK) * sign_T, rtol=1e-9)
    np.testing.assert_allclose(mirrored.draws(FRESH_QxK), losses.draws(FRESH_QxK) * sign_T, rtol=1e-9)
    lo_QxT, hi_QxT = mirrored.interval(FRESH_QxK)
    as_loss_lo_QxT, as_loss_hi_QxT = losses.interval(FRESH_QxK)
    np.testing.assert_allclose(lo_QxT[:, 1], -as_loss_hi_QxT[:, 1], rtol=1e-9)
    np.testing.assert_allclose(hi_QxT[:, 1], -as_loss_lo_QxT[:, 1], rtol=1e-9)
    assert mirrored.noise == losses.noise
    for name, value in losses.params["web"].items():
        assert mirrored.params["web"][name] == pytest.approx(value)


def test_the_objective_counts_a_score_negatively(scored):
    losses, mirrored, accuracy = scored
    weights = {"loss/code": 1, "score/web": 3}
    np.testing.assert_allclose(accuracy.mean_objective(weights).weight_T, [0.25, 0.75, 0])
    for mean_Q, as_loss_Q in zip(
        mirrored.objective(FRESH_QxK, weights), losses.objective(FRESH_QxK, {"code": 1, "web": 3}), strict=True
    ):
        np.testing.assert_allclose(mean_Q, as_loss_Q, rtol=1e-9)
    mean_Q, lo_Q, hi_Q = accuracy.objective(FRESH_QxK, weights)
    np.testing.assert_allclose(mean_Q, accuracy.predict(FRESH_QxK) @ [0.25, -0.75, 0])
    assert (lo_Q < mean_Q).all()
    assert (mean_Q < hi_Q).all()


def test_an_accuracy_is_predicted_in_its_own_unit(scored, noisy_table):
    losses, _, accuracy = scored
    dataset = build_dataset(with_score(noisy_table, lambda loss: (4 - loss) / 4), False, ["score/web"])
    assert dataset.scale.unit_T[0] < 0
    np.testing.assert_allclose((dataset.y_scaled_TxR.min(), dataset.y_scaled_TxR.max()), (1, 2))
    assert np.corrcoef(dataset.y_scaled_TxR[0], dataset.y_TxR[0])[0, 1] == pytest.approx(-1)
    np.testing.assert_allclose(dataset.scale.outward(dataset.y_scaled_TxR), dataset.y_TxR)
    predicted_Q, truth_Q = accuracy.predict(FRESH_QxK)[:, 1], (4 - losses.predict(FRESH_QxK)[:, 1]) / 4
    assert np.abs(predicted_Q - truth_Q).max() < 0.01
    lo_QxT, hi_QxT = accuracy.interval(FRESH_QxK)
    assert (lo_QxT < accuracy.predict(FRESH_QxK)).all()
    assert (accuracy.predict(FRESH_QxK) < hi_QxT).all()
    assert ((hi_QxT - lo_QxT)[:, 1] < 0.05).all()
    assert all(np.isfinite(list(accuracy.params["web"].values())))
    assert accuracy.widening(FRESH_QxK[:1]) >= 1


def test_a_saved_fit_keeps_the_signs_of_scores(scored, tmp_path):
    accuracy = scored[2]
    accuracy.save(tmp_path)
    loaded = laws.LawFit.load(tmp_path)
    np.testing.assert_array_equal(loaded.mean_objective().sign_T, [1, -1, 1])
    np.testing.assert_allclose(loaded.objective(FRESH_QxK), accuracy.objective(FRESH_QxK), rtol=1e-12)


def test_scores_are_fitted_if_named_or_if_there_are_no_losses(noisy_table):
    both = RunTable(noisy_table.frame.assign(**{"score/web": -noisy_table.frame["loss/web"]}))
    assert build_dataset(both, False, None).columns == noisy_table.targets
    with pytest.raises(InputError, match="target 'web' is both loss/web and score/web; fit one of them"):
        build_dataset(both, False, ["loss/web", "score/web"])
    only = RunTable(both.frame.drop(columns=list(noisy_table.targets)))
    assert build_dataset(only, False, None).columns == ("score/web",)


def test_the_weight_of_a_target_needs_the_right_prefix(scored):
    with pytest.raises(InputError, match="target 'loss/web' was not fitted"):
        scored[2].mean_objective({"loss/web": 1})
