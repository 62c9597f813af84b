"""A build as a job in pieces, and the processes that work on them: one per core if there is much to read.

Everything that a step finds in a piece is a file, so a killed build resumes with the missing pieces. The same pieces
give the same files in any number of processes and in any order.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, TypeVar

from mixscale.config import Corpus, Source
from mixscale.data import sources
from mixscale.data.sources.base import Damage, Document, Piece
from mixscale.errors import Unfinished
from mixscale.io import atomic_write

PARALLEL_BYTES = 2**26  # size of a corpus from which starting processes pays
QUEUED = 2  # pieces waiting for each process
MAX_PIECES = 4096  # of a source, approximately; a source that would have more is read in larger pieces
BATCH_TEXTS = 2**12  # most texts of a batch, because even a short text has a cost
T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    corpus: Corpus
    folder: Path  # of intermediate files; removed once the store is complete
    groups: tuple[tuple[str, ...], ...]  # domains of one source, which is read once for all of them
    pieces: tuple[tuple[int, Piece], ...]  # index of a group, and a piece of its source

    @classmethod
    def plan(cls, corpus: Corpus, folder: Path) -> Job:
        groups: dict[Source, list[str]] = {}
        for domain, source in corpus.domains.items():
            groups.setdefault(source.without_limits(), []).append(domain)
        pieces = [(g, piece) for g, source in enumerate(groups) for piece in _pieces(source)]
        return cls(corpus, folder, tuple(map(tuple, groups.values())), tuple(pieces))

    @cached_property
    def pieces_of(self) -> dict[str, tuple[int, ...]]:
        """Numbers of the pieces that may contain documents of each domain, in order."""
        found: dict[str, list[int]] = {domain: [] for domain in self.corpus.domains}
        for number, (group, _) in enumerate(self.pieces):
            for domain in self.groups[group]:
                found[domain].append(number)
        return {domain: tuple(numbers) for domain, numbers in found.items()}

    def domains(self, number: int) -> tuple[str, ...]:
        return self.groups[self.pieces[number][0]]

    def path(self, step: str, number: int, domain: str, kind: str) -> Path:
        return self.folder / step / f"{number}-{list(self.corpus.domains).index(domain)}.{kind}"

    def once(self, name: str, compute: Callable[[], T]) -> T:
        """What `compute` returns (JSON), from a file if an earlier build has computed it."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            result = compute()
            with atomic_write(path) as temporary:
                temporary.write_text(json.dumps(result), "utf-8")
        return json.loads(path.read_text("utf-8"))

    def read(self, number: int, domains: tuple[str, ...]) -> Iterator[tuple[str, Document] | Damage | None]:
        """Domain and document of each record of a piece, or its damage; None for a record without a domain."""
        group = [self.corpus.domains[domain] for domain in self.domains(number)]
        takers = [(domain, sources.reader(self.corpus.domains[domain]).take) for domain in domains]
        whole, piece = group[0].without_limits(), self.pieces[number][1]
        for found in sources.reader(whole).records(piece, self.corpus.max_record_bytes, sources.keys(group)):
            if isinstance(found, Damage):
                yield found
                continue
            taken = [(domain, document) for domain, take in takers if (document := take(found)) is not None]
            if not taken:
                yield None
            for domain, document in taken:
                yield document if isinstance(document, Damage) else (domain, document)

    @contextmanager
    def opened(self, step: str, number: int, kinds: tuple[str, ...]) -> Iterator[dict[tuple[str, str], IO[bytes]]]:
        """The files of a step in a piece, open for writing, by domain and kind."""
        (self.folder / step).mkdir(exist_ok=True)
        with ExitStack() as stack:
            yield {
                (domain, kind): stack.enter_context(open(self.path(step, number, domain, kind), "wb"))
                for domain in self.domains(number)
                for kind in kinds
            }


def batches(texts: Iterator[tuple], characters: int) -> Iterator[list[tuple]]:
    """Lists of tuples that start with a text: about `characters` together, and at most `BATCH_TEXTS` of them."""
    batch: list[tuple] = []
    size = 0
    for item in texts:
        batch.append(item)
        size += len(item[0])
        if size >= characters or len(batch) == BATCH_TEXTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _pieces(source: Source) -> list[Piece]:
    read = sources.reader(source)
    found = read.pieces(sources.PIECE)
    return found if len(found) <= MAX_PIECES else read.pieces(sources.PIECE * -(-len(found) // MAX_PIECES))


# Processes

# Applies a function to pieces of a job; gives number and result of each, in order.
Map = Callable[[Callable[[Job, int], T], Iterable[int]], Iterator[tuple[int, T]]]


@contextmanager
def worker_pool(job: Job) -> Iterator[Map]:
    """Raises Unfinished if a process is killed."""
    workers = _workers(job)
    if workers == 1:
        yield lambda function, numbers: ((number, function(job, number)) for number in numbers)
        return
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    with ProcessPoolExecutor(workers, context, _start, (job, stop)) as pool:
        try:
            yield lambda function, numbers: _in_order(pool, workers, function, numbers)
        except BrokenProcessPool as error:
            raise Unfinished(
                "a process that reads the corpus was killed, perhaps because memory ran out. Progress is saved; rerun "
                f"the same command to resume, with a smaller --corpus.workers (now {workers}) if memory is short"
            ) from error
        finally:
            # Do not wait for the pieces in progress.
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)


def _workers(job: Job) -> int:
    if job.corpus.workers:
        return job.corpus.workers
    if sum(piece.size for _, piece in job.pieces) < PARALLEL_BYTES or multiprocessing.current_process().daemon:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_order(
    pool: ProcessPoolExecutor, workers: int, function: Callable[[Job, int], T], numbers: Iterable[int]
) -> Iterator[tuple[int, T]]:
    waiting: deque[tuple[int, Future[T]]] = deque()
    for number in numbers:
        waiting.append((number, pool.submit(_apply, function, number)))
        if len(waiting) >= workers * QUEUED:
            first, future = waiting.popleft()
            yield first, future.result()
    for first, future in waiting:
        yield first, future.result()


_job: Job


def _start(job: Job, stop: Any) -> None:
    """Prepares a process, which exits with its parent or at `stop`, and leaves Ctrl-C to the parent."""
    global _job
    _job = job
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # With one process per core, each needs no more threads.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    parent = multiprocessing.parent_process()
    for ended in (parent.join, stop.wait) if parent else (stop.wait,):
        threading.Thread(target=_exit_after, args=(ended,), daemon=True).start()


def _apply(function: Callable[[Job, int], T], number: int) -> T:
    return function(_job, number)


def _exit_after(wait: Callable[[], Any]) -> None:
    wait()
    os._exit(0)
