"""Runs of the project from its embedded text, as a sweep trains them: what they cost beyond the compiled loop."""

from __future__ import annotations

import multiprocessing
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
    """Seconds of a dispatch in a whole run, and of the compiled loop alone; and the share between them.

    Both are medians, taken in turns, so that a machine that slows down meanwhile slows both.
    """
    from mixscale.train import Run, Trainer
    from training.ours import job

    steps = 32
    asked = experiment(out, shape, dispatches * steps)
    store = build_store(asked.corpus, progress=False)
    run = Run(Mixture.uniform(DOMAINS), "proxy", shape.model, asked.optimiser, asked.train, 0, store.id)
    trainer = Trainer(run, store, 0, replace(asked.machine, steps_per_dispatch=steps))
    alone = job(replace(shape, steps=steps), "float32")
    alone()
    whole, loop = [], []
    for number in range(rounds):
        stamps = _stamps(trainer, replace(run, seed=number))
        # The first dispatch compiles, and the second is handed over while the first is computed.
        whole += [b - a for a, b in zip(stamps[2:], stamps[3:], strict=False)]
        for _ in range(dispatches):
            began = time.perf_counter()
            alone()
            loop.append(time.perf_counter() - began)
    return {"run_s": median(whole), "loop_s": median(loop), "share": 1.0 - median(loop) / median(whole)}


def _stamps(trainer: Trainer, run: Run) -> list[float]:
    """Times at which a run handed over its dispatches."""
    from mixscale.train import train_run

    stamps: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        train_run(trainer, run, Path(folder), lambda _: stamps.append(time.perf_counter()))
    return stamps


def launches(out: Path, shape: Shape, steps: int) -> list[dict[str, float]]:
    """Two launches of a grid of 32 runs of one shape, the second with the first's compiled programs.

    Seconds from the start of training, imports done, to the first steps handed to the device; programs of the
    training loop that were compiled; runs.
    """
    asked = experiment(out, shape, steps)
    store = build_store(asked.corpus, progress=False)
    kept = Path(asked.corpus.cache) / "compiled"
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
    import jax.extend  # noqa: F401  (what a worker imports is not part of the time)

    import mixscale.train  # noqa: F401
    from mixscale.sweep.worker import work

    planned = plan(asked, TokenStore.open(store_path))
    began, stamps, ended = time.perf_counter(), [], []

    def report(what: object) -> None:
        (ended if isinstance(what, dict) else stamps).append(time.perf_counter() - began)

    work(asked, store_path, planned, report)
    end.send({"first_step_s": stamps[0], "first_run_s": ended[0], "all_s": ended[-1], "runs": len(ended)})


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
