"""The command line: what works, and the errors of bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mixscale.cli import COMMANDS, main
from mixscale.cli.arguments import load_config, parse_groups
from mixscale.config import Group, load
from mixscale.errors import InputError
from mixscale.laws import fit
from mixscale.run_table import RunTable

ROOT = Path(__file__).parents[1]
CONFIG = str(ROOT / "configs" / "quickstart.py")
SEPARATOR = "=== next document ==="


def table(runs: int = 24, seed: int = 0) -> pd.DataFrame:
    """Runs over three domains whose losses follow a planted exponential law."""
    rng = np.random.default_rng(seed)
    h_RxK = rng.dirichlet(np.ones(3), runs)
    frame = pd.DataFrame(h_RxK, columns=["mix/web", "mix/code", "mix/books"])
    frame.insert(0, "run", [f"r{i}" for i in range(runs)])
    for target, slope_K in {"web": [-1.5, 0.1, -0.4], "code": [0.2, -2.0, 0.3]}.items():
        frame[f"loss/{target}"] = 2.0 + np.exp(h_RxK @ slope_K) + rng.normal(0, 0.003, runs)
    return frame


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fit")
    fit(RunTable(table()), law="exponential", bootstrap=40).save(folder)
    return folder


def status_and_error(capsys: pytest.CaptureFixture, *arguments: str) -> tuple[int, str]:
    """Exit status and standard error."""
    try:
        status = main(list(arguments))
    except SystemExit as stop:
        status = stop.code
    return status, " ".join(capsys.readouterr().err.replace("│", " ").split())


def refused(capsys: pytest.CaptureFixture, arguments: list[str], words: list[str]) -> None:
    status, message = status_and_error(capsys, *arguments)
    assert status == 2, message
    assert "Traceback" not in message
    assert all(word in message for word in words), message


def test_python_m_mixscale_is_the_command():
    installed = str(Path(sys.executable).parent / "mixscale")
    ways = [[installed, "--help"], [sys.executable, "-m", "mixscale", "--help"]]
    shown = [subprocess.run(way, capture_output=True, text=True, check=True).stdout for way in ways]
    assert shown[0] == shown[1]
    assert all(
        name in shown[0]
        for name in ("corpus", "plan", "sweep", "import", "fit", "predict", "optimize", "report", "run")
    )


def test_help_is_instant():
    """Without JAX, pandas and NumPy, whose imports take longer than the help may."""
    check = "import sys; from mixscale.cli import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert not {"jax", "numpy", "pandas", "scipy", "matplotlib", "tyro"} & set(done.stdout.splitlines()[-1].split())


def test_commands_fit_predict_optimize_and_report(tmp_path, capsys):
    table().to_csv(tmp_path / "runs.csv", index=False)
    table(5, seed=1).drop(columns=["loss/web", "loss/code"]).to_csv(tmp_path / "new.csv", index=False)
    assert main(["fit", str(tmp_path / "runs.csv"), "--law", "exponential", "--out", str(tmp_path / "fit")]) == 0
    assert main(["predict", str(tmp_path / "fit"), str(tmp_path / "new.csv"), "--out", str(tmp_path / "p.csv")]) == 0
    predicted = pd.read_csv(tmp_path / "p.csv")
    truth = table(5, seed=1)
    for target in ("web", "code"):
        assert predicted[f"pred/{target}"].to_numpy() == pytest.approx(truth[f"loss/{target}"].to_numpy(), abs=0.02)
        assert (predicted[f"lo/{target}"] < predicted[f"pred/{target}"]).all()
        assert (predicted[f"pred/{target}"] < predicted[f"hi/{target}"]).all()
    assert main(["optimize", str(tmp_path / "fit"), "--upper", "code", "0.3"]) == 0
    solved = json.loads((tmp_path / "optimum.json").read_text())
    assert solved["mixture"]["code"] <= 0.3 + 1e-9
    assert main(["report", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_a_table_with_scores_is_imported_and_fitted(tmp_path, capsys):
    scored = table().rename(columns=lambda c: c.replace("mix/", "w ").replace("loss/", "eval "))
    scored.assign(**{"eval acc": 1 - scored["eval web"] / 8}).to_csv(tmp_path / "log.csv", index=False, sep=";")
    runs, mixtures, fitted = (str(tmp_path / name) for name in ("runs.csv", "new.csv", "fit"))
    options = ["--mix", "w ", "--loss", "eval ", "--higher-is-better", "acc", "--out", runs]
    assert main(["import", "csv", str(tmp_path / "log.csv"), *options]) == 0
    assert main(["fit", runs, "--law", "exponential", "--target", "score/acc", "loss/code", "--out", fitted]) == 0
    truth = table(5, seed=1)
    truth.to_csv(mixtures, index=False)
    assert main(["predict", fitted, mixtures, "--out", str(tmp_path / "p.csv")]) == 0
    predicted = pd.read_csv(tmp_path / "p.csv")
    assert predicted["pred/acc"].to_numpy() == pytest.approx(1 - truth["loss/web"].to_numpy() / 8, abs=0.01)
    assert (predicted["lo/acc"] < predicted["pred/acc"]).all()
    assert (predicted["pred/acc"] < predicted["hi/acc"]).all()


ON_CONFIG = ("run", "corpus", "mixtures", "plan", "sweep")
POSITIONAL = dict.fromkeys(ON_CONFIG, "CONFIG") | {
    "status": "DIR",
    "collect": "DIR",
    "fit": "RUNS",
    "predict": "FIT MIXTURES",
    "optimize": "FIT",
    "design": "[FIT]",
    "export": "OPTIMUM",
    "report": "DIR",
    "export-model": "RUN",
    "generate": "RUN",
    "import csv": "TABLE",
    "import wandb": "EXPORT",
    "import tensorboard": "LOGS",
    "import regmix": "MIXTURES LOSSES",
    "import olmix": "RATIOS METRICS",
}


def test_the_help_of_every_command_names_its_arguments_and_has_an_example(capsys):
    known = {*COMMANDS} - {"laws"}
    assert known == {command.split()[0] for command in POSITIONAL}
    for command, given in POSITIONAL.items():
        with pytest.raises(SystemExit) as stop:
            main([*command.split(), "--help"])
        shown = capsys.readouterr().out
        assert stop.value.code == 0
        assert f" {given}" in " ".join(shown.split("\n\n")[0].split()), command
        assert f"\n  mixscale {command} " in shown, command


def test_a_misspelt_command_or_option_gets_a_suggestion(capsys, tmp_path):
    refused(capsys, ["swep", CONFIG], ["swep", "'sweep'"])
    refused(capsys, ["imprt", "x.csv"], ["imprt", "'import'"])
    refused(capsys, ["import", "csv", "x.csv", "--out", "y.csv"], ["x.csv", "does not exist"])
    refused(capsys, ["plan", CONFIG, "--train.tokns", "5"], ["--train.tokns", "--train.tokens"])
    refused(capsys, ["plan", CONFIG, "--train.tokens", "many"], ["--train.tokens", "many"])
    refused(capsys, ["plan", str(tmp_path / "none.py")], ["none.py", "does not exist"])
    refused(capsys, ["plan"], ["needs a config", "configs/quickstart.py"])
    (tmp_path / "empty.py").write_text("x = 1\n")
    refused(capsys, ["plan", str(tmp_path / "empty.py")], ["empty.py", "experiment = Experiment"])


TABLES = {
    "missing column": (lambda t: t.rename(columns={"run": "rum"}), ["run", "rum"]),
    "no mixture": (lambda t: t[["run", "loss/web"]], ["mix/"]),
    "no loss": (lambda t: t[["run", "mix/web", "mix/code", "mix/books"]], ["loss/"]),
    "NaN loss": (lambda t: t.assign(**{"loss/web": [np.nan, *t["loss/web"][1:]]}), ["r0", "loss/web"]),
    "infinite loss": (lambda t: t.assign(**{"loss/web": [np.inf, *t["loss/web"][1:]]}), ["r0", "loss/web"]),
    "duplicate runs": (lambda t: pd.concat([t, t.iloc[[3]]]), ["r3", "duplicate"]),
    "negative weight": (lambda t: t.assign(**{"mix/web": t["mix/web"] - 2}), ["web", "negative"]),
    "weights off": (lambda t: t.assign(**{"mix/web": t["mix/web"] + 0.2}), ["sum"]),
    "percentages": (lambda t: t.assign(**100 * t.filter(like="mix/")), ["percentages", "--normalize"]),
    "too few runs": (lambda t: t.iloc[:4], ["4", "parameters"]),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLES)
def test_a_table_that_cannot_be_fitted_is_an_input_error(case, tmp_path, capsys):
    spoil, words = TABLES[case]
    spoil(table()).to_csv(tmp_path / "runs.csv", index=False)
    refused(capsys, ["fit", str(tmp_path / "runs.csv"), "--law", "additive", "--out", str(tmp_path / "fit")], words)
    assert not (tmp_path / "fit").exists()


def test_an_unknown_law_gets_a_suggestion(tmp_path, capsys):
    table().to_csv(tmp_path / "runs.csv", index=False)
    refused(capsys, ["fit", str(tmp_path / "runs.csv"), "--law", "aditive", "--out", "x"], ["aditive", "additive"])


UNFIT = {
    "another domain": (lambda t: t.rename(columns={"mix/web": "mix/wep"}), ["missing web", "extra wep"]),
    "negative weight": (lambda t: t.assign(**{"mix/web": -0.5, "mix/code": 1.0, "mix/books": 0.5}), ["web", "-0.5"]),
    "weights off": (lambda t: t.assign(**{"mix/web": 0.9, "mix/code": 0.9}), ["sum"]),
}


@pytest.mark.parametrize("case", UNFIT)
def test_mixtures_that_do_not_match_the_fit_are_input_errors(case, fitted, tmp_path, capsys):
    spoil, words = UNFIT[case]
    spoil(table(3)).to_csv(tmp_path / "new.csv", index=False)
    refused(capsys, ["predict", str(fitted), str(tmp_path / "new.csv"), "--out", str(tmp_path / "p.csv")], words)


def test_infeasible_bounds_are_named(fitted, tmp_path, capsys):
    out = ["--out", str(tmp_path / "o.json")]
    refused(capsys, ["optimize", str(fitted), "--lower", "web", "0.7", "code", "0.6", *out], ["1.3"])
    refused(capsys, ["optimize", str(fitted), "--upper", "wep", "0.7", *out], ["wep", "web"])
    refused(capsys, ["optimize", str(fitted), "--weights", "web", "-1", *out], ["web", "-1"])


BAD = {
    "optimize FIT --upper wiki 0.3": ["upper", "'wiki'", "web, code, books"],
    "optimize FIT --upper code 0.3 --upper code 0.4": ["--upper", "'code'", "two values", "0.3", "0.4"],
    "optimize FIT --upper code": ["--upper code", "NAME VALUE"],
    "optimize FIT --uper code 0.3": ["--uper", "--upper"],
    "optimize FIT --current DIR/header.csv": ["--current", "header.csv", "has no row"],
    "optimize FIT --current DIR/list.json": ["--current", "list.json", "weights by domain"],
    "optimize FIT --current web 0.5 code 0.3": ["--current", "sum to 0.8", "web=0.625"],
    "optimize FIT --available code 1e9 --n-tokens 0": ["n_tokens", "0", "positive"],
    "optimize FIT --n-tokens nan": ["n_tokens", "nan", "positive"],
    "optimize FIT --n-params -1": ["n_params", "-1", "positive"],
    "optimize FIT --groups a=web+web:0.2:0.5": ["group 'a'", "'web' twice"],
    "optimize FIT --groups a=web:0:1 --groups a=code:0:1": ["group 'a'", "two values"],
    "optimize FIT --groups a=web:0:1:tide": ["a=web:0:1:tide", "NAME=DOMAIN"],
    "optimize FIT --prior web 0.5 code 0.5 --max-tv 5": ["max_tv", "5", "1"],
    "optimize FIT --relative-to current": ["relative_to", "worst"],
    "optimize FIT --points 3": ["--points", "--pareto"],
    "predict FIT DIR/header.csv --out DIR/p.csv": ["no row"],
    "design FIT --budget-flops nan --sizes 1e6 --tokens 1e6": ["budget", "nan"],
    "design --domains web,code --natural web 0.5 code 0.6": ["--natural", "sum to 1.1"],
    "design --domains web,code --anywhere": ["anywhere", "fit"],
    "export DIR/header.csv --to yaml": ["header.csv", "has no row"],
    "import csv DIR --out DIR/x.csv": ["is a folder; give a file"],
    "status DIR --every 0": ["--every is 0", "above zero"],
}


@pytest.mark.parametrize("typed", BAD)
def test_contradicting_arguments_are_input_errors(typed, fitted, tmp_path, capsys):
    (tmp_path / "header.csv").write_text("mix/web,mix/code,mix/books\n")
    (tmp_path / "list.json").write_text("[1]")
    arguments = [part.replace("FIT", str(fitted)).replace("DIR", str(tmp_path)) for part in typed.split()]
    refused(capsys, arguments, BAD[typed])


def test_a_prior_without_a_domain_gives_no_nan(fitted, tmp_path, capsys):
    typed = "--prior web 0.5 code 0.5 --groups a=web+code:tied --current web 0.4 code 0.4 books 0.2 --keep web"
    assert main(["optimize", str(fitted), *typed.split(), "--out", str(tmp_path / "o.json")]) == 0
    assert "nan" not in capsys.readouterr().out


def test_a_size_that_the_law_ignores_is_noted(fitted, tmp_path, capsys):
    assert main(["optimize", str(fitted), "--n-params", "1e9", "--out", str(tmp_path / "o.json")]) == 0
    assert "at the table's size, not at 1e+09" in capsys.readouterr().out


def test_missing_files_are_named(fitted, tmp_path, capsys):
    refused(capsys, ["fit", str(tmp_path / "none.csv"), "--out", str(tmp_path)], ["none.csv"])
    refused(capsys, ["optimize", str(tmp_path)], [str(tmp_path), "no fit"])
    refused(capsys, ["report", str(tmp_path)], ["mixscale"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the always-full device /dev/full")
def test_a_full_disk_is_an_error_message(fitted, tmp_path):
    table(3).to_csv(tmp_path / "new.csv", index=False)
    command = ["predict", str(fitted), str(tmp_path / "new.csv"), "--out", "/dev/full"]
    done = subprocess.run([sys.executable, "-m", "mixscale", *command], capture_output=True, text=True)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_repeated_mappings_are_merged_and_single_values_changed():
    experiment = load_config(
        "plan", "", [CONFIG, *["--constraints.upper", "code", ".3", "--constraints.upper=wiki", ".2"]]
    )
    assert experiment.constraints.upper == {"code": 0.3, "wiki": 0.2}
    weights = load_config("plan", "", [CONFIG, "--objective.weights.code", "7", "--objective.weights.wiki", "2"])
    assert weights.objective.weights == load(CONFIG).objective.weights | {"code": 7.0, "wiki": 2.0}
    replaced = load_config("plan", "", [CONFIG, "--objective.weights", "code", "7"])
    assert replaced.objective.weights == {"code": 7.0}
    typed = "--current code 1 --constraints.keep code wiki 0.1 --constraints.epochs code 3 wiki inf"
    typed += " --constraints.prior docs 1 --constraints.available code 1e6 --constraints.max-kl 1"
    constraints = load_config("plan", "", [CONFIG, *typed.split()]).constraints
    assert constraints.keep == {"code": 0.0, "wiki": 0.1}
    assert constraints.epochs == {"code": 3.0, "wiki": float("inf")}
    assert constraints.prior == {"docs": 1.0}


def test_groups_are_read():
    assert parse_groups(["a=x+y:0.1:0.5", "b=z+w:tied", "c=x+z:0:0.5:tied"]) == {
        "a": Group(("x", "y"), 0.1, 0.5),
        "b": Group(("z", "w"), 0.0, 1.0, True),
        "c": Group(("x", "z"), 0.0, 0.5, True),
    }
    for text in ("a", "a=x+y", "a=x:0.1", "a=x:0.1:b", "=x:0:1"):
        with pytest.raises(InputError, match="cannot be read; write NAME=DOMAIN"):
            parse_groups([text])


def test_the_help_of_a_config_lists_its_fields(capsys):
    with pytest.raises(SystemExit):
        main(["plan", CONFIG, "--help"])
    shown = capsys.readouterr().out
    for option in (
        "--train.tokens",
        "--models.0.1M.heads",
        "--constraints.groups",
        "--objective.weights",
        "--current",
    ):
        assert option in shown


def config_on(text: Path, tokenizer: str, folder: Path) -> str:
    """A config file over one embedded domain and the text file, as the domain `mine`."""
    path = folder / f"on_{text.stem}.py"
    path.write_text(
        "from mixscale.config import *\n"
        "experiment = Experiment(name='x', models={'t': Model()}, corpus=Corpus(\n"
        f"    {{'mine': TextFiles({str(text)!r}, separator={SEPARATOR!r}), 'wiki': Embedded('wiki')}},\n"
        f"    {tokenizer}, context=32,\n"
        f"    validation_share=0.2, cache={str(folder / 'cache')!r}))\n"
    )
    return str(path)


def test_domains_without_enough_text_are_named(tmp_path, capsys):
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "short.txt").write_text(f"\n{SEPARATOR}\n".join(f"few words {i}" for i in range(4)))
    for name, words in (("none", ["none.txt"]), ("empty", ["mine"]), ("short", ["mine", "32"])):
        config = config_on(tmp_path / f"{name}.txt", "Tokenizer(kind='bytes')", tmp_path)
        refused(capsys, ["corpus", config], words)


def test_a_store_with_another_tokenizer_file_is_refused(texts, tmp_path, capsys):
    for size in (310, 300):
        config = config_on(texts / "code.txt", f"Tokenizer(vocab_size={size})", tmp_path)
        assert main(["corpus", config]) == 0
    one, other = (tmp_path / "cache").rglob("tokenizer.json")
    one.write_bytes(other.read_bytes())
    refused(
        capsys, ["corpus", config_on(texts / "code.txt", stored_vocabulary(one), tmp_path)], ["tokenizer", "again"]
    )


def stored_vocabulary(tokenizer: Path) -> str:
    """The tokenizer setting of the store that `tokenizer` lies in."""
    about = json.loads((tokenizer.parent / "store.json").read_text())
    return f"Tokenizer(vocab_size={about['tokenizer']['vocab_size']})"
