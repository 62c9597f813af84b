"""The command line: one small function a command, no logic of its own; this file only chooses among them.

Imports live inside the commands, so that `mixscale --help` is instant and the reading half never loads the training
half.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import tyro

from mixscale.cli import on_config, on_run, on_sweep, on_table
from mixscale.config import Experiment, load
from mixscale.errors import InputError, Unfinished, did_you_mean

HELP = """mixscale decides in what ratio to mix training data before the expensive run starts.

usage: mixscale COMMAND ...

From raw text (CONFIG is a Python file such as configs/quickstart.py; any field of it can be overridden by its
dotted name, for example --train.tokens 1000000; `mixscale plan CONFIG --help` lists them all):
  run     CONFIG            all of it, in order: from text to a verified mixture and a page
  corpus  CONFIG            builds the token store; prints domains, documents, unique tokens, tokenizer
  plan    CONFIG            every run with its mixture, N, D, FLOPs, epochs, time and memory; starts nothing
  sweep   CONFIG            trains what is not trained yet; stop it and start it again at any moment
  mixtures CONFIG           the mixtures to start from, by name: natural, uniform, temperature, UniMax ...
  status  DIR               how far a sweep is, on whichever machines; --watch goes on showing it
  collect DIR               gathers the rows of all runs that have ended

From a table of runs (RUNS is a sweep's folder, a CSV or a Parquet file with columns run, mix/DOMAIN, loss/TARGET):
  import  FORMAT FILES      makes one of a CSV file, of Weights & Biases, TensorBoard, RegMix or olmix
  laws                      lists the laws by name, with their formulas
  fit     RUNS --out FIT    fits a law to every target
  predict FIT MIXTURES      predicts losses, with intervals, for a table of mixtures
  optimize FIT              solves for the mixture under the constraints you have, and prices them
  design  [FIT]             the mixtures to run first, or those that would teach most about a fit's optimum
  export  OPTIMUM --to T    the mixture as MaxText, Levanter, OLMo-core, Megatron-LM, NeMo and others read it
  report  DIR               figures and a page from a folder with runs, fit and optimum

From a trained run (DIR/runs/ID):
  export-model RUN --out D  safetensors and tokenizer, as Hugging Face's transformers loads them

`mixscale COMMAND --help` explains a command."""


def import_(arguments: list[str]) -> int:
    """Makes a run table of what another tool wrote; each format has options of its own."""
    from mixscale.interop.importers.command import main as import_main

    return import_main(arguments)


COMMANDS_ON_CONFIG = (on_config.run, on_config.corpus, on_config.mixtures, on_config.plan, on_config.sweep)
COMMANDS = (
    on_table.laws, on_table.fit, on_table.predict, on_table.optimize, on_table.design, on_table.export,
    on_table.report, on_run.export_model, on_sweep.status, on_sweep.collect,
)  # fmt: skip
ON_CONFIG: dict[str, Callable[[Any], None]] = {command.__name__: command for command in COMMANDS_ON_CONFIG}
ON_TABLE: dict[str, Callable[..., None]] = {command.__name__.replace("_", "-"): command for command in COMMANDS}


INTERRUPTED = 130
"""Exit status after Ctrl-C."""


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        return _dispatch(arguments)
    except (InputError, Unfinished) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else error.status
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from what was saved", file=sys.stderr)
        return INTERRUPTED
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
    status = main()
    if status == INTERRUPTED:
        # A program that JAX still computes must not find the interpreter taken apart.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


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
    elif command == "import":
        return import_(rest)
    else:
        raise InputError(f"there is no command '{command}'{did_you_mean(command, [*ON_CONFIG, *ON_TABLE, 'import'])}")
    return 0


def _configured(command: str, rest: list[str]) -> Experiment:
    """The config named first, with the overrides that follow it."""
    if not rest or rest[0].startswith("-"):
        doc = ON_CONFIG[command].__doc__ or ""
        if rest and rest[0] in ("-h", "--help"):
            print(f"usage: mixscale {command} CONFIG [--FIELD VALUE ...]\n\n{doc}\n\nFor example:\n")
            print(f"  mixscale {command} configs/quickstart.py --train.tokens 1000000\n")
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
