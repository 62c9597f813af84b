"""`mixscale import FORMAT`: one function a format, which saves a run table and says what became of the files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import OmitArgPrefixes, Positional, arg

from mixscale.errors import InputError, did_you_mean, listed
from mixscale.interop.importers import formats
from mixscale.interop.importers.columns import Columns
from mixscale.interop.importers.logs import tensorboard as read_logs
from mixscale.run_table import RunTable

Table = Annotated[Positional[Path], arg(metavar="TABLE")]
Export = Annotated[Positional[Path], arg(metavar="EXPORT")]

HELP = """Makes a run table of what another tool wrote, for `mixscale fit`.

usage: mixscale import FORMAT FILES ... --out RUNS.csv

  csv     TABLE             a wide table of your own: say which columns are weights, losses and runs
  wandb   EXPORT            the table of runs that Weights & Biases exports as CSV
  tensorboard LOGS          a folder of event files; mixtures from configs beside them or from a table
  regmix  MIXTURES LOSSES   a pair of files as RegMix publishes them
  olmix   RATIOS METRICS    a pair of files as olmix reads them

For example, a table with columns name, w_web, w_code, loss_web, acc_qa, and percentages for weights:
  mixscale import csv table.csv --run name --mix w_ --normalize \\
      --loss loss_ --metric acc_{name} --higher-is-better qa --out runs.csv

`mixscale import FORMAT --help` lists the options of a format."""


def csv(table: Table, /, out: Path, columns: OmitArgPrefixes[Columns] = Columns()) -> None:  # noqa: B008
    """Imports a wide table, one row a measurement: .csv (comma, semicolon, tab or |), .tsv or .parquet.

    Columns that a run table knows by their own name (run, seed, step, n_params, n_tokens, mix/DOMAIN, loss/TARGET ...)
    are taken as they are; those that nothing names are left out. A pattern is what the names of some columns begin
    with (w_), or a whole name with braces where the domain or target stands (eval/{target}/loss).

    For example:
      mixscale import csv table.csv --run name --mix w_ --loss loss_ --normalize --out runs.csv

    Args:
        table: the file.
        out: .csv or .parquet file to write.
    """
    _save(formats.csv(table, columns), out)


def wandb(export: Export, /, out: Path, columns: OmitArgPrefixes[Columns] = Columns()) -> None:  # noqa: B008
    """Imports the CSV file that Weights & Biases exports of a project's table of runs (Runs, download, CSV).

    A run is told by its ID, or by its Name where there is no ID. State finished is complete, any other stopped. A
    pattern is what the names of some columns begin with (config.mix.), or a whole name with braces where the domain or
    target stands (eval/{target}/loss).

    For example:
      mixscale import wandb log.csv --mix config.mix. --loss 'eval/{target}/loss' --normalize --out runs.csv

    Args:
        export: the file.
        out: .csv or .parquet file to write.
    """
    _save(formats.wandb(export, columns), out)


def tensorboard(
    logs: Annotated[Positional[Path], arg(metavar="LOGS")],
    /,
    out: Path,
    config: str = "config.json",
    mixtures: Path | None = None,
    every_step: bool = False,
    columns: OmitArgPrefixes[Columns] = Columns(),  # noqa: B008
) -> None:
    """Imports a folder of TensorBoard logs; each folder with event files is a run, called by its path.

    For example, with a config.json in each run's folder that says {"data": {"weights": {"web": 0.7, "code": 0.3}}}:
      mixscale import tensorboard logs --mix config.data.weights. --loss 'eval/{target}/loss' \\
          --rename tokens_seen n_tokens --out runs.csv

    Args:
        logs: the folder that TensorBoard is started on.
        out: .csv or .parquet file to write.
        config: name of the JSON or YAML file beside a run's logs, or above them, whose values are called config.NAME;
            so are hyper-parameters in the logs.
        mixtures: table with a column run and the weights, in place of configs.
        every_step: keep every step at which a target was logged, not the last one alone.
    """
    _save(read_logs(logs, columns, config, mixtures, every_step), out)


def regmix(
    mixtures: Annotated[Positional[Path], arg(metavar="MIXTURES")],
    losses: Annotated[Positional[Path], arg(metavar="LOSSES")],
    /,
    out: Path,
    n_params: float | None = None,
    n_tokens: float | None = None,
) -> None:
    """Imports a pair of files as RegMix publishes them, joined on `index`.

    For example:
      mixscale import regmix train_mixture_1m.csv train_pile_loss_1m.csv --out runs.csv

    Args:
        mixtures: CSV with columns index and train_the_pile_DOMAIN.
        losses: CSV with columns index and metric/the_pile_TARGET_val_loss.
        out: .csv or .parquet file to write.
        n_params: non-embedding parameters of the runs, for laws that use size.
        n_tokens: tokens that each run was trained on, for laws that use them.
    """
    _save(formats.regmix(mixtures, losses, n_params, n_tokens), out)


def olmix(
    ratios: Annotated[Positional[Path], arg(metavar="RATIOS")],
    metrics: Annotated[Positional[Path], arg(metavar="METRICS")],
    /,
    out: Path,
    higher_is_better: tuple[str, ...] = (),
    n_params: float | None = None,
    n_tokens: float | None = None,
) -> None:
    """Imports a pair of files as olmix reads them, joined on `run`; metrics are bits per byte, lower is better.

    For example:
      mixscale import olmix ratios.csv metrics.csv --higher-is-better 'acc*' --out runs.csv

    Args:
        ratios: CSV with columns run and one for each domain.
        metrics: CSV with columns run and one for each metric.
        out: .csv or .parquet file to write.
        higher_is_better: metrics that are better when higher; * and ? stand for anything, as in 'acc*'.
        n_params: non-embedding parameters of the runs, for laws that use size.
        n_tokens: tokens that each run was trained on, for laws that use them.
    """
    _save(formats.olmix(ratios, metrics, higher_is_better, n_params, n_tokens), out)


FORMATS: dict[str, Callable[..., None]] = {
    "csv": csv, "wandb": wandb, "tensorboard": tensorboard, "regmix": regmix, "olmix": olmix,
}  # fmt: skip


def main(arguments: list[str]) -> int:
    """Runs `mixscale import` with these arguments; returns the exit status."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP)
        return 0 if arguments else 2
    if arguments[0] not in FORMATS:
        raise InputError(f"there is no format '{arguments[0]}'{did_you_mean(arguments[0], FORMATS)}")
    tyro.cli(
        FORMATS[arguments[0]],
        args=arguments[1:],
        prog=f"mixscale import {arguments[0]}",
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    return 0


def _save(table: RunTable, out: Path) -> None:
    table.write(out)
    for note in table.notes:
        print(f"note: {note}")
    print(table)
    print(f"domains: {listed(list(table.domains))}")
    print(f"targets: {listed(list(table.targets))}")
    print(f"\nrun table saved to {out}; next: mixscale fit {out} --out FIT")
