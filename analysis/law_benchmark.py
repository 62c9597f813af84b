"""Measures every method on the public run tables, on frozen splits; writes a CSV file, tables and figures.

    python analysis/law_benchmark.py DATA_DIR --out runs/benchmark
    python analysis/law_benchmark.py DATA_DIR --only regmix,3mix --quick
    python analysis/law_benchmark.py DATA_DIR --docs docs/benchmark.md

DATA_DIR holds the folders regmix, mixinglaws_3mix, olmix_dclm, pile4 and datablations; one that is not there is
skipped. What is measured is added to OUT/cells.csv as it comes, and is not measured again by the next call: an
interrupted run resumes, and a run in which nothing is left to measure only draws. `docs/benchmark.md` says what each
number means.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tyro
from benchmark import document, figures, planted, proposals, report, timings
from benchmark.cells import Cell, attempt, of_task
from benchmark.store import Store
from benchmark.tables import FOLDERS
from benchmark.tasks import TASKS
from rich.console import Console
from rich.markup import escape
from threadpoolctl import threadpool_limits

EXTRA = ("planted", "proposals", "timings")
SHOWN = ("rho", "mae", "relative", "r2", "coverage", "optimum_inside", "judged")


@dataclass(frozen=True)
class Benchmark:
    """What to measure."""

    data: tyro.conf.Positional[Path]
    """folder that holds the tables' folders"""
    out: Path = Path("runs/benchmark")
    only: str = ""
    """tables or other parts, with commas: regmix,3mix,3mix-scale,olmix,pile4,datablations,planted,proposals,timings"""
    methods: str = ""
    """methods, with commas; all by default"""
    quick: bool = False
    """fewer splits, targets, bootstrap refits and trials, as a test; kept apart from the whole benchmark's results"""
    again: bool = False
    """measure what was measured before once more"""
    bootstrap: int = 100
    """bootstrap refits for each interval"""
    trials: int = 200
    """planted tables for each law; 5 with --quick"""
    docs: Path | None = None
    """document whose tables are filled in, with figures in a folder `figures` beside it"""


def main(benchmark: Benchmark) -> None:
    """Measures what is left, then writes tables and figures."""
    console = Console(highlight=False, soft_wrap=True)
    store = Store(benchmark.out / "quick" if benchmark.quick else benchmark.out)
    planned = list(cells(benchmark, console))
    if unknown := set(names(benchmark.methods)) - {cell.about["method"] for cell in planned}:
        sys.exit(f"--methods names '{min(unknown)}', which none of the chosen tables is measured with")
    done = set() if benchmark.again else store.done()
    left = [cell for cell in planned if (cell.key, cell.split_id) not in done]
    console.print(f"{len(planned)} cells, {len(planned) - len(left)} of them measured before; {store.file}")
    begin = time.perf_counter()
    # Matrices are small: threads of BLAS would wait for each other, and times depend on who else is there.
    with threadpool_limits(1):
        for number, cell in enumerate(left, 1):
            rows, shown = attempt(cell)
            store.add(rows, shown)
            console.print(escape(f"[{number}/{len(left)}] {line(cell, rows)}"))
    console.print(f"measured in {time.perf_counter() - begin:.0f} s")
    found, shown = store.read(), store.shown()
    written = report.write(found, store.folder / "tables")
    pictures = figures.draw(found, shown, store.folder / "figures")
    console.print(f"{len(written)} tables and {len(pictures)} figures in {store.folder}")
    if benchmark.docs:
        document.fill(benchmark.docs, written | {"run": document.about(found, command(benchmark))})
        figures.draw(found, shown, benchmark.docs.parent / "figures")
        console.print(f"filled the tables of {benchmark.docs}")


def cells(benchmark: Benchmark, console: Console) -> Iterator[Cell]:
    """Everything that was asked for, in the order in which it is measured."""
    asked, wanted = names(benchmark.only) or [*TASKS, *EXTRA], set(names(benchmark.methods))
    if unknown := [name for name in asked if name not in (*TASKS, *EXTRA)]:
        sys.exit(f"--only names '{unknown[0]}'; known are {', '.join((*TASKS, *EXTRA))}")
    bootstrap = min(benchmark.bootstrap, 10) if benchmark.quick else benchmark.bootstrap
    for name in asked:
        needs = {"3mix-scale": "3mix", "proposals": "regmix", "timings": "regmix"}.get(name, name)
        if needs in FOLDERS and not (benchmark.data / FOLDERS[needs]).is_dir():
            console.print(f"{name} is skipped: DATA_DIR has no folder '{FOLDERS[needs]}'")
        elif name == "planted":
            trials = min(benchmark.trials, 5) if benchmark.quick else benchmark.trials
            yield from planted.cells(trials, wanted, benchmark.quick)
        elif name in TASKS:
            for task in TASKS[name](benchmark.data, benchmark.quick):
                yield from of_task(task, bootstrap, wanted)
        elif not wanted:  # these two are of no one method
            all_of = proposals.cells if name == "proposals" else timings.cells
            yield from all_of(benchmark.data, benchmark.quick, bootstrap)


def names(text: str) -> list[str]:
    """The names in a text with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def line(cell: Cell, rows: list[dict]) -> str:
    """What came of a cell, in one line."""
    about = cell.about
    words = [f"{about['table']}, {about['split']}, {about['runs']} runs, seed {about['seed']}: {about['method']}"]
    if rows[0]["status"] == "cannot":
        return f"{words[0]}: {rows[0]['reason']}"
    first = rows[0]
    words += [f"{name} {first[name]:.4g}" for name in SHOWN if isinstance(first.get(name), float)]
    words.append(f"{first['seconds']:.1f} s")
    return "  ".join(words) + (f"  ({first['chosen']})" if first.get("chosen") else "")


def command(benchmark: Benchmark) -> str:
    """The command that gives these results, without the places where they lie here."""
    return "python analysis/law_benchmark.py DATA_DIR" + (" --quick" if benchmark.quick else "")


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
