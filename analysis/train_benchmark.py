"""Measures how fast training is on this machine, against plain PyTorch and against its own parts; writes tables.

    pip install -e '.[hf]'        # PyTorch, which is only compared with
    python analysis/train_benchmark.py
    python analysis/train_benchmark.py --only twin,roofline --quick
    python analysis/train_benchmark.py --docs docs/performance.md

Parts: `twin` (tokens a second against the twin in PyTorch), `losses` (what bfloat16 products do to the loss),
`outside` (what a run costs beside the computing), `launch` (time to the first step, and of the second launch),
`population` (runs together against one by one), `roofline` (matrix products alone against the step) and `mfu`
(accelerators only). What a part measured is kept in OUT/PART.json. `docs/performance.md` says what each number means.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import tyro
from benchmark import document
from rich.console import Console
from training import tables
from training.rounds import Job, in_turns
from training.shapes import LARGE, PROXY, SMALL

Rows = list[dict[str, object]]


@dataclass(frozen=True)
class Benchmark:
    """What to measure."""

    out: Path = Path("runs/train-benchmark")
    only: str = ""
    """parts, with commas; all where nothing is said"""
    quick: bool = False
    """few rounds of the smallest shape, to see it work; kept apart from the whole benchmark's results"""
    rounds: int = 7
    """of each timing"""
    docs: Path | None = None
    """document whose tables are filled in"""


def main(benchmark: Benchmark) -> None:
    """Measures the parts that are asked for, prints their tables and fills the document."""
    console = Console(highlight=False, soft_wrap=True)
    out = benchmark.out / "quick" if benchmark.quick else benchmark.out
    out.mkdir(parents=True, exist_ok=True)
    asked = [name.strip() for name in benchmark.only.split(",") if name.strip()] or list(PARTS)
    if unknown := [name for name in asked if name not in PARTS]:
        raise SystemExit(f"--only names '{unknown[0]}'; known are {', '.join(PARTS)}")
    for name in asked:
        rows = PARTS[name](benchmark, out)
        (out / f"{name}.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
        console.print(f"\n{name}\n{tables.markdown(name, rows)}")
    written = {file.stem: tables.markdown(file.stem, json.loads(file.read_text())) for file in out.glob("*.json")}
    if benchmark.docs:
        document.fill(benchmark.docs, written | {"machine": machine()})
        console.print(f"filled the tables of {benchmark.docs}")


def twin(benchmark: Benchmark, out: Path) -> Rows:
    """Ours and PyTorch in turns, on one core and on all."""
    rows = []
    cores = sorted(os.sched_getaffinity(0))
    for used in [cores[:1]] if benchmark.quick or len(cores) == 1 else [cores[:1], cores]:
        for name, shape in shapes(benchmark).items():
            jobs = [Job(f"ours {dtype}", "training.ours", (shape, dtype)) for dtype in ("float32", "bfloat16")]
            jobs += [Job("torch", "training.twin", (shape, "float32", len(used)))]
            jobs += [Job("torch bfloat16", "training.twin", (shape, "bfloat16", len(used)))]
            found = in_turns(jobs, used, 1 if benchmark.quick else benchmark.rounds)
            for job, timed in found.items():
                against = {f"{kind}_ratio": getattr(timed, kind) / getattr(found["torch"], kind) for kind in KINDS}
                rows.append({"shape": name, "cores": len(used), "job": job} | vars(timed) | against)
    return rows


def losses(benchmark: Benchmark, out: Path) -> Rows:
    from training import real

    return [{"job": job, "loss": loss} for job, loss in real.losses(out, 20 if benchmark.quick else 400).items()]


def outside(benchmark: Benchmark, out: Path) -> Rows:
    from training.outside import outside

    found = {name: outside(out, shape, 10 if benchmark.quick else 28) for name, shape in shapes(benchmark).items()}
    return [{"shape": name} | row for name, row in found.items()]


def launch(benchmark: Benchmark, out: Path) -> Rows:
    from training import real

    found = real.launches(out, SMALL["0.15M"], 8)
    return [{"launch": name} | row for name, row in zip(("first", "second"), found, strict=True)]


def population(benchmark: Benchmark, out: Path) -> Rows:
    import jax
    from training.ours import job, timed

    cpu = jax.default_backend() == "cpu"
    shape, dtype = (SMALL["0.15M"], "float32") if cpu else (PROXY, "bfloat16")
    rows: Rows = []
    for runs in (1, 2) if benchmark.quick else (1, 2, 4, 8) if cpu else (1, 8, 32, 128):
        once = job(shape, dtype, runs)
        tokens = once()
        per_second = tokens / timed(once, benchmark.rounds)
        first = rows[0]["per_second"] if rows else per_second
        rows.append({"backend": jax.default_backend(), "runs": runs, "per_second": per_second})
        rows[-1]["ratio"] = per_second / first
    return rows


def roofline(benchmark: Benchmark, out: Path) -> Rows:
    from training.roofline import account

    found = []
    for name, shape in shapes(benchmark).items():
        for dtype in ("float32", "bfloat16"):
            found.append({"shape": name, "dtype": dtype} | account(shape, dtype, benchmark.rounds))
    return found


def mfu(benchmark: Benchmark, out: Path) -> Rows:
    import jax
    from training.ours import job, timed

    from mixscale.models import flops_per_token
    from mixscale.training.metrics import peak_flops

    if jax.default_backend() == "cpu":
        return []
    rows = []
    for name, shape in LARGE.items():
        once = job(shape, "bfloat16", scan=True)
        per_second = once() / timed(once, benchmark.rounds)
        flops = per_second * flops_per_token(shape.model, shape.vocab, shape.context)
        peak = peak_flops(jax.devices()[:1], "bfloat16")
        device = jax.devices()[0].device_kind
        rows.append({"shape": name, "device": device, "per_second": per_second, "mfu": flops / peak if peak else None})
    return rows


def shapes(benchmark: Benchmark) -> dict:
    return {"0.15M": SMALL["0.15M"]} if benchmark.quick else SMALL


def machine() -> str:
    """What the tables were measured with."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    there = {name: _version(name) for name in ("jax", "jaxlib", "torch")}
    packages = ", ".join(f"{name} {version}" for name, version in there.items() if version)
    name = model[0].split(":")[1].strip() if model else platform.processor()
    return f"{name}, {len(os.sched_getaffinity(0))} cores; Python {platform.python_version()}, {packages}."


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


KINDS = ("wall", "processor")
PARTS: dict[str, Callable[[Benchmark, Path], Rows]] = {
    part.__name__: part for part in (twin, losses, outside, launch, population, roofline, mfu)
}

if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
