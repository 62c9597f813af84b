"""The run table keeps what it is given bit for bit, and refuses what it cannot understand in a sentence."""

import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest

from mixscale.errors import InputError
from mixscale.io import atomic_write
from mixscale.mixture import Mixture
from mixscale.objective import sign_of
from mixscale.run_table import RunTable


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    h_RxK = rng.dirichlet(np.ones(3), 6)
    return pd.DataFrame(
        {
            "run": ["007", "NA", "a", "b", "c", "d"],
            "seed": np.arange(6),
            "n_tokens": np.arange(6) * 1000 + 1000,
            "mix/code": h_RxK[:, 0],
            "mix/wiki": h_RxK[:, 1],
            "mix/web": h_RxK[:, 2],
            "epochs/code": rng.random(6),
            "loss/code": rng.random(6) + 1 / 3,
            "metric/bpb": rng.random(6),
            "status": ["complete", "diverged", "complete", None, "stopped", "complete"],
            "role": ["fit", "fit", "held_out", "fit", "fit", "verify"],
            "origin": ["vertex+centre", None, "dirichlet", "dirichlet", "best", "uniform"],
        }
    )


@pytest.mark.parametrize("name", ["runs.csv", "runs.parquet"])
def test_round_trip_is_exact(frame, tmp_path, name):
    frame.loc[1, "loss/code"] = np.nan
    table = RunTable(frame)
    table.write(tmp_path / name)
    for place in (tmp_path / name, tmp_path):
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what pandas deprecates today it refuses tomorrow
            back = RunTable.read(place)
        pd.testing.assert_frame_equal(back.frame, table.frame, check_exact=True)
        np.testing.assert_array_equal(back.mixtures_RxK, table.mixtures_RxK)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_byte_order_mark_is_ignored(frame, tmp_path):
    frame.to_csv(tmp_path / "runs.csv", index=False, encoding="utf-8-sig")
    pd.testing.assert_frame_equal(
        RunTable.read(tmp_path / "runs.csv").frame, RunTable(frame).frame, check_exact=True, check_dtype=False
    )


def test_failed_write_leaves_the_old_table(frame, tmp_path, monkeypatch):
    file = tmp_path / "runs.csv"
    RunTable(frame).write(file)
    before = file.read_bytes()

    def full_disk(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        RunTable(frame.iloc[:2]).write(file)
    assert file.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_atomic_write_writes_all_or_nothing(tmp_path):
    file = tmp_path / "new" / "note.txt"
    with atomic_write(file) as temporary:
        temporary.write_text("first")
        assert (temporary.parent, temporary.suffix) == (file.parent, file.suffix)
        assert not file.exists()

    def killed():
        with atomic_write(file) as temporary:
            temporary.write_text("sec")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    assert file.read_text() == "first"
    assert list(file.parent.iterdir()) == [file]


def test_paths_that_cannot_be_written_are_input_errors(frame, tmp_path):
    (tmp_path / "runs.csv").mkdir()
    with pytest.raises(InputError, match="runs.csv' is a folder; give the name of a file"):
        RunTable(frame).write(tmp_path / "runs.csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="'.*file' is a file"):
        RunTable(frame).write(tmp_path / "file" / "below" / "runs.csv")


def test_columns_are_looked_up_by_name(frame):
    table = RunTable(frame)
    assert table.domains == ("code", "wiki", "web")
    assert table.targets == ("loss/code", "metric/bpb")
    turned = RunTable(frame[frame.columns[::-1]])
    assert table.mixture("a") == Mixture(dict(zip(table.domains, table.mixtures_RxK[2], strict=True)))
    assert turned.mixture("a").distance(table.mixture("a")) < 1e-15
    np.testing.assert_array_equal(table.losses("code"), table.losses("loss/code"))


def test_final_takes_the_last_measurement_of_each_run(frame):
    early = frame.assign(n_tokens=frame["n_tokens"] - 500, **{"loss/code": 9.0})
    table = RunTable(pd.concat([frame, early]))
    final = table.final()
    assert len(final) == 6
    assert (final.losses("code") < 9).all()
    assert list(final.frame["run"]) == list(frame["run"])


def test_complete_drops_diverged_and_stopped_and_keeps_rows_without_status(frame):
    assert list(RunTable(frame).complete().frame["run"]) == ["007", "a", "b", "d"]
    assert len(RunTable(frame.drop(columns="status")).complete()) == 6


def test_rounded_weights_are_normalized_with_a_note(frame):
    frame.loc[0, ["mix/code", "mix/wiki", "mix/web"]] = [0.334, 0.333, 0.336]
    table = RunTable(frame)
    np.testing.assert_allclose(table.mixtures_RxK.sum(axis=1), 1, atol=1e-12)
    assert len(table.notes) == 1
    assert "1 of 6 rows" in table.notes[0]
    again = RunTable(table.frame)
    assert again.notes == []
    np.testing.assert_array_equal(again.mixtures_RxK, table.mixtures_RxK)


def test_scores_are_targets_after_losses_and_metrics(frame):
    scored = frame.rename(columns={"epochs/code": "score/qa"})  # a column before the losses
    table = RunTable(scored.assign(**{"score/qa": [f"{v:.3f}" for v in scored["score/qa"]]}))
    assert table.targets == ("loss/code", "metric/bpb", "score/qa")
    assert table.column_of("qa") == "score/qa"
    assert table.losses("qa").dtype == np.float64
    assert [sign_of(t) for t in table.targets] == [1, 1, -1]
    with pytest.raises(InputError, match="run '007' is complete but has score/qa = nan"):
        RunTable(scored.assign(**{"score/qa": np.nan}))


def test_a_copied_run_is_noted(frame):
    copied = frame.copy()
    copied.loc[5, frame.columns[3:9]] = frame.loc[2, frame.columns[3:9]]
    assert RunTable(copied).notes == []  # of another token count
    copied.loc[5, "n_tokens"] = frame.loc[2, "n_tokens"]
    assert any("'a' and 'd'" in note for note in RunTable(copied).notes)
    copied.loc[5, "metric/bpb"] += 1e-9
    assert RunTable(copied).notes == []
    stands_still = frame.assign(run="a", **{c: frame.loc[0, c] for c in frame.columns[3:9]})
    assert RunTable(stands_still).notes == []  # one run that measures the same at every step


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f.rename(columns={"run": "Run_id"}), "no column 'run'.*did you mean 'Run_id'"),
        (lambda f: f.drop(columns=["mix/code", "mix/wiki", "mix/web"]), "no column 'mix/<domain>'.*'mix/web'"),
        (lambda f: f.drop(columns=["loss/code", "metric/bpb"]), "no column 'loss/<target>'"),
        (lambda f: f.iloc[:0], "no rows"),
        (lambda f: f.assign(**{"loss/code": [np.nan] + [1.0] * 5}), "run '007'.*loss/code = nan.*diverged"),
        (lambda f: f.assign(**{"loss/code": [1.0] * 5 + [np.inf]}), "run 'd'.*loss/code = inf"),
        (lambda f: f.assign(**{"mix/code": -0.1}), "run '007' has mix/code = -0.1.*not negative"),
        (lambda f: f.assign(**{"mix/web": np.nan}), "run '007' has mix/web = nan"),
        (
            lambda f: f.assign(**{"mix/code": 0.6, "mix/wiki": 0.3, "mix/web": 0.3}),
            r"run '007' \(6 such rows\): .*sum to 1.2;.*Normalized they are: code=0.5, wiki=0.25, web=0.25",
        ),
        (lambda f: f.assign(**{"mix/code": 0.0, "mix/wiki": 0.0, "mix/web": 0.0}), "run '007'.*are zero"),
        (
            lambda f: f.assign(**{"mix/code": 0.5, "mix/wiki": 0.3, "mix/web": 0.2}).drop(columns="mix/web"),
            r"run '007' \(6 such rows\).*sum to 0.8.*column 'mix/<domain>' with the remaining 0.2 is missing",
        ),
        (
            lambda f: f.assign(**{"mix/code": 50, "mix/wiki": 30, "mix/web": 20}),
            "sum to 100;.*look like percentages: divide them by 100.*mixscale import csv.*--normalize",
        ),
        (
            lambda f: f.assign(**{"mix/code": 5e9, "mix/wiki": 3e9, "mix/web": 2e9}),
            "token counts or relative weights, `mixscale import csv",
        ),
        (lambda f: pd.concat([f, f.iloc[:1]]), "duplicate runs: '007' at n_tokens 1000"),
        (lambda f: f.assign(run="x"), "run 'x' has several mixtures"),
        (lambda f: f.assign(**{"loss/code": "low"}), "column 'loss/code' has 'low'"),
        (lambda f: f.assign(status="done"), "run '007' has status 'done'"),
        (lambda f: f.assign(**{"loss/code": [*"12345", "1_0"]}), "column 'loss/code' has '1_0'"),
        (lambda f: f.assign(run=[None, *"abcde"]), "row 0 has no run name"),
        (lambda f: f.assign(run=["a", "b", " ", *"cde"]), "row 2 has no run name"),
    ],
)
def test_bad_tables_are_input_errors(frame, spoil, message):
    with pytest.raises(InputError, match=message):
        RunTable(spoil(frame))


def test_files_that_cannot_be_read_are_input_errors(frame, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        RunTable.read(tmp_path / "none.csv")
    with pytest.raises(InputError, match="neither runs.parquet nor runs.csv"):
        RunTable.read(tmp_path)
    for name in ("bad.parquet", "bad.csv"):
        (tmp_path / name).write_bytes(b"\x00\xff\xfe not a table")
        with pytest.raises(InputError, match=name):
            RunTable.read(tmp_path / name)
    frame.assign(run=["", *"abcde"]).to_csv(tmp_path / "blank.csv", index=False)
    with pytest.raises(InputError, match="row 0 has no run name"):
        RunTable.read(tmp_path / "blank.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(InputError, match="cannot be read"):
        RunTable.read(tmp_path / "empty.csv")
    with pytest.raises(InputError, match="suffix '.xlsx'"):
        RunTable(frame).write(tmp_path / "runs.xlsx")
    with pytest.raises(InputError, match="target 'coed'.*did you mean"):
        RunTable(frame).losses("coed")
    with pytest.raises(InputError, match="run 'zz' is not in the table"):
        RunTable(frame).mixture("zz")


def test_importing_the_table_needs_no_jax():
    code = "import sys, mixscale.run_table; sys.exit(any(m in sys.modules for m in ('jax', 'scipy', 'flax')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
