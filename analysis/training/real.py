"""Runs of the project from its embedded text, as a sweep trains them: what they cost beyond the compiled loop."""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from mixscale.corpus import TokenStore, build_store
from mixscale.experiment import Corpus, Design, Embedded, Experiment, Tokenizer, Train
from mixscale.mixture import Mixture
from mixscale.sweep.plan import plan
from training.shapes import SMALL, Shape

if TYPE_CHECKING:
    from mixscale.train import Run, Trainer

DOMAINS = ("code", "fiction", "wiki")


def experiment(out: Path, shape: Shape, steps: int, dtype: str = "float32") -> Experiment:
    """One shape on three embedded domains; compiled programs and tokens are kept under `out`."""
    return Experiment(
        name="real",
        corpus=Corpus(
            domains={name: Embedded(name) for name in DOMAINS},
            tokenizer=Tokenizer(kind="bpe", vocab_size=shape.vocab),
            context=shape.context,
            cache=str(out / "cache"),
        ),
        models={"proxy": shape.model},
        train=Train(tokens=steps * shape.batch * shape.context, batch=shape.batch, dtype=dtype),
        design=Design(dirichlet=28, held_out=0, replicates=0),
        output=str(out),
    )


def outside(out: Path, shape: Shape, dispatches: int, rounds: int) -> dict[str, float]:
    """Seconds of a dispatch in a whole run and in the compiled loop alone, and the share between them.

    Of each round the mean over all dispatches, those after which a checkpoint is saved included, and of the rounds
    the median; run and loop take turns, so that a machine that slows down meanwhile slows both. In wall time, and in
    the process's own processor time, in which threads that write files meanwhile count, although they need not hold
    up the loop.
    """
    from mixscale.train import Run, Trainer
    from training.ours import job

    steps = 32
    asked = experiment(out, shape, dispatches * steps)
    store = build_store(asked.corpus, progress=False)
    run = Run(Mixture.uniform(DOMAINS), "proxy", shape.model, asked.optimiser, asked.train, 0, store.id)
    trainer = Trainer(run, store, 0, replace(asked.machine, steps_per_dispatch=steps, checkpoint_steps=6 * steps))
    alone = job(replace(shape, steps=steps), "float32")
    alone()
    # Compiles all that a run needs, that which begins a branch and copies a state for a checkpoint included.
    short = replace(run, train=replace(run.train, tokens=3 * steps * shape.batch * shape.context))
    _stamps(trainer, short)
    whole, loop = [], []
    for number in range(rounds):
        # The second dispatch is handed over while the first is computed; from then on one is always on the way.
        stamps = _stamps(trainer, replace(run, seed=number))[2:]
        (first, began), (last, ended) = stamps[0], stamps[-1]
        # Where a segment ends a dispatch is shorter, so steps are counted.
        whole.append(_each(began, ended, (last - first) / steps))
        began = _clocks()
        for _ in range(dispatches):
            alone()
        loop.append(_each(began, _clocks(), dispatches))
    run_s, run_cpu_s = (median(part) for part in zip(*whole, strict=True))
    loop_s, loop_cpu_s = (median(part) for part in zip(*loop, strict=True))
    found = {"run_s": run_s, "loop_s": loop_s, "share": 1 - loop_s / run_s}
    return found | {"run_cpu_s": run_cpu_s, "loop_cpu_s": loop_cpu_s, "cpu_share": 1 - loop_cpu_s / run_cpu_s}


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _each(began: tuple[float, float], ended: tuple[float, float], count: float) -> tuple[float, float]:
    return (ended[0] - began[0]) / count, (ended[1] - began[1]) / count


def _stamps(trainer: Trainer, run: Run) -> list[tuple[int, tuple[float, float]]]:
    """After each dispatch of a run, its steps so far and the time."""
    from mixscale.train import train_run

    stamps: list[tuple[int, tuple[float, float]]] = []
    with tempfile.TemporaryDirectory() as folder:
        train_run(trainer, run, Path(folder), lambda progress: stamps.append((progress.done, _clocks())))
    return stamps


def launches(out: Path, shape: Shape, steps: int) -> list[dict[str, float]]:
    """Two launches of a grid of 32 runs of one shape, the second with the first's compiled programs.

    Seconds from the start of training, imports done, to the first steps handed to the device; programs of the
    training loop that were compiled; runs.
    """
    asked = experiment(out, shape, steps)
    store = build_store(asked.corpus, progress=False)
    kept = Path(asked.corpus.cache) / "compiled"
    shutil.rmtree(kept, ignore_errors=True)
    found = []
    for _ in range(2):
        before = len(list(kept.rglob("jit_steps-*-cache")))
        mine, theirs = multiprocessing.get_context("spawn").Pipe()
        with tempfile.TemporaryDirectory() as folder:
            arguments = theirs, replace(asked, output=folder), store.path
            process = multiprocessing.get_context("spawn").Process(target=_launch, args=arguments)
            process.start()
            theirs.close()
            figures = mine.recv()
            process.join()
        found.append(figures | {"compiled": len(list(kept.rglob("jit_steps-*-cache"))) - before})
    return found


def _launch(end: Connection, asked: Experiment, store_path: Path) -> None:
    # What is imported is not part of the time; tensorboardX imports PyTorch where there is one.
    import tensorboardX  # noqa: F401

    import mixscale.train  # noqa: F401
    from mixscale.sweep.worker import work

    planned = plan(asked, TokenStore.open(store_path))
    began, steps, ended = _clocks(), [], []

    def report(what: object) -> None:
        wall, processor = _clocks()
        (ended if isinstance(what, dict) else steps).append((wall - began[0], processor - began[1]))

    work(asked, store_path, planned, report)
    found = {"first_step_s": steps[0][0], "first_step_cpu_s": steps[0][1], "all_s": ended[-1][0]}
    end.send(found | {"runs": len(ended)})


def losses(out: Path, steps: int) -> dict[str, float]:
    """Mean held-out loss of the smallest shape: in float32, with bfloat16 products, and with another seed."""
    from mixscale.train import Run, Trainer, train_run

    found = {}
    for name, dtype, seed in (
        ("float32", "float32", 0),
        ("bfloat16", "bfloat16", 0),
        ("float32, another seed", "float32", 1),
    ):
        asked = experiment(out, SMALL["0.15M"], steps, dtype)
        store = build_store(asked.corpus, progress=False)
        model = asked.models["proxy"]
        run = Run(Mixture.uniform(DOMAINS), "proxy", model, asked.optimiser, asked.train, seed, store.id)
        with tempfile.TemporaryDirectory() as folder:
            row = train_run(Trainer(run, store, 0, asked.machine), run, Path(folder), lambda _: None)[-1]
        found[name] = sum(row[f"loss/{domain}"] for domain in DOMAINS) / len(DOMAINS)
    return found
