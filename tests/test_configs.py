"""Every named experiment against its golden text, and what happens to a config that cannot work.

A changed default shows in review. `python tests/test_configs.py` renews the golden texts.
"""

from __future__ import annotations

import copy
import json
import pickle
import timeit
from dataclasses import replace
from pathlib import Path

import pytest

from mixscale.cli import main
from mixscale.config import (
    Baselines,
    Constraints,
    Corpus,
    Design,
    Embedded,
    Experiment,
    Jsonl,
    Model,
    Objective,
    Optimizer,
    Train,
    Verify,
    Where,
    load,
    to_json,
)
from mixscale.errors import InputError
from mixscale.mixture import Mixture
from mixscale.models import count_parameters

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))


def golden(config: Path) -> Path:
    return config.parent / "golden" / f"{config.stem}.json"


def resolved(config: Path) -> str:
    return json.dumps(to_json(load(config)), indent=1) + "\n"


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_named_experiment_matches_its_golden_text(config):
    assert resolved(config) == golden(config).read_text("utf-8")


def test_sizes_match_their_names():
    for config in CONFIGS:
        experiment = load(config)
        for name, model in experiment.models.items():
            scale = {"M": 1e6, "B": 1e9}[name[-1]]
            body, _ = count_parameters(model, vocab=0)
            assert body == pytest.approx(float(name[:-1]) * scale, rel=0.25), (config.stem, name, body)


TWO = {name: Embedded(name) for name in ("code", "docs")}
WRONG = {
    "Train(tokns=5)": ["train", "tokns", "'tokens'"],
    "Train(tokens=2.5)": ["train.tokens", "2.5", "whole number"],
    "Train(batch=0)": ["train.batch", "0", "at least 1"],
    "Train(tokens=100, measure_at=(200,))": ["train.measure_at", "200", "100"],
    "Train(dtype='float33')": ["train.dtype", "float33", "'float32'"],
    "Optimizer(learning_rate=float('nan'))": ["optimizer.learning_rate", "nan", "at least 0"],
    "Optimizer(decay=1.5)": ["optimizer.decay", "1.5", "below 1"],
    "Model(heads=3)": ["model.d_model", "64", "6"],
    "Model(kv_heads=3)": ["model.kv_heads", "3", "4"],
    "Design(strength=(8, 1))": ["design.strength", "8", "1"],
    "Design(strength=(8,))": ["design.strength", "2 items"],
    "Design(prior='natual')": ["design.prior", "natual", "'natural'"],
    "Corpus({})": ["corpus.domains", "empty"],
    "Corpus({'web': 'data/web.txt'})": ["corpus.domains of 'web'", "data/web.txt", "TextFiles(...)"],
    "Where('lang', '=', 'en')": ["where.op", "'='", "=="],
    "Where('lang')": ["where", "op"],
}


@pytest.mark.parametrize("written", WRONG)
def test_the_error_of_a_wrong_field_names_its_value_and_the_remedy(written, tmp_path, capsys):
    file = tmp_path / "config.py"
    file.write_text(f"from mixscale.config import *\n\nx = {written}\n")
    assert main(["plan", str(file)]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: config {file}, line 3: ")
    assert all(word in shown for word in WRONG[written]), shown


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 1}, ["seed 1", "design.replicate_seeds"]),
        ({"verify": Verify(seeds=(11, 0))}, ["seed 0", "verify.seeds"]),
        ({"constraints": Constraints(upper={"cod": 0.5})}, ["constraints.upper", "cod", "'code'"]),
        ({"objective": Objective(weights={"doks": 1})}, ["objective.weights", "doks", "'docs'"]),
        ({"current": {"web": 1}}, ["current", "web", "code, docs"]),
        ({"current": {"code": -1}}, ["current", "code", "-1"]),
        ({"baselines": Baselines(scores={"cdoe": 1})}, ["baselines.scores", "cdoe", "'code'"]),
        ({"design": Design(prior="quality")}, ["design.prior", "quality", "baselines.scores"]),
        ({"verify": Verify(baselines=("given",))}, ["verify.baselines", "given", "baselines.weights"]),
        ({"models": {}}, ["models", "empty"]),
        ({"corpus": Corpus({"code": Embedded("code")})}, ["1 domain", "two"]),
        ({"launcher": "slurm"}, ["launcher", "'slurm'", "Slurm(...)"]),
    ],
)
def test_a_contradictory_experiment_is_an_input_error(changes, words):
    works = Experiment("x", Corpus(TWO), {"tiny": Model()})
    with pytest.raises(InputError) as caught:
        replace(works, **changes)
    assert all(word in str(caught.value) for word in words), caught.value


def test_whole_numbers_become_floats_in_float_fields():
    optimizer = Optimizer(learning_rate=1)
    assert type(optimizer.learning_rate) is float
    assert Train(measure_at=[1000]).measure_at == (1000,)
    assert Where("stars", ">", 5).value == 5
    assert type(Where("stars", ">", 5).value) is int
    assert Where("fork", "==", True).value is True


def test_configs_can_be_copied_and_pickled():
    source = Jsonl("web.jsonl", where=(Where("lang", "==", "en"),))
    assert pickle.loads(pickle.dumps(source)) == copy.deepcopy(source) == source


def test_ten_thousand_configs_take_little_time():
    assert min(timeit.repeat(Train, number=1000, repeat=5)) < 0.2  # seconds for 1000


if __name__ == "__main__":
    for config in CONFIGS:
        golden(config).write_text(resolved(config), "utf-8")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Constraints(prior=0.5),
        lambda: Constraints(prior=[0.5, 0.5]),
        lambda: Constraints(keep=3),
        lambda: Constraints(max_kl=float("inf"), prior={"a": 1.0}),
        lambda: Objective(weights={"a": float("inf")}),
        lambda: Objective(kind="guardrails", guardrails={"a": float("inf")}),
        lambda: Optimizer(learning_rate=float("nan")),
        lambda: Mixture(3),
    ],
)
def test_wrong_types_and_infinite_numbers_are_input_errors(make):
    with pytest.raises(InputError):
        make()
