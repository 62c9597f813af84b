"""`mixscale import FORMAT`: one command for each importer."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from mixscale.cli import arguments
from mixscale.errors import listed
from mixscale.interop.importers import IMPORTERS
from mixscale.run_table import RunTable

HELP = """Makes a run table from the files of another tool, for `mixscale fit`.

usage: mixscale import FORMAT FILES ... --out RUNS.csv

{formats}

For example, a table with columns name, w_web, w_code, loss_web, acc_qa, in which the weights are percentages:
  mixscale import csv table.csv --run name --mix w_ --normalize \\
      --loss loss_ --metric acc_{{name}} --higher-is-better qa --out runs.csv

`mixscale import FORMAT --help` lists the options of a format."""


def main(words: Sequence[str]) -> int:
    """Imports what the words say; returns the exit status."""
    if not words or words[0] in ("-h", "--help"):
        first_lines = {name: (importer.__doc__ or "").partition("\n")[0] for name, importer in IMPORTERS.items()}
        print(HELP.format(formats="\n".join(f"  {name:12}{line}" for name, line in first_lines.items())))
        return 0 if words else 2
    arguments.call(_saving(IMPORTERS[words[0]]), words[1:], f"mixscale import {words[0]}")
    return 0


def _saving(importer: Callable[..., RunTable]) -> Callable[..., None]:
    """The importer with an option --out, where it saves the table."""

    def command(*files: Path, out: Path, **options: Any) -> None:
        table = importer(*files, **options)
        table.write(out)
        for note in table.notes:
            print(f"note: {note}")
        print(f"{table}\ndomains: {listed([*table.domains])}\ntargets: {listed([*table.targets])}")
        print(f"\nrun table saved to {out}; next: mixscale fit {out} --out FIT")

    hint = Annotated[Path, arg(help="CSV or Parquet file for the run table.")]
    hints = typing.get_type_hints(importer, include_extras=True) | {"out": hint, "return": None}
    saved = inspect.Parameter("out", inspect.Parameter.KEYWORD_ONLY, annotation=hint)
    command.__doc__, command.__annotations__ = importer.__doc__, hints
    command.__signature__ = inspect.Signature([*inspect.signature(importer).parameters.values(), saved])  # type: ignore
    return command
