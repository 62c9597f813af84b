from dataclasses import replace

import numpy as np
import pytest

from mixscale.config import Design
from mixscale.errors import InputError
from mixscale.launch import show_plan
from mixscale.mixture import Mixture
from mixscale.mixtures.designs import draw
from mixscale.mixtures.schedule import Constant
from mixscale.sweeps.plan import cost_table, plan, plan_verification

NATURAL = Mixture({"a": 0.6, "b": 0.3, "c": 0.1})


def test_a_design_has_the_requested_number_of_distinct_mixtures():
    drawn = draw(Design(dirichlet=10, sobol=5, held_out=6), NATURAL)
    origins = [d.origin for d in drawn if d.role == "fit"]
    assert {o: origins.count(o) for o in origins} == {
        "vertex": 3, "centre": 1, "natural": 1, "sobol": 5, "dirichlet": 10,
    }  # fmt: skip
    assert sum(d.role == "held_out" for d in drawn) == 6
    assert len({d.mixture for d in drawn}) == len(drawn)


def test_weights_are_whole_ten_thousandths():
    for d in draw(Design(dirichlet=30, sobol=9), NATURAL):
        units_K = d.mixture.array() * 10_000
        assert np.abs(units_K - units_K.round()).max() < 1e-6


def test_a_larger_design_keeps_the_mixtures_of_a_smaller_one():
    few, many = draw(Design(dirichlet=5), NATURAL), draw(Design(dirichlet=9), NATURAL)
    assert {d.mixture for d in few} < {d.mixture for d in many}


def test_draws_centre_on_the_prior():
    drawn = draw(Design(dirichlet=400, vertices=False, centre=False, natural=False, temperature=1.0), NATURAL)
    mean_K = np.mean([d.mixture.array() for d in drawn if d.role == "fit"], axis=0)
    assert mean_K == pytest.approx(NATURAL.array(), abs=0.05)


def test_an_empty_design_is_refused():
    with pytest.raises(InputError, match="no mixture to fit"):
        draw(Design(dirichlet=0, vertices=False, centre=False, natural=False), NATURAL)


def test_a_design_with_nothing_to_draw_is_refused_and_does_not_hang():
    with pytest.raises(InputError, match="1 domains"):
        draw(Design(), Mixture({"a": 1.0}))


def test_a_plan_has_held_out_mixtures_and_replicates_of_fitted_ones(small, store):
    planned = plan(small, store)
    assert len({p.run.id for p in planned}) == len(planned)
    seeds = {}
    for p in planned:
        seeds.setdefault((p.run.mixture, p.role), set()).add(p.run.seed)
    repeated = [key for key, found in seeds.items() if len(found) > 1]
    assert len(repeated) == small.design.replicates
    assert all(role == "fit" for _, role in repeated)


def test_verification_trains_coinciding_mixtures_once(small, store):
    uniform = Mixture.uniform(store.domains)
    planned = plan_verification(small, store, optimum=Mixture.vertex(store.domains, "code"), best=uniform)
    assert sorted({p.origin for p in planned}) == ["natural", "optimum", "uniform+best"]
    assert len(planned) == 3 * len(small.verify.seeds)


def test_the_plan_shows_every_run_and_the_number_of_verification_runs(small, store, capsys):
    show_plan(small)
    shown = capsys.readouterr().out
    planned = plan(small, store)
    assert all(p.run.id in shown for p in planned)
    assert f"\n{len(planned)} runs" in shown
    assert f"{4 * len(small.verify.seeds)} " in shown


def test_a_runs_id_depends_on_everything_that_changes_its_results(small, store):
    runs = [plan(small, store)[0].run]
    runs.append(replace(runs[0], seed=7))
    runs.append(replace(runs[0], train=replace(runs[0].train, batch=4)))
    runs.append(replace(runs[0], optimizer=replace(runs[0].optimizer, clip=2.0)))
    runs.append(replace(runs[0], schedule=Constant(Mixture({"code": 0.5, "fiction": 0.5, "romance": 0.0}))))
    assert len({r.id for r in runs}) == len(runs)
    shuffled = Mixture({"romance": 0.0, "fiction": 0.5, "code": 0.5})
    assert replace(runs[0], schedule=Constant(shuffled)).id == runs[-1].id


def test_the_plan_predicts_tokens_epochs_and_flops(small, store):
    costs = cost_table(small, store, plan(small, store))
    assert (costs["D"] == small.train.tokens).all()
    for domain in store.domains:
        expected = costs[f"mix/{domain}"] * small.train.tokens / store.unique_tokens[domain]
        assert costs[f"epochs/{domain}"].tolist() == pytest.approx(expected.tolist())
    assert (costs["flops"] > 6 * costs["N"] * costs["D"]).all()
