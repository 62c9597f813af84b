"""Runs of the project from its embedded text, as a sweep trains them: when they begin, what bfloat16 does."""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from mixscale.config import Corpus, Design, Embedded, Experiment, Tokenizer, Train
from mixscale.data import TokenStore, build_store
from mixscale.mixture import Mixture
from mixscale.mixtures.schedule import Constant
from mixscale.sweeps.plan import plan
from training.shapes import SMALL, Shape

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


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _launch(end: Connection, asked: Experiment, store_path: Path) -> None:
    # What is imported is not part of the time; tensorboardX imports PyTorch where there is one.
    import tensorboardX  # noqa: F401

    import mixscale.training  # noqa: F401
    from mixscale.sweeps.worker import work

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
    from mixscale.training import Run, Trainer, train_run

    found = {}
    for name, dtype, seed in (
        ("float32", "float32", 0),
        ("bfloat16", "bfloat16", 0),
        ("float32, another seed", "float32", 1),
    ):
        asked = experiment(out, SMALL["0.15M"], steps, dtype)
        store = build_store(asked.corpus, progress=False)
        model = asked.models["proxy"]
        run = Run(Constant(Mixture.uniform(DOMAINS)), "proxy", model, asked.optimizer, asked.train, seed, store.id)
        with tempfile.TemporaryDirectory() as folder:
            row = train_run(Trainer(run, store, 0, asked.machine), run, Path(folder), lambda _: None)[-1]
        found[name] = sum(row[f"loss/{domain}"] for domain in DOMAINS) / len(DOMAINS)
    return found
