"""The command line: one small function a command, no logic of its own.

Imports live inside the commands, so that `mixscale --help` is instant and the reading half never loads the training
half.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro
from tyro.conf import Positional

from mixscale.errors import InputError, Unfinished, nearest
from mixscale.experiment import Experiment, load

HELP = """mixscale decides in what ratio to mix training data before the expensive run starts.

usage: mixscale COMMAND ...

From raw text (CONFIG is a Python file such as configs/quickstart.py; any field of it can be overridden by its
dotted name, for example --train.tokens 1000000; `mixscale plan CONFIG --help` lists them all):
  run     CONFIG            all of the below, in order: from text to a verified mixture and a page
  corpus  CONFIG            builds the token store; prints domains, documents, unique tokens, tokenizer
  plan    CONFIG            every run with its mixture, N, D, FLOPs, epochs, time and memory; starts nothing
  sweep   CONFIG            trains what is not trained yet; stop it and start it again at any moment

From a table of runs (RUNS is a sweep's folder, a CSV or a Parquet file with columns run, mix/DOMAIN, loss/TARGET):
  fit     RUNS --out FIT    fits a law to every target
  predict FIT MIXTURES      predicts losses, with intervals, for a table of mixtures
  optimum FIT               solves for the mixture, with bounds and weights
  report  DIR               figures and a page from a folder with runs, fit and optimum

`mixscale COMMAND --help` explains a command."""


def run(experiment: Experiment) -> None:
    """Everything in order: corpus, sweep, fit, optimum, verification, report."""
    from mixscale.pipeline import run_all

    run_all(experiment)


def corpus(experiment: Experiment) -> None:
    """Builds the token store, or opens it where it is built, and prints what it holds."""
    from mixscale.launch import build_corpus

    build_corpus(experiment)


def plan(experiment: Experiment) -> None:
    """Prints every run of the design and what it will cost; trains nothing."""
    from mixscale.launch import show_plan

    show_plan(experiment)


def sweep(experiment: Experiment) -> None:
    """Trains the runs of the design that are not trained yet and writes the run table."""
    from mixscale.launch import build_corpus, train_design

    table = train_design(experiment, build_corpus(experiment))
    print(f"{len(table.final())} runs in {experiment.directory / 'runs.csv'}")


def fit(runs: Positional[Path], /, out: Path, law: str = "auto", target: tuple[str, ...] = (), seed: int = 0) -> None:
    """Fits a law to every target of a run table and saves it.

    Args:
        runs: a sweep's folder, a CSV or a Parquet file with columns run, mix/DOMAIN and loss/TARGET.
        out: folder to write the fit to.
        law: name of a law, or auto to choose by cross-validation over runs.
        target: columns to fit, for example loss/code; all where none is given.
        seed: of starts, folds and resamples.
    """
    from mixscale import laws
    from mixscale.runs import RunTable

    _must_be(out, "folder")
    table = RunTable.read(runs)
    for note in table.notes:
        print(f"note: {note}")
    fitted = laws.fit(table, law=law, targets=target or None, seed=seed, progress=True)
    fitted.save(out)
    print(fitted.summary())
    print(f"\nfit saved to {out}")


def predict(fit: Positional[Path], mixtures: Positional[Path], /, out: Path, level: float = 0.9) -> None:
    """Predicts the losses of a table of mixtures: columns pred/TARGET, lo/TARGET, hi/TARGET.

    Args:
        fit: folder written by `mixscale fit`.
        mixtures: CSV or Parquet with columns mix/DOMAIN (and n_params, n_tokens where the law uses them).
        out: CSV to write: the table and the predictions.
        level: share of runs that the interval should hold.
    """
    from mixscale.laws import LawFit
    from mixscale.runs import read_frame

    _must_be(out, "file")
    predicted = LawFit.load(fit).predict_table(read_frame(mixtures), level=level)
    predicted.to_csv(out, index=False)
    print(predicted.head(20).to_string(index=False))
    print(f"\n{len(predicted)} predictions saved to {out}")


def optimum(
    fit: Positional[Path],
    /,
    weights: dict[str, float] = {},  # noqa: B006  (tyro reads it, nothing writes it)
    lower: dict[str, float] = {},  # noqa: B006
    upper: dict[str, float] = {},  # noqa: B006
    n_params: float | None = None,
    n_tokens: float | None = None,
    out: Path | None = None,
    seed: int = 0,
) -> None:
    """Solves for the mixture with the lowest weighted mean loss, prints it and saves it.

    Args:
        fit: folder written by `mixscale fit`.
        weights: weight of each target, as in `--weights code 2 wiki 1`; those not named count nothing, and
            all count the same where none is named.
        lower: least weight of a domain in the mixture, as in `--lower code 0.1`.
        upper: greatest weight of a domain in the mixture, as in `--upper code 0.5`.
        n_params: N to solve for, where the law uses it.
        n_tokens: D to solve for, where the law uses it.
        out: file to write; optimum.json beside the fit where none is given.
        seed: of the starts.
    """
    from mixscale.laws import LawFit
    from mixscale.optimum import solve

    solved = solve(
        LawFit.load(fit), weights=weights or None, lower=lower or None, upper=upper or None,
        n_params=n_params, n_tokens=n_tokens, seed=seed,
    )  # fmt: skip
    path = out or fit.parent / "optimum.json"
    solved.save(path)
    print(solved.summary())
    print(f"\noptimum saved to {path}")


def report(directory: Positional[Path], /) -> None:
    """Writes figures, result.json and the page of a folder with runs, fit and optimum.

    Args:
        directory: folder that holds runs.parquet or runs.csv, fit/ and optimum.json.
    """
    from mixscale import report as report_room

    print(f"page: {report_room.write(directory)}")


ON_CONFIG: dict[str, Callable[[Any], None]] = {"run": run, "corpus": corpus, "plan": plan, "sweep": sweep}
ON_TABLE: dict[str, Callable[..., None]] = {"fit": fit, "predict": predict, "optimum": optimum, "report": report}


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        return _dispatch(arguments)
    except (InputError, Unfinished) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on where it stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) has seen enough; Python must not complain again on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno is None:
            raise
        where = f": {error.filename}" if error.filename else ""
        print(f"error: {error.strerror}{where}; what had finished is kept", file=sys.stderr)
        return 1


def script() -> None:
    """Entry point of the installed command."""
    sys.exit(main())


def _must_be(out: Path, kind: str) -> None:
    """Refuses, before any work is done, an output that cannot be written."""
    if out.exists() and out.is_dir() != (kind == "folder"):
        raise InputError(f"--out {out} is a {'folder' if out.is_dir() else 'file'}; give a {kind}")


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP)
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from mixscale import __version__

        print(f"mixscale {__version__}")
        return 0
    command, rest = arguments[0], arguments[1:]
    if command in ON_CONFIG:
        ON_CONFIG[command](_configured(command, rest))
    elif command in ON_TABLE:
        tyro.cli(ON_TABLE[command], args=rest, prog=f"mixscale {command}")
    else:
        raise InputError(f"there is no command '{command}'{nearest(command, [*ON_CONFIG, *ON_TABLE])}")
    return 0


def _configured(command: str, rest: list[str]) -> Experiment:
    """The config named first, with the overrides that follow it."""
    if not rest or rest[0].startswith("-"):
        doc = ON_CONFIG[command].__doc__ or ""
        if rest and rest[0] in ("-h", "--help"):
            print(f"usage: mixscale {command} CONFIG [--FIELD VALUE ...]\n\n{doc}\n")
            print(f"`mixscale {command} CONFIG --help` lists the fields of a config, with their values.")
            raise SystemExit(0)
        raise InputError(f"`mixscale {command}` needs a config first, for example configs/quickstart.py")
    return tyro.cli(
        Experiment,
        args=rest[1:],
        default=load(rest[0]),
        prog=f"mixscale {command} {rest[0]}",
        description=ON_CONFIG[command].__doc__,
        config=(tyro.conf.AvoidSubcommands,),
    )
