"""Every named experiment, resolved, against its golden text: a changed default shows in review.

A difference that was meant is renewed by `python tests/test_configs.py`, and reviewed like any other change.
"""

import json
from pathlib import Path

import pytest

from mixscale.checks import check
from mixscale.config import load, to_json
from mixscale.models import count_parameters

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))


def golden(config: Path) -> Path:
    return config.parent / "golden" / f"{config.stem}.json"


def resolved(config: Path) -> str:
    return json.dumps(to_json(load(config)), indent=1) + "\n"


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_named_experiment_is_what_was_reviewed(config):
    check(load(config))
    assert resolved(config) == golden(config).read_text("utf-8")


def test_sizes_are_what_they_are_called():
    for config in CONFIGS:
        experiment = load(config)
        for name, model in experiment.models.items():
            scale = {"M": 1e6, "B": 1e9}[name[-1]]
            body, _ = count_parameters(model, vocab=0)
            assert body == pytest.approx(float(name[:-1]) * scale, rel=0.25), (config.stem, name, body)


if __name__ == "__main__":
    for config in CONFIGS:
        golden(config).write_text(resolved(config), "utf-8")
