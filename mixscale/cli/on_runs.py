"""Commands on a sweep's folder and on one of its runs. Docstrings are help.

Only `export_model` and `generate` load the training half.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from mixscale.errors import InputError
from mixscale.io import RUNS_CSV, check_output

Run = Annotated[Positional[Path], arg(metavar="RUN")]
Folder = Annotated[Positional[Path], arg(metavar="DIR")]


def status(directory: Folder, /, watch: bool = False, every: float = 5.0) -> None:
    """Shows the progress of a sweep: finished, running, waiting and failed runs, FLOPs spent, time left.

    For example:
      mixscale status runs/quickstart --watch

    Args:
        directory: the experiment's folder.
        watch: keep updating until all runs are finished.
        every: seconds between updates.
    """
    from rich.console import Console
    from rich.live import Live

    from mixscale.sweeps.status import SweepStatus, render

    if not every > 0:
        raise InputError(f"--every is {every:g}; give a number of seconds above zero")
    console = Console()
    now = SweepStatus(directory)
    if not watch:
        console.print(render(now))
        return
    with Live(render(now), console=console, auto_refresh=False, vertical_overflow="visible") as live:
        while not now.done:
            time.sleep(every)
            now = SweepStatus(directory)
            live.update(render(now), refresh=True)


def collect(directory: Folder, /) -> None:
    """Writes the rows of every finished run to runs.csv and runs.parquet.

    For example:
      mixscale collect runs/quickstart

    Args:
        directory: the experiment's folder.
    """
    from mixscale.sweeps import directory as folder

    ended, planned = len(folder.collect(directory).final()), len(folder.read_manifests(directory))
    print(f"{ended} of {planned} planned runs are in {directory / RUNS_CSV}")


def export_model(run: Run, /, out: Path, step: int | None = None, store: Path | None = None) -> None:
    """Writes a trained run as safetensors, with its tokenizer, in the layout that `transformers` loads.

    For example:
      mixscale export-model runs/quickstart/runs/ID --out model

    Args:
        run: folder of the run, DIR/runs/ID.
        out: folder to write.
        step: number of the checkpoint's folder in checkpoints/: optimizer steps, including those of branches that
            decayed for earlier measurements; by default the newest.
        store: folder of the token store, if it is not in the run's cache.
    """
    from mixscale.training.hugging_face import export_model as export

    check_output(out, "folder")
    number = export(run, out, step, store)
    print(f"checkpoint {number} of {run} saved to {out}; load it with AutoModelForCausalLM.from_pretrained('{out}')")


def generate(
    run: Run,
    /,
    prompt: tuple[str, ...],
    tokens: int = 100,
    temperature: float = 0.8,
    top_p: float = 0.95,
    seed: int = 0,
    stop: bool = True,
    store: Path | None = None,
) -> None:
    """Continues prompts with a trained run, or with a Hugging Face model in the Llama or Qwen3 layout.

    For example:
      mixscale generate runs/quickstart/runs/ID --prompt "It was a" "def main" --tokens 50

    Args:
        run: folder of the run, DIR/runs/ID, or of a Hugging Face model, such as export-model writes.
        prompt: beginnings of texts; several are continued together.
        tokens: longest continuation, in tokens; a text also ends where the model's context is full.
        temperature: 0 always takes the most probable token; below 1 prefers probable tokens, above 1 improbable ones.
        top_p: sample only from the most probable tokens that together have this probability; 1 for all tokens.
        seed: the same seed gives the same text.
        stop: end a text at the end-of-document token.
        store: folder of the token store, if it is not in the cache that the run names.
    """
    from mixscale.training.continuation import continue_texts

    found = continue_texts(run, prompt, tokens, temperature, top_p, seed, stop, store)
    for number, text in enumerate(found, 1):
        why = f"; {text.limit}" if text.limit else ""
        print(f"--- prompt {number} ---\n{text.prompt}")
        print(f"--- continuation {number} ({text.tokens} tokens{why}) ---\n{text.text}\n")
