"""The options of `mixscale optimize`, and its errors."""

import json

import pandas as pd
import pytest

from mixscale.cli import main


@pytest.fixture(scope="module")
def folder(fits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("command")
    fits["effective"].save(folder / "fit")
    return folder


def test_the_command_accepts_every_constraint(folder, capsys):
    (folder / "prior.json").write_text(json.dumps({"code": 0.2, "web": 0.3, "wiki": 0.3, "news": 0.2}))
    pd.DataFrame({"mix/code": [0.25], "mix/web": [0.25], "mix/wiki": [0.25], "mix/news": [0.25]}).to_csv(
        folder / "now.csv", index=False
    )
    typed = (
        "--fixed news 0.1 --groups text=web+wiki:0.3:0.7 --available code 3e9 --epochs 5 --n-tokens 5e10 "
        f"--keep web 0.05 --current {folder / 'now.csv'} --prior {folder / 'prior.json'} --max-kl 0.3 "
        "--max-tv 0.4 --weights code 2 web 1 --pareto code web --points 3"
    )
    assert main(["optimize", str(folder / "fit"), *typed.split()]) == 0
    printed = capsys.readouterr().out
    solved = json.loads((folder / "optimum.json").read_text())
    assert solved["mixture"]["news"] == pytest.approx(0.1)
    assert solved["mixture"]["code"] <= 0.3 + 1e-9
    for text in ("Dual values (shadow prices)", "unconstrained", "current", "Expected regret", "Gain over"):
        assert text in printed
    front = pd.read_csv(folder / "pareto.csv")
    assert len(front) == 3
    assert front["mix/news"].tolist() == pytest.approx([0.1] * 3)
    worst = ["optimize", str(folder / "fit"), "--kind", "worst", "--current", "code", "1", "--relative-to", "current"]
    assert main([*worst, "--out", str(folder / "other.json"), "--pareto", "web", "wiki", "--points", "2"]) == 0
    assert "objective: worst loss above current\n" in capsys.readouterr().out
    assert len(pd.read_csv(folder / "other.pareto.csv")) == 2
    assert len(pd.read_csv(folder / "pareto.csv")) == 3  # an optimum replaces only its own front
    assert main(worst) == 0
    assert not (folder / "pareto.csv").exists()
    assert (folder / "other.pareto.csv").exists()
    assert main(["optimize", str(folder / "fit"), "--fixed", "code", "0.9", "--lower", "web", "0.2"]) == 2
    assert "no mixture satisfies all of" in capsys.readouterr().err
