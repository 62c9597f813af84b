"""The command line: finds the command, calls it with its arguments, and turns errors into sentences and exit codes.

Everything is imported when it is needed, so that `mixscale --help` is instant and commands on tables never load the
training half. Exit codes: 0 success, 1 unfinished work, 2 wrong input, 130 interrupted by Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from types import FrameType

from mixscale.errors import InputError, Unfinished, did_you_mean, os_message

# Commands whose argument is a config: the function that they call with it, and their description.
WITH_CONFIG = {
    "run": ("pipeline", "run_all", "every step in order, from text to a verified mixture and a report"),
    "corpus": ("launch", "build_corpus", "tokenize the text; print domains, documents, unique tokens, tokenizer"),
    "mixtures": ("launch", "show_mixtures", "print the baseline mixtures: natural, uniform, temperature, UniMax ..."),
    "plan": (
        "pipeline",
        "show_plan",
        "print runs with mixture, N, D, FLOPs, epochs, time and memory; train nothing",
    ),
    "sweep": ("pipeline", "sweep", "train the runs; rerun the same command to resume"),
}
ON_RUNS = ("status", "collect", "export-model", "generate")
ON_TABLES = ("laws", "fit", "predict", "optimize", "design", "export", "report")
COMMANDS = (*WITH_CONFIG, *ON_RUNS, "import", *ON_TABLES)
CONFIG_LINES = "\n".join(f"  {f'{name:<7} CONFIG':<25} {about}" for name, (*_, about) in WITH_CONFIG.items())
HELP = f"""mixscale finds the ratio in which to mix training data before the expensive run starts.

usage: mixscale COMMAND ...

From raw text. CONFIG is a Python file such as configs/quickstart.py; every field of it can be overridden by its
dotted name, for example --train.tokens 1000000 (`mixscale plan CONFIG --help` lists all fields):
{CONFIG_LINES}
  status  DIR               progress of a sweep, on all its machines; --watch keeps updating
  collect DIR               write the rows of all finished runs to a table

From a table of runs. RUNS is a sweep's folder, or a CSV or Parquet file with columns run, mix/DOMAIN, loss/TARGET:
  import  FORMAT FILES      make such a table from CSV, Weights & Biases, TensorBoard, RegMix or olmix
  laws                      list the data-mixing laws with their formulas
  fit     RUNS --out FIT    fit a law to every target
  predict FIT MIXTURES      predict the losses of mixtures, with intervals
  optimize FIT              find the best mixture under constraints, and the cost of each constraint
  design  [FIT]             choose the mixtures to run first, or next
  export  OPTIMUM --to T    write the mixture for MaxText, Levanter, OLMo-core, Megatron-LM, NeMo and others
  report  DIR               write the report of a folder with runs, fit and optimum

From a trained run:
  export-model RUN --out D  write safetensors and tokenizer for Hugging Face's transformers
  generate RUN --prompt P   continue a text; RUN may also be a Hugging Face folder

`mixscale COMMAND --help` explains a command."""
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        return _dispatch(words)
    except (InputError, Unfinished) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else error.status
    except KeyboardInterrupt:
        resumes = words[0] in WITH_CONFIG
        again = "Progress is saved; rerun the same command to resume" if resumes else "No file was half-written"
        print(f"\nInterrupted. {again}", file=sys.stderr)
        return INTERRUPTED
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "mixscale"):
            raise
        print(
            f"error: `mixscale {words[0]}` needs the package '{package}', which is not installed; "
            "`pip install 'mixscale[train]'` installs what training needs",
            file=sys.stderr,
        )
        return 2
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
    signal.signal(signal.SIGINT, _interrupt)
    status = main()
    if status == INTERRUPTED:
        # A program that JAX is still computing would crash while the interpreter shuts down.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Ends an import at once: an exception inside the start of an extension module can crash the process."""
    while frame:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            print("\nInterrupted", file=sys.stderr, flush=True)
            os._exit(INTERRUPTED)
        frame = frame.f_back
    raise KeyboardInterrupt


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(HELP)
        return 0 if words else 2
    if words[0] == "--version":
        from mixscale import __version__

        print(f"mixscale {__version__}")
        return 0
    name, rest = words[0], words[1:]
    if name not in COMMANDS:
        raise InputError(f"there is no command '{name}'{did_you_mean(name, COMMANDS)}")
    if name == "import":
        from mixscale.cli import on_import

        return on_import.main(rest)

    from mixscale.cli import arguments

    if name in WITH_CONFIG:
        module, function, about = WITH_CONFIG[name]
        experiment = arguments.load_config(name, about, rest)
        getattr(import_module(f"mixscale.{module}"), function)(experiment)
    else:
        arguments.call(command(name), rest, f"mixscale {name}")
    return 0


def command(name: str) -> Callable[..., None]:
    """The function of a command in `ON_RUNS` or `ON_TABLES`."""
    module = import_module(f"mixscale.cli.{'on_runs' if name in ON_RUNS else 'on_tables'}")
    return getattr(module, name.replace("-", "_"))
