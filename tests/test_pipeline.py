"""The main job through the real command, on text that is small but real."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mixscale.cli import main
from mixscale.cli.arguments import load_config
from mixscale.config import Constraints, Corpus, Design, Embedded, Experiment, Model, Train
from mixscale.errors import InputError
from mixscale.laws import LawFit, fit
from mixscale.optimization import Optimum
from mixscale.pipeline import run_all, solve
from mixscale.run_table import RunTable


@pytest.fixture(scope="module")
def finished(small: Experiment, tmp_path_factory) -> Path:
    """The folder of an experiment that `mixscale run` has carried out."""
    folder = tmp_path_factory.mktemp("finished")
    experiment = replace(small, output=str(folder), law="effective", design=Design(dirichlet=8, held_out=3))
    config = folder / "small.py"
    config.write_text(f"from mixscale.config import *\nexperiment = {experiment!r}\n")
    assert main(["run", str(config)]) == 0
    return folder / "small"


def test_the_result_has_optimum_and_verification(finished, small, store):
    result = json.loads((finished / "result.json").read_text())
    assert result["law"] == "effective"
    assert sum(result["optimum"].values()) == pytest.approx(1.0, abs=1e-6)
    for domain, (low, high) in result["optimum_interval"].items():
        assert 0 <= low <= high <= 1, domain
    for name, candidate in result["candidates"].items():
        assert set(candidate["objective"]["observed"]) == {str(s) for s in small.verify.seeds}, name
    assert result["held_out"]["runs"] == 3
    assert result["noise"]["sd"] > 0


def test_observed_losses_are_those_of_the_table(finished):
    result = json.loads((finished / "result.json").read_text())
    frame = RunTable.read(finished).frame
    rows = frame[(frame["role"] == "verify") & frame["origin"].str.split("+").map(lambda o: "optimum" in o)]
    means = rows.set_index("seed").filter(like="loss/").mean(axis=1)
    for seed, loss in result["candidates"]["optimum"]["objective"]["observed"].items():
        assert loss == pytest.approx(means[int(seed)], rel=1e-12)


def test_the_report_and_its_figures_are_written(finished, store):
    page = (finished / "report.html").read_text()
    assert all(domain in page for domain in store.domains)
    assert store.id in page
    assert len(list((finished / "figures").glob("*.png"))) == len(list((finished / "figures").glob("*.pdf"))) >= 6


def test_every_run_keeps_its_config_and_id(finished):
    for run in set(RunTable.read(finished).frame["run"]):
        about = json.loads((finished / "runs" / run / "config.json").read_text())
        assert about["id"] == run
        assert about["experiment"]["name"] == "small"


def test_realized_tokens_match_the_mixture(finished, store):
    frame = RunTable.read(finished).frame
    for domain in store.domains:
        planned = frame[f"mix/{domain}"] * frame["n_tokens"]
        assert ((frame[f"tokens/{domain}"] - planned).abs() < store.context).all()


def test_a_rerun_trains_nothing_and_gives_the_same_result(finished):
    before = pd.read_csv(finished / "runs.csv", dtype=str)
    result = json.loads((finished / "result.json").read_text())
    assert main(["run", str(finished.parent / "small.py")]) == 0
    pd.testing.assert_frame_equal(pd.read_csv(finished / "runs.csv", dtype=str), before)
    assert json.loads((finished / "result.json").read_text()) == result


ALL = {
    "weights": "--objective.weights web 2 code 1 books 1",
    "robust worst": "--objective.kind worst --objective.relative-to current --objective.robust quantile"
    " --objective.level 0.8",
    "guardrails": "--objective.kind guardrails --objective.guardrails books 3",
    "constraints": "--constraints.lower web 0.1 --constraints.upper code 0.5 --constraints.keep web books 0.05"
    " --constraints.groups text=web+books:0.3:0.9 --constraints.available code 1e5 --constraints.epochs 3"
    " --constraints.prior web 0.5 code 0.3 books 0.2 --constraints.max-kl 0.3 --constraints.max-tv 0.4"
    " --constraints.kl-weight 0.01",
    "fixed and tied": "--constraints.fixed books 0.1 --constraints.groups text=web+code:tied",
}
CURRENT = "--current web 0.4 code 0.4 books 0.2"
TOKENS = 600_000


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> tuple[Experiment, RunTable, LawFit, Path]:
    """An experiment over three domains, a table as its sweep would give, and the fit of it."""
    rng = np.random.default_rng(3)
    h_RxK = rng.dirichlet(np.ones(3), 30)
    frame = pd.DataFrame(h_RxK, columns=["mix/web", "mix/code", "mix/books"])
    frame = frame.assign(run=[f"r{i}" for i in range(30)], role="fit", size="tiny", n_params=1e5, n_tokens=TOKENS)
    for k, target in enumerate(("web", "code", "books")):
        frame[f"loss/{target}"] = 2 + np.exp(-2 * h_RxK[:, k]) + rng.normal(0, 0.003, 30)
    table, folder = RunTable(frame), tmp_path_factory.mktemp("planted")
    fitted = fit(table, law="exponential", bootstrap=30)
    fitted.save(folder / "fit")
    domains = {name: Embedded("wiki") for name in ("web", "code", "books")}
    return Experiment("planted", Corpus(domains), {"tiny": Model()}), table, fitted, folder


@pytest.mark.parametrize("case", ALL)
def test_run_and_optimize_solve_the_same_problem_alike(case, planted):
    experiment, table, fitted, folder = planted
    config = folder / "config.py"
    config.write_text(f"from mixscale.config import *\nexperiment = {experiment!r}\n")
    experiment = load_config("run", "", [str(config), *ALL[case].split(), *CURRENT.split()])
    by_run = solve(experiment, table, fitted)
    typed = re.sub(r"--(objective|constraints)\.", "--", ALL[case]).split()
    tokens = ["--n-tokens", str(TOKENS)] if experiment.constraints.available else []
    out = folder / "optimum.json"
    assert main(["optimize", str(folder / "fit"), *typed, *CURRENT.split(), *tokens, "--out", str(out)]) == 0
    by_command = Optimum.load(out)
    assert dict(by_command.mixture) == pytest.approx(dict(by_run.mixture), rel=1e-12)
    assert by_command.solved == by_run.solved
    assert by_command.objective == by_run.objective == experiment.objective
    assert by_command.constraints == by_run.constraints == experiment.constraints
    assert any(c.dual_value for c in by_run.solved) == ("--constraints" in ALL[case])


def test_available_tokens_are_those_of_the_target_run(planted):
    experiment, table, fitted, _ = planted
    small = solve(replace(experiment, constraints=Constraints(available={"code": 3e4})), table, fitted)
    large = Constraints(available={"code": 3e7})
    target = solve(replace(experiment, constraints=large, train=Train(like_tokens=1000 * TOKENS)), table, fitted)
    assert small.mixture["code"] == pytest.approx(0.2)
    assert target.mixture == small.mixture


def test_contradicting_constraints_are_named_before_the_corpus_is_built(small):
    impossible = replace(small, constraints=Constraints(fixed={"code": 0.9}, lower={"fiction": 0.2}))
    with pytest.raises(InputError, match="code exactly 90%.*fiction at least 20%|fiction.*code"):
        run_all(impossible)


def test_plan_prints_every_run_and_trains_none(small, tmp_path, capsys):
    config = tmp_path / "small.py"
    config.write_text(f"from mixscale.config import *\nexperiment = {replace(small, output=str(tmp_path))!r}\n")
    assert main(["plan", str(config)]) == 0
    output = capsys.readouterr().out
    assert "12 runs" in output
    assert not (tmp_path / "small").exists()


def test_a_new_design_removes_the_old_verification_from_the_table(finished):
    config = str(finished.parent / "small.py")
    assert main(["sweep", config, "--design.held-out", "2"]) == 0
    assert "verify" not in set(RunTable.read(finished).frame["role"])
