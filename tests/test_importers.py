"""Foreign tables are read by name, and notes tell every change; what is unclear is an error in one sentence."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mixscale.cli import main
from mixscale.errors import InputError
from mixscale.interop import importers
from mixscale.interop.importers import Columns
from mixscale.run_table import RunTable

DATA = Path(__file__).parents[1].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the public run tables are not beside the repository")
PARTS = (("train", "1m"), ("test", "1m"), ("test", "60m"), ("test", "1B"))


def regmix_files(part):
    return DATA / "regmix" / f"{part[0]}_mixture_{part[1]}.csv", DATA / "regmix" / f"{part[0]}_pile_loss_{part[1]}.csv"


@needs_data
def test_regmix_names_are_the_same_at_every_size():
    tables = [importers.regmix(*regmix_files(part)) for part in PARTS]
    assert [len(t) for t in tables] == [512, 256, 256, 64]
    assert len({(t.domains, t.targets) for t in tables}) == 1
    assert (len(tables[0].domains), len(tables[0].targets)) == (17, 13)
    assert {t.removeprefix("loss/") for t in tables[0].targets} < set(tables[0].domains)
    assert any("were normalized" in n for n in tables[0].notes)
    small, large = tables[1], tables[2]
    assert small.mixture("7")["github"] == pytest.approx(0.988 / 0.999)  # as published, then normalized
    np.testing.assert_array_equal(small.mixtures_RxK, large.mixtures_RxK)
    assert small.frame.set_index("run").loc["5", "loss/arxiv"] == 3.706779718399048
    assert large.losses("arxiv").mean() < small.losses("arxiv").mean()


@needs_data
def test_regmix_notes_rows_without_a_partner(tmp_path):
    mixtures, losses = regmix_files(("test", "1B"))
    rows = pd.read_csv(losses).query("index not in (47, 3)").iloc[::-1]  # in another order, too
    rows.to_csv(tmp_path / "losses.csv", index=False)
    whole, table = importers.regmix(mixtures, losses), importers.regmix(mixtures, tmp_path / "losses.csv", 1e9, 25e9)
    assert any("2 of 64 rows of test_mixture_1B.csv" in n and n.endswith("index 3, 47") for n in table.notes)
    assert set(whole.frame["run"]) - set(table.frame["run"]) == {"3", "47"}
    both = whole.frame.merge(table.frame, on="run", suffixes=("", "_"))
    np.testing.assert_array_equal(both["loss/pile_cc"], both["loss/pile_cc_"])
    np.testing.assert_array_equal(both["mix/pile_cc"], both["mix/pile_cc_"])
    assert set(table.frame["n_params"]) == {1e9}
    assert set(table.frame["n_tokens"]) == {25e9}


@needs_data
def test_olmix_metrics_are_better_when_lower_unless_they_are_named():
    files = DATA / "olmix_dclm" / "dclm_ratios.csv", DATA / "olmix_dclm" / "dclm_metrics.csv"
    table = importers.olmix(*files)
    assert (len(table), len(table.domains), len(table.targets)) == (127, 24, 110)
    assert all(t.startswith("metric/") for t in table.targets)
    assert table.mixture("19g3guks")["social_life"] == pytest.approx(0.7)
    assert table.frame.set_index("run").loc["19g3guks", "metric/arc_easy:rc::olmes"] == 1.6064012879257719
    scored = importers.olmix(*files, higher_is_better=["mt_mbpp*", "piqa:rc::olmes"])
    assert sum(t.startswith("score/") for t in scored.targets) == 18
    assert "score/piqa:rc::olmes" in scored.targets
    assert len(scored.targets) == 110


@needs_data
def test_options_import_a_table_with_checkpoints():
    columns = Columns(
        mix="w_", loss="loss_", run=("run_id",), rename={"n_nonemb_params": "n_params", "tokens": "n_tokens"}
    )
    file = DATA / "mixinglaws_3mix" / "3mix.csv"
    with pytest.raises(
        InputError, match=r"28 of 1088 rows lack a value.*loss/Books3 \(28\), loss/Pile-CC \(9\); --drop"
    ):
        importers.csv(file, columns)
    table = importers.csv(file, Columns(**{**vars(columns), "drop_missing": True}))
    assert len(table) == 1060
    assert any("28 of 1088 rows" in n and "loss/Books3 (28)" in n for n in table.notes)
    assert table.domains == ("Github", "Books3", "Pile-CC")
    assert set(table.targets) == {"loss/Books3", "loss/Github", "loss/Pile-CC"}
    first = table.frame.query("run == '160M_13' and step == 500").iloc[0]
    assert (first["n_params"], first["n_tokens"]) == (85056000, 524288000)
    assert (first["mix/Github"], first["loss/Github"]) == (0.25, 6.484406629554656)


@needs_data
def test_sizes_written_with_letters_are_numbers():
    columns = Columns(
        mix="w_", loss="loss_", run=("model_size", "tokens", "mixture_id"),
        rename={"model_size": "n_params", "tokens": "n_tokens"},
    )  # fmt: skip
    table = importers.csv(DATA / "pile4" / "pile4_runs.csv", columns)
    assert table.frame["run"].is_unique
    assert set(table.frame["n_params"]) == {90e6, 200e6, 440e6}
    assert set(table.frame["n_tokens"]) == {n * 1e9 for n in range(3, 9)}
    row = table.frame.set_index("run").loc["200M-3B-5"]
    assert (row["mix/StackExchange"], row["loss/Wikipedia"]) == (pytest.approx(0.6895 / 1.0001), 3.209594)


@needs_data
def test_a_table_without_mixtures_gets_a_single_domain():
    rename = {"name": "run", "params": "n_params", "tokens": "n_tokens", "loss": "loss/c4"}
    rename |= {"unique_tokens": "unique_tokens/c4", "epochs": "epochs/c4"}
    file = DATA / "datablations" / "datablations_runs.csv"
    with pytest.raises(InputError, match="no column 'mix/<domain>'"):
        importers.csv(file, Columns(rename=rename))
    table = importers.csv(file, Columns(rename=rename, constant={"mix/c4": "1"}))
    assert (len(table), table.domains, table.targets) == (296, ("c4",), ("loss/c4",))
    np.testing.assert_allclose(
        table.frame["n_tokens"], table.frame["epochs/c4"] * table.frame["unique_tokens/c4"], rtol=0.01
    )


EXPORT = """\
"Name","State","Notes","ID","Step","seed","config.mix.web","config.mix.code","config.model","eval/web/loss","eval/code/loss","eval/qa/acc"
"007","finished","-","ab1","1000","1","60","40","tiny","3.25","2.5","0.31"
"007","finished","-","ab2","1000","2","60","40","tiny","3.26","2.4","0.32"
"x","crashed","-","ab3","200","1","20","80","tiny","","",""
"y","running","-","ab4","300","1","10","90","tiny","3.9","2.1",""
"""
WANDB = {"mix": "config.mix.", "loss": "eval/{target}/loss", "metric": "eval/{name}/acc", "higher_is_better": ("qa",)}


@pytest.fixture
def export(tmp_path):
    (tmp_path / "export.csv").write_text(EXPORT)
    return tmp_path / "export.csv"


def test_weights_and_biases_runs_keep_their_state(export):
    with pytest.raises(InputError, match=r"run 'ab1'.*\(4 .*100.*percentages.*--normalize"):
        importers.wandb(export, Columns(**WANDB))
    table = importers.wandb(export, Columns(**WANDB, normalize=True))
    assert list(table.frame["run"]) == ["ab1", "ab2", "ab3", "ab4"]
    assert list(table.frame["status"]) == ["complete", "complete", "stopped", "stopped"]
    assert list(table.frame["step"]) == [1000, 1000, 200, 300]
    assert table.targets == ("loss/web", "loss/code", "score/qa")
    assert table.mixture("ab4")["code"] == pytest.approx(0.9)
    np.testing.assert_array_equal(table.losses("qa")[:2], [0.31, 0.32])
    assert any("4 of 4 rows (percentages)" in n for n in table.notes)
    assert any(n.endswith(": Name, Notes, config.model") for n in table.notes)


def test_other_columns_may_identify_weights_and_biases_runs(export):
    by_name = importers.wandb(export, Columns(**WANDB, normalize=True, run=("Name", "seed")))
    assert list(by_name.frame["run"]) == ["007-1", "007-2", "x-1", "y-1"]
    with pytest.raises(InputError, match="'007' at step 1000"):
        importers.wandb(export, Columns(**WANDB, normalize=True, run=("Name",)))


@pytest.mark.parametrize(
    ("spoil", "options", "words"),
    [
        (lambda t: t.replace("crashed", "exploded"), {}, ["State", "'exploded'", "finished"]),
        (lambda t: t.replace('"finished","-","ab2","1000","2","60"', '"finished","-","ab2","1000","2",""'), {},
         ["1 of 4 rows", "run 'ab2'", "mix/web (1)"]),
        (lambda t: "Step,run-1 - loss,run-1 - loss__MIN\n1,2,3\n", {}, ["chart", "table of runs"]),
        (lambda t: t, {"mix": "config.mx."}, ["--mix 'config.mx.'", "config.mix.web"]),
        (lambda t: t, {"loss": "eval/{a}/{b}"}, ["--loss 'eval/{a}/{b}'", "{a} and {b}"]),
        (lambda t: t, {"higher_is_better": ("wep",)}, ["--higher-is-better", "'wep'", "did you mean 'web'"]),
        (lambda t: t, {"rename": {"config.modle": "size"}}, ["'config.modle'", "did you mean 'config.model'"]),
        (lambda t: t, {"rename": {"config.model": "siz"}}, ["--rename", "'siz'", "did you mean 'size'"]),
        (lambda t: t, {"rename": {"config.model": "seed"}}, ["'config.model' and 'seed'", "both be called 'seed'"]),
        (lambda t: t, {"constant": {"seed": "3"}}, ["--constant", "'seed'"]),
        (lambda t: t, {"constant": {"colour": "3"}}, ["--constant", "'colour'"]),
        (lambda t: t, {"constant": {"mix/": "3"}}, ["--constant", "'mix/'"]),
        (lambda t: t, {"run": ("Nme",)}, ["--run", "'Nme'", "did you mean 'Name'"]),
        (lambda t: t.replace("eval/code/loss", "eval/web/loss"), {}, ["'eval/web/loss' twice"]),
        (lambda t: t.replace("3.25", "low"), {}, ["'loss/web'", "'low'"]),
    ],
)  # fmt: skip
def test_bad_exports_are_input_errors(export, spoil, options, words):
    export.write_text(spoil(EXPORT))
    with pytest.raises(InputError) as caught:
        importers.wandb(export, Columns(**{**WANDB, "normalize": True, **options}))
    assert all(word in str(caught.value) for word in words), caught.value


PLAIN = pd.DataFrame(
    {
        "id": ["007", "NA", "c"],
        "web_share": [0.5, 0.25, 0.125],
        "code_share": [0.5, 0.75, 0.875],
        "loss_web": [3.5, 3.25, 3.125],
        "loss_acc": [0.5, 0.25, 0.75],
    }
)
OF_PLAIN = {"mix": "{domain}_share", "loss": "loss_", "run": ("id",), "higher_is_better": ("acc",)}


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("t.csv", {}),
        ("t.csv", {"sep": ";"}),
        ("t.csv", {"sep": ";", "decimal": ",", "encoding": "utf-8-sig"}),
        ("t.tsv", {"sep": "\t"}),
        ("t.txt", {"sep": "\t", "decimal": ","}),
        ("t.parquet", None),
    ],
)
def test_plain_tables_are_read_with_any_separator(tmp_path, name, how):
    if how is None:
        PLAIN.to_parquet(tmp_path / name)
    else:
        PLAIN.to_csv(tmp_path / name, index=False, **how)
    table = importers.csv(tmp_path / name, Columns(**OF_PLAIN))
    assert list(table.frame["run"]) == ["007", "NA", "c"]
    assert (table.domains, table.targets) == (("web", "code"), ("loss/web", "score/acc"))
    np.testing.assert_array_equal(table.mixtures_RxK, PLAIN[["web_share", "code_share"]])
    np.testing.assert_array_equal(table.losses("acc"), PLAIN["loss_acc"])


def test_the_longest_pattern_wins(tmp_path):
    PLAIN.rename(columns={"loss_acc": "loss_acc_bpb"}).to_csv(tmp_path / "t.csv", index=False)
    table = importers.csv(
        tmp_path / "t.csv", Columns(mix="{}_share", loss="loss_", metric="loss_{name}_bpb", run=("id",))
    )
    assert table.targets == ("loss/web", "metric/acc")


def test_weights_are_normalized_only_on_request(tmp_path):
    counts = PLAIN.assign(web_share=[10, 30, 0], code_share=[30, 10, 5])
    counts.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(InputError, match=r"run '007'.*\(3 .*token counts.*--normalize"):
        importers.csv(tmp_path / "t.csv", Columns(**OF_PLAIN))
    table = importers.csv(tmp_path / "t.csv", Columns(**OF_PLAIN, normalize=True))
    np.testing.assert_allclose(table.mixtures_RxK, [[0.25, 0.75], [0.75, 0.25], [0, 1]])
    assert any("3 of 3 rows (sums 5 to 40)" in n for n in table.notes)
    counts.assign(web_share=[-1, 1, 1]).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(InputError, match="run '007' has mix/web = -1"):
        importers.csv(tmp_path / "t.csv", Columns(**OF_PLAIN, normalize=True))


def test_a_blank_weight_is_zero_only_where_the_others_sum_to_one(tmp_path):
    PLAIN.assign(web_share=[0.5, None, 0.125], code_share=[0.5, 1.0, 0.875]).to_csv(tmp_path / "t.csv", index=False)
    table = importers.csv(tmp_path / "t.csv", Columns(**OF_PLAIN))
    np.testing.assert_array_equal(table.mixtures_RxK, [[0.5, 0.5], [0, 1], [0.125, 0.875]])
    assert any("1 of 3 rows" in n and "blank" in n for n in table.notes)
    PLAIN.assign(web_share=[0.5, None, 0.125]).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(InputError, match=r"run 'NA' first: mix/web \(1\)"):
        importers.csv(tmp_path / "t.csv", Columns(**OF_PLAIN))


def test_rows_without_names_of_runs_are_numbered_on_request(tmp_path):
    PLAIN.drop(columns="id").to_csv(tmp_path / "t.csv", index=False)
    options = {**OF_PLAIN, "run": ()}
    with pytest.raises(InputError, match="--number-rows"):
        importers.csv(tmp_path / "t.csv", Columns(**options))
    table = importers.csv(tmp_path / "t.csv", Columns(**options, number_rows=True))
    assert list(table.frame["run"]) == ["row-0", "row-1", "row-2"]


def test_importing_a_run_table_does_not_change_it(tmp_path):
    frame = pd.DataFrame(
        {"run": ["1", "2"], "seed": [0, 1], "mix/a": [0.1, 0.7], "mix/b": [0.9, 0.3], "loss/a": [1 / 3, 2 / 3],
         "score/x": [0.1, 0.2], "status": ["complete", "diverged"]}
    )  # fmt: skip
    RunTable(frame).write(tmp_path / "runs.csv")
    table = importers.csv(tmp_path / "runs.csv")
    pd.testing.assert_frame_equal(table.frame[list(frame)], RunTable(frame).frame, check_exact=True)
    assert table.notes == []


def test_files_that_do_not_match_are_input_errors(tmp_path):
    ratios = pd.DataFrame({"run": ["a", "b"], "web": [0.5, 0.25], "code": [0.5, 0.75]})
    metrics = pd.DataFrame({"run": ["a", "b"], "qa": [1.0, 2.0]})

    def imported(left, right):
        left.to_csv(tmp_path / "ratios.csv", index=False)
        right.to_csv(tmp_path / "metrics.csv", index=False)
        return importers.olmix(tmp_path / "ratios.csv", tmp_path / "metrics.csv")

    assert imported(ratios, metrics[::-1]).losses("qa").tolist() == [1.0, 2.0]
    with pytest.raises(InputError, match="no run of .*ratios.csv' is in .*metrics.csv'"):
        imported(ratios, metrics.assign(run=["c", "d"]))
    with pytest.raises(InputError, match="metrics.csv' has run 'a' twice"):
        imported(ratios, metrics.assign(run="a"))
    with pytest.raises(InputError, match="ratios.csv' has no column 'run'.*did you mean 'ran'"):
        imported(ratios.rename(columns={"run": "ran"}), metrics)
    with pytest.raises(InputError, match="none.csv' does not exist"):
        importers.olmix(tmp_path / "none.csv", tmp_path / "metrics.csv")


def test_the_command_saves_a_table_and_prints_its_notes(export, tmp_path, capsys):
    out = tmp_path / "runs.csv"
    options = ["--mix", "config.mix.", "--loss", "eval/{target}/loss", "--metric", "eval/{name}/acc"]
    options += ["--higher-is-better", "qa", "--constant", "n_params", "90M"]
    assert main(["import", "wandb", str(export), *options, "--out", str(out)]) == 2
    assert "--normalize" in capsys.readouterr().err
    assert not out.exists()
    assert main(["import", "wandb", str(export), *options, "--normalize", "--out", str(out)]) == 0
    output = capsys.readouterr().out
    assert "note: the weights of 4 of 4 rows (percentages)" in output
    assert "RunTable(4 rows, 4 runs, 2 domains, 3 targets)" in output
    assert str(out) in output
    table = RunTable.read(out)
    assert table.targets == ("loss/web", "loss/code", "score/qa")
    assert set(table.frame["n_params"]) == {90e6}


@needs_data
def test_the_command_imports_pairs(tmp_path):
    for kind, files in (
        ("regmix", regmix_files(("test", "1B"))),
        ("olmix", (DATA / "olmix_dclm" / "dclm_ratios.csv", DATA / "olmix_dclm" / "dclm_metrics.csv")),
    ):
        out = tmp_path / f"{kind}.csv"
        assert main(["import", kind, *map(str, files), "--out", str(out), "--n-params", "1e9"]) == 0
        saved, table = RunTable.read(out), getattr(importers, kind)(*files, n_params=1e9)
        pd.testing.assert_frame_equal(saved.frame, table.frame, check_exact=True)


def test_an_unknown_format_gets_a_suggestion(capsys):
    assert main(["import", "wanbd", "x.csv"]) == 2
    assert "did you mean 'wandb'" in capsys.readouterr().err
    assert main(["import", "--help"]) == 0
    output = capsys.readouterr().out
    assert all(name in output for name in importers.IMPORTERS)


def test_a_pattern_that_matches_inside_of_names_gets_the_pattern_that_works(tmp_path):
    pd.DataFrame({"run": ["a"], "config.mix.web": [1.0], "loss/web": [2.0]}).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InputError, match=r"did you mean --mix 'config\.mix\.'"):
        importers.csv(tmp_path / "a.csv", Columns(mix="mix."))
