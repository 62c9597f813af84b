"""Real text and a real token store, small enough to train on in seconds."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compiled programs are kept between tests, their subprocesses and runs of the suite.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".cache" / "jax-tests"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

from mixscale.config import (  # noqa: E402
    Corpus,
    Design,
    Embedded,
    Experiment,
    Machine,
    Mesh,
    Model,
    Optimizer,
    TextFiles,
    Tokenizer,
    Train,
    Verify,
)
from mixscale.data import TokenStore, build_store, documents  # noqa: E402

DOMAINS = ("code", "fiction", "romance")
LONG = ("sweeps", "training")  # folders whose tests take longest
SEPARATOR = "=== next document ==="


def pytest_configure(config: pytest.Config) -> None:
    """Gives this process eight devices, or one if no test of a mesh is selected; JAX has not started yet."""
    devices = 1 if "not mesh" in config.option.markexpr else 8
    os.environ.setdefault("XLA_FLAGS", f"--xla_force_host_platform_device_count={devices}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that of several processes none is left with them at the end."""
    items.sort(key=lambda item: item.path.parent.name not in LONG)


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one text file a domain, 60 documents each."""
    folder = tmp_path_factory.mktemp("texts")
    for domain in DOMAINS:
        chosen = [document.text[:1500] for document in islice(documents(Embedded(domain)), 60)]
        (folder / f"{domain}.txt").write_text(f"\n{SEPARATOR}\n".join(chosen), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def corpus(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(
        domains={d: TextFiles(str(texts / f"{d}.txt"), separator=SEPARATOR) for d in DOMAINS},
        tokenizer=Tokenizer(kind="bytes"),
        context=32,
        validation_share=0.2,
        cache=str(tmp_path_factory.mktemp("cache")),
    )


@pytest.fixture(scope="session")
def store(corpus: Corpus) -> TokenStore:
    return build_store(corpus, progress=False)


@pytest.fixture(scope="session")
def small(corpus: Corpus) -> Experiment:
    """An experiment whose runs take a second each."""
    return Experiment(
        name="small",
        corpus=corpus,
        models={"tiny": Model(d_model=16, layers=1, heads=2, kv_heads=1)},
        optimizer=Optimizer(learning_rate=0.01),
        train=Train(tokens=32 * 8 * 40, batch=8, validation_rows=8),
        design=Design(dirichlet=4, held_out=2, replicates=1),
        verify=Verify(seeds=(11, 12)),
        machine=Machine(workers=2, mesh=Mesh(data=1), steps_per_dispatch=4, checkpoint_steps=8),
    )
