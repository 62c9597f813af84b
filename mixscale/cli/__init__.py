"""The command line: finds the command, calls it with its arguments, and turns errors into sentences and exit codes.

Everything is imported when it is needed, so that `mixscale --help` is instant and commands on tables never load the
training half. Exit codes: 0 success, 1 unfinished work, 2 wrong input, 130 interrupted by Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from mixscale.errors import InputError, Unfinished, did_you_mean, os_message

HELP = """mixscale finds the ratio in which to mix training data before the expensive run starts.

usage: mixscale COMMAND ...

From raw text. CONFIG is a Python file such as configs/quickstart.py; every field of it can be overridden by its
dotted name, for example --train.tokens 1000000 (`mixscale plan CONFIG --help` lists all fields):
  run     CONFIG            every step in order, from text to a verified mixture and a report
  corpus  CONFIG            tokenize the text and print domains, documents, unique tokens and tokenizer
  mixtures CONFIG           print the baseline mixtures: natural, uniform, temperature, UniMax ...
  plan    CONFIG            print every run with its mixture, N, D, FLOPs, epochs, time and memory; train nothing
  sweep   CONFIG            train the runs; rerun the same command to resume
  status  DIR               progress of a sweep, on all its machines; --watch keeps updating
  collect DIR               write the rows of all finished runs to a table

From a table of runs. RUNS is a sweep's folder, or a CSV or Parquet file with columns run, mix/DOMAIN, loss/TARGET:
  import  FORMAT FILES      make such a table from CSV, Weights & Biases, TensorBoard, RegMix or olmix
  laws                      list the data-mixing laws with their formulas
  fit     RUNS --out FIT    fit a law to every target
  predict FIT MIXTURES      predict the losses of mixtures, with intervals
  optimize FIT              find the best mixture under constraints, and what each constraint costs
  design  [FIT]             choose the mixtures to run first, or next
  export  OPTIMUM --to T    write the mixture for MaxText, Levanter, OLMo-core, Megatron-LM, NeMo and others
  report  DIR               write the report of a folder with runs, fit and optimum

From a trained run:
  export-model RUN --out D  write safetensors and tokenizer for Hugging Face's transformers

`mixscale COMMAND --help` explains a command."""

COMMANDS = {
    "on_sweep": ("run", "corpus", "mixtures", "plan", "sweep", "status", "collect", "export-model"),
    "on_table": ("laws", "fit", "predict", "optimize", "design", "export", "report"),
    "import": ("import",),
}
"""The commands of each module; `import` has subcommands of its own."""
WITH_CONFIG = COMMANDS["on_sweep"][:5]  # commands whose argument is a config
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    try:
        return _dispatch(sys.argv[1:] if argv is None else list(argv))
    except (InputError, Unfinished) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else error.status
    except KeyboardInterrupt:
        print("\nInterrupted. Progress is saved; rerun the same command to resume", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has closed the pipe; without this Python would report it once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno is None:
            raise
        print(f"error: {os_message(error)}; finished work is saved", file=sys.stderr)
        return 1


def script() -> None:
    """Entry point of the installed command."""
    status = main()
    if status == INTERRUPTED:
        # A program that JAX is still computing would crash while the interpreter shuts down.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(HELP)
        return 0 if words else 2
    if words[0] == "--version":
        from mixscale import __version__

        print(f"mixscale {__version__}")
        return 0
    name, rest = words[0], words[1:]
    module = next((module for module, names in COMMANDS.items() if name in names), None)
    if module is None:
        known = [command for names in COMMANDS.values() for command in names]
        raise InputError(f"there is no command '{name}'{did_you_mean(name, known)}")
    if module == "import":
        from mixscale.cli import on_import

        return on_import.main(rest)

    from mixscale.cli import arguments

    command = getattr(import_module(f"mixscale.cli.{module}"), name.replace("-", "_"))
    if name in WITH_CONFIG:
        command(arguments.load_config(name, command.__doc__ or "", rest))
    else:
        arguments.call(command, rest, f"mixscale {name}")
    return 0
