"""TensorBoard logs become runs, killed and restarted or not, each with its own mixture."""

import json
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from mixscale.cli import main
from mixscale.errors import InputError
from mixscale.interop import importers
from mixscale.interop.importers import Columns
from mixscale.mixture import Mixture
from mixscale.run_table import RunTable


def write_logs(folder, steps, seed=0, **hparams):
    """Event files of a run as training writes them: losses now and then, tokens at every step."""
    from tensorboardX import SummaryWriter

    rng = np.random.default_rng(seed)
    with SummaryWriter(str(folder)) as writer:
        for step in steps:
            writer.add_scalar("tokens", 1000 * step, step)
            if step % 10 == 0:
                for target in ("web", "code"):
                    writer.add_scalar(f"eval/{target}/loss", 3 + rng.random(), step)
        if hparams:
            writer.add_hparams(hparams, {"done": 1.0}, name="hparams")


def by_config(folder, **weights):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"data": {"weights": weights}, "model": {"d": 64}, "tags": [1]}))


TAGS = Columns(mix="config.data.weights.", loss="eval/{target}/loss", rename={"tokens": "n_tokens"})


def test_tensorboard_runs_take_their_mixture_from_the_config_in_their_folder(tmp_path):
    for name, web in (("a", 0.25), ("deep/b", 0.5)):
        by_config(tmp_path / name, web=web, code=1 - web)
        write_logs(tmp_path / name, range(1, 38))
    table = importers.tensorboard(tmp_path, TAGS)
    assert list(table.frame["run"]) == ["a", "deep/b"]
    assert table.mixture("a") == Mixture({"web": 0.25, "code": 0.75})
    assert list(table.frame["step"]) == [30, 30]
    assert list(table.frame["n_tokens"]) == [30_000, 30_000]  # where the loss was measured, not where the run ended
    every = importers.tensorboard(tmp_path, TAGS, every_step=True)
    assert list(every.frame.query("run == 'a'")["step"]) == [10, 20, 30]
    assert every.frame.query("run == 'a'")["loss/web"].iloc[-1] == table.losses("web")[0]


def test_tensorboard_mixtures_come_from_a_table_or_from_hyperparameters(tmp_path):
    write_logs(tmp_path / "x" / "a", [10])
    pd.DataFrame({"run": ["a", "z"], "mix/web": [0.4, 1.0], "mix/code": [0.6, 0.0]}).to_csv(tmp_path / "m.csv")
    columns = Columns(loss="eval/{target}/loss")
    table = importers.tensorboard(tmp_path / "x", columns, mixtures=tmp_path / "m.csv")
    assert table.mixture("a") == Mixture({"web": 0.4, "code": 0.6})
    write_logs(tmp_path / "y" / "a", [10], **{"w_web": 0.3, "w_code": 0.7, "lr": 0.1})
    table = importers.tensorboard(tmp_path / "y", Columns(mix="config.w_", loss="eval/{target}/loss"))
    assert table.mixture("a") == Mixture({"web": 0.3, "code": 0.7})


def test_a_killed_and_restarted_tensorboard_run_is_one_run(tmp_path):
    by_config(tmp_path / "a", web=0.5, code=0.5)
    write_logs(tmp_path / "a", range(10, 60), seed=1)
    [first] = (tmp_path / "a").glob("*tfevents*")
    first.write_bytes(first.read_bytes()[:-7])
    first.rename(first.with_name("events.out.tfevents.1.host"))
    write_logs(tmp_path / "a", range(30, 50), seed=2)
    table = importers.tensorboard(tmp_path, TAGS, every_step=True)
    assert list(table.frame["step"]) == [10, 20, 30, 40]  # 50 of the first life was undone by the second
    assert any("damaged" in note for note in table.notes)
    write_logs(tmp_path / "alone", [30], seed=2)
    again = importers.tensorboard(tmp_path / "alone", Columns(constant={"mix/web": "1"}, loss="eval/{target}/loss"))
    assert table.frame.query("step == 30")["loss/web"].iloc[0] == again.losses("web")[0]


def test_tensorboard_scalars_may_be_tensors(tmp_path):
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import RecordWriter

    event = Event(step=10)
    value = event.summary.value.add(tag="loss/web")
    value.tensor.dtype = 1
    value.tensor.tensor_content = np.float32(2.5).tobytes()
    writer = RecordWriter(str(tmp_path / "events.out.tfevents.1"))
    writer.write(event.SerializeToString())
    writer.close()
    table = importers.tensorboard(tmp_path, Columns(constant={"mix/web": "1"}))
    assert table.losses("web").tolist() == [2.5]


def test_bad_tensorboard_logs_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="no event files"):
        importers.tensorboard(tmp_path)
    write_logs(tmp_path / "a", [10])
    with pytest.raises(InputError, match="no scalar in .* is a target.*eval/web/loss"):
        importers.tensorboard(tmp_path)
    with pytest.raises(InputError, match="config.data.weights"):
        importers.tensorboard(tmp_path, TAGS)
    pd.DataFrame({"run": ["b"], "mix/web": [1.0]}).to_csv(tmp_path / "m.csv")
    with pytest.raises(InputError, match="no mixture of run a"):
        importers.tensorboard(tmp_path, Columns(loss="eval/{target}/loss"), mixtures=tmp_path / "m.csv")


def test_a_config_with_an_alias_that_contains_itself_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("data: &a\n  web: 1\n  again: *a\n")
    write_logs(tmp_path, [10])
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="more than 10000000 characters.*alias"):
            importers.tensorboard(tmp_path, TAGS, config="config.yaml")
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


def test_the_command_imports_tensorboard_logs(tmp_path, capsys):
    by_config(tmp_path / "logs" / "a", web=0.25, code=0.75)
    write_logs(tmp_path / "logs" / "a", [10])
    options = ["--mix", "config.data.weights.", "--loss", "eval/{target}/loss", "--rename", "tokens", "n_tokens"]
    assert main(["import", "tensorboard", str(tmp_path / "logs"), *options, "--out", str(tmp_path / "r.csv")]) == 0
    assert RunTable.read(tmp_path / "r.csv").mixture("a")["web"] == 0.25
