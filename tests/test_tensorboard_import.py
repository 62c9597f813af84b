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


def write(folder, *rows, **options):
    """An event file with (step, tag, value) in this order; the config gives all to one domain."""
    from tensorboardX import SummaryWriter

    if not (folder / "config.json").exists():
        by_config(folder, web=1)
    with SummaryWriter(str(folder), **options) as writer:
        for step, tag, value in rows:
            writer.add_scalar(tag, value, step)
    [*_, last] = sorted(folder.glob("*tfevents*"), key=lambda f: f.stat().st_mtime_ns)
    last.rename(last.with_name(f"events.out.tfevents.{len([*folder.glob('*tfevents*')])}.host"))


def evaluated(*steps, target="web"):
    return [(step, f"eval/{target}/loss", 4 - step / 500) for step in steps]


def counted(*steps):
    return [(step, "tokens", 1000 * step) for step in steps]


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


@pytest.mark.parametrize("options", [{}, {"purge_step": 150}])
def test_a_restart_cuts_the_timeline_of_all_tags(tmp_path, options):
    write(tmp_path / "a", *evaluated(100, 200, 300), *counted(100, 200, 300))
    write(tmp_path / "b", *evaluated(100, 200, 300), *counted(100, 200, 300))
    write(tmp_path / "b", *counted(150, 180), **options)
    table = importers.tensorboard(tmp_path, TAGS)
    assert list(table.frame["step"]) == [300, 100]
    assert list(table.frame["n_tokens"]) == [300_000, 100_000]
    assert any("b was restarted at step 150; the 4 values" in note for note in table.notes)
    assert any("1 of 2 runs end before the last step, 300: b" in note for note in table.notes)


def test_steps_that_go_back_in_one_file_are_a_restart(tmp_path):
    write(tmp_path / "a", *counted(100, 200, 300), *evaluated(100, 200, 300), *counted(250))
    table = importers.tensorboard(tmp_path, TAGS, every_step=True)
    assert list(table.frame["step"]) == [100, 200]
    assert any("restarted at step 250; the 2 values" in note for note in table.notes)


def test_writers_side_by_side_are_no_restart(tmp_path):
    write(tmp_path / "a", *evaluated(100, 200, 300))
    write(tmp_path / "a", *counted(*range(10, 310, 10)))  # a file of other tags
    table = importers.tensorboard(tmp_path, TAGS)
    assert list(table.frame["n_tokens"]) == [300_000]
    assert not any("restarted" in note or "writers" in note for note in table.notes)


def test_values_from_before_a_row_are_noted(tmp_path):
    write(tmp_path / "a", *evaluated(100, 200), *counted(100, 190))
    table = importers.tensorboard(tmp_path, TAGS)
    assert list(table.frame["n_tokens"]) == [190_000]
    assert any("tokens was not logged" in n and "at step 200 the value of step 190" in n for n in table.notes)
    write(tmp_path / "b", *evaluated(100, 200), *evaluated(103, 203, target="code"), *counted(103, 203))
    table = importers.tensorboard(tmp_path / "b", TAGS)
    assert list(table.frame["step"]) == [203]
    assert any("different steps" in note and "eval/web/loss at 200" in note for note in table.notes)


@pytest.mark.parametrize("end", [float("nan"), float("inf")])
def test_a_run_that_ends_in_a_loss_that_is_not_finite_diverged(tmp_path, end):
    write(tmp_path / "whole", *evaluated(100, 200, 300))
    write(tmp_path / "bad", *evaluated(100, 200), (300, "eval/web/loss", end))
    write(tmp_path / "train", *evaluated(100, 200), (240, "train/loss", 3.0), (250, "train/loss", end))
    write(tmp_path / "between", *evaluated(100), (200, "eval/web/loss", end), *evaluated(300))
    write(tmp_path / "again", *evaluated(100), (200, "eval/web/loss", end))
    write(tmp_path / "again", *evaluated(150, 300))
    for every_step, complete in ((False, [300, 300, 300]), (True, [100, 150, 300, 100, 300, 100, 200, 300])):
        table = importers.tensorboard(tmp_path, Columns(mix=TAGS.mix, loss=TAGS.loss), every_step=every_step)
        lost = table.frame[table.frame["status"] == "diverged"]
        assert list(zip(lost["run"], lost["step"], strict=True)) == [("bad", 300), ("train", 200)]
        assert list(table.complete().frame["step"]) == complete
        assert any("2 of 5 runs" in note and "not fitted: bad, train" in note for note in table.notes)
        assert any("left out: between (1)" in note for note in table.notes)


def test_links_are_followed_and_circles_refused(tmp_path):
    logs = tmp_path / "logs"
    write(logs / "a", *evaluated(100))
    write(tmp_path / "elsewhere" / "job", *evaluated(100))
    (logs / "b").symlink_to(tmp_path / "elsewhere" / "job")
    write(tmp_path / "c", *evaluated(100))
    (logs / "c").mkdir()
    for file in (tmp_path / "c").iterdir():
        (logs / "c" / file.name).symlink_to(file)
    (logs / "0").symlink_to("a")  # the same run once more, under a name that sorts before
    (logs / "lost").symlink_to("nowhere")
    table = importers.tensorboard(logs, Columns(mix=TAGS.mix, loss=TAGS.loss))
    assert list(table.frame["run"]) == ["a", "b", "c"]
    assert any("0 and " in note and "one folder" in note for note in table.notes)
    assert any("lost leads nowhere" in note for note in table.notes)
    (logs / "0").unlink()
    for target in (".", "..", tmp_path):
        (logs / "a" / "up").symlink_to(target)
        with pytest.raises(InputError, match="link '.*logs/a/up' leads to .* contains itself"):
            importers.tensorboard(logs, TAGS)
        (logs / "a" / "up").unlink()


def test_folders_of_hyperparameters_belong_to_their_run(tmp_path):
    from tensorboardX import SummaryWriter

    columns = Columns(mix="config.mix.", loss="eval/{target}/loss")
    for name, weight in (("a", 0.25), ("b", 0.5)):
        mixture = [{"name": "no", "weight": weight}, {"name": "de", "weight": 1 - weight}]
        with SummaryWriter(str(tmp_path / "runs" / name)) as writer:
            writer.add_scalar("eval/no/loss", 3.5, 100)
            writer.add_hparams({"mix": json.dumps(mixture)}, {"eval/no/loss": 3.25})
    table = importers.tensorboard(tmp_path / "runs", columns)
    assert list(table.frame["run"]) == ["a", "b"]
    assert table.mixture("b") == Mixture({"no": 0.5, "de": 0.5})
    assert set(table.losses("no")) == {3.5}
    assert any("2 folders of hyperparameters belong to the run above" in note for note in table.notes)
    with SummaryWriter(str(tmp_path / "alone")) as writer:  # runs without scalars of their own above them
        for i in range(2):
            writer.add_hparams({"mix": json.dumps({"no": 1.0})}, {"eval/no/loss": 3.0 + i}, name=f"170000000{i}.5")
    table = importers.tensorboard(tmp_path / "alone", columns)
    assert list(table.frame["run"]) == ["1700000000.5", "1700000001.5"]


def test_a_config_may_be_a_text_in_the_logs(tmp_path):
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(tmp_path / "a")) as writer:
        writer.add_scalar("eval/no/loss", 3.5, 100)
        writer.add_text("args", json.dumps({"mix": {"no": 0.25, "de": 0.75}}))
        writer.add_text("about", "words")
    table = importers.tensorboard(tmp_path, Columns(mix="config.args.mix.", loss="eval/{target}/loss"))
    assert table.mixture("a") == Mixture({"no": 0.25, "de": 0.75})


def test_names_in_configs_are_their_text(tmp_path):
    write_logs(tmp_path, [10])
    columns = Columns(mix="config.mix", loss="eval/{target}/loss")
    (tmp_path / "config.yaml").write_text("mix: {no: 0.25, on: 2.5e-1, 010: .5}")
    assert importers.tensorboard(tmp_path, columns, config="config.yaml").domains == ("no", "on", "010")
    (tmp_path / "config.yaml").write_text("mix: {no: 0.25, on: 0.25, no: 0.5}")
    with pytest.raises(InputError, match="config.yaml': 'no' occurs twice"):
        importers.tensorboard(tmp_path, columns, config="config.yaml")
    with pytest.raises(InputError, match="no run has a file 'config.json'.*--config.*did you mean 'config.yaml'"):
        importers.tensorboard(tmp_path, columns)


def test_files_that_are_no_event_files_are_noted(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "events.out.tfevents.9").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(InputError, match="no scalar in .* is a target.*not an event file"):
        importers.tensorboard(tmp_path)
    write(tmp_path / "a", *evaluated(100))
    table = importers.tensorboard(tmp_path, Columns(mix=TAGS.mix, loss=TAGS.loss))
    assert list(table.frame["run"]) == ["a"]
    assert any("tfevents.9 is not an event file" in note for note in table.notes)


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
