"""Texts that `mixscale generate` writes, of a run and of its export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mixscale.cli import main
from mixscale.config import Experiment, to_json
from mixscale.data import TokenStore
from mixscale.mixture import Mixture
from mixscale.mixtures.schedule import Constant
from mixscale.sweeps.directory import write_json
from mixscale.training import Progress, Run, Trainer, train_run

PROMPTS = ["def main", "It was"]


def quiet(progress: Progress) -> None:
    """Ignores reports."""


@pytest.fixture(scope="module")
def folder(small: Experiment, store: TokenStore, tmp_path_factory) -> Path:
    """A trained run's folder."""
    train = replace(small.train, tokens=small.train.tokens // 4)
    mixture = Mixture(dict.fromkeys(store.domains, 1 / 3))
    run = Run(Constant(mixture), "tiny", small.models["tiny"], small.optimizer, train, 1, store.id)
    folder = tmp_path_factory.mktemp("runs") / run.id
    train_run(Trainer(run, store, small.corpus.seed, small.machine), run, folder, quiet)
    write_json(folder / "config.json", {"id": run.id, "run": to_json(run.config), "experiment": to_json(small)})
    return folder


def generated(capsys, folder: Path, *options: str, prompts=PROMPTS) -> str:
    assert main(["generate", str(folder), "--prompt", *prompts, *options]) == 0
    return capsys.readouterr().out


def test_a_run_and_its_export_write_the_same_texts(folder, tmp_path, capsys):
    assert main(["export-model", str(folder), "--out", str(tmp_path / "hf")]) == 0
    capsys.readouterr()
    for options in (["--tokens", "9", "--no-stop"], ["--temperature", "0", "--tokens", "9"]):
        shown = generated(capsys, folder, *options)
        assert shown == generated(capsys, tmp_path / "hf", *options) == generated(capsys, folder, *options)
        for prompt in PROMPTS:
            assert f" ---\n{prompt}\n--- continuation" in shown
    assert "9 tokens" in generated(capsys, folder, "--tokens", "9", "--no-stop")


def test_a_text_ends_where_the_context_is_full(folder, capsys):
    # 32 tokens of context: one that begins a document, eight of the prompt, and a 24th that is only an output.
    assert "24 tokens; context of 32 is full" in generated(capsys, folder, "--no-stop", prompts=["def main"])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--prompt", "It was", ""], "a prompt is empty; give the beginning of a text with --prompt"),
        (["--prompt", "ok", 32 * "a"], "prompt 2 has 33 tokens, and the context of the model is 32; give a shorter"),
        (["--prompt", "a", "--temperature", "-1"], "--temperature is -1; give 0 for"),
        (["--prompt", "a", "--temperature", "nan"], "--temperature is nan; give 0 for"),
        (["--prompt", "a", "--top-p", "0"], "--top-p is 0; give a probability above 0 and at most 1"),
        (["--prompt", "a", "--top-p", "1.5"], "--top-p is 1.5; give a probability above 0 and at most 1"),
        (["--prompt", "a", "--tokens", "0"], "--tokens is 0; give at least 1"),
    ],
)
def test_impossible_options_are_sentences(options, sentence, folder, capsys):
    assert main(["generate", str(folder), *options]) == 2
    assert f"error: {sentence}" in capsys.readouterr().err


def test_a_folder_that_is_neither_names_both(tmp_path, capsys):
    assert main(["generate", str(tmp_path), "--prompt", "a"]) == 2
    assert "has no config.json; give DIR/runs/ID" in capsys.readouterr().err
