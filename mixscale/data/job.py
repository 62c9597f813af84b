"""A build as its parts see it: what is to be read, in which pieces, and where each keeps what it has found.

Everything that a piece leaves is a file, written whole, so that a build that was killed goes on with the pieces that
are missing. The same pieces in any processes and any order leave the same files.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

import numpy as np

from mixscale.config import Corpus
from mixscale.data import sources
from mixscale.data.cleaning import RULES
from mixscale.data.records import Damage, Document, Piece

REASONS = ("", *RULES, "copy", "near copy", "held out elsewhere", "overlaps held-out text", "beyond the cap")
"""what becomes of a document, by number: the first is kept"""
HELD_OUT = 128
"""added to the number of a document that is held out"""
MOST = 4096
"""pieces of a source, about; larger ones are cut where there would be more"""
TEXTS = 2**12
"""most texts of a batch, since each costs something however short it is"""


@dataclass(frozen=True)
class Job:
    corpus: Corpus
    folder: Path
    """for what is found on the way; goes once the store is whole"""
    groups: tuple[tuple[str, ...], ...]
    """domains of one source, which is read once for all of them"""
    pieces: tuple[tuple[int, Piece], ...]
    """number of a group, and a piece of its source"""

    @classmethod
    def of(cls, corpus: Corpus, folder: Path) -> Job:
        by_whole: dict[sources.Source, list[str]] = {}
        for domain, source in corpus.domains.items():
            by_whole.setdefault(sources.whole(source), []).append(domain)
        found = [(g, piece) for g, source in enumerate(by_whole) for piece in _pieces(source)]
        return cls(corpus, folder, tuple(map(tuple, by_whole.values())), tuple(found))

    @cached_property
    def held_in(self) -> dict[str, tuple[int, ...]]:
        """Numbers of the pieces that each domain may stand in, in order."""
        found: dict[str, list[int]] = {domain: [] for domain in self.corpus.domains}
        for number, (group, _) in enumerate(self.pieces):
            for domain in self.groups[group]:
                found[domain].append(number)
        return {domain: tuple(numbers) for domain, numbers in found.items()}

    def domains(self, number: int) -> tuple[str, ...]:
        """Those that piece `number` may hold."""
        return self.groups[self.pieces[number][0]]

    def path(self, step: str, number: int, domain: str, kind: str) -> Path:
        """File that a step leaves of a domain in a piece."""
        return self.folder / step / f"{number}-{list(self.corpus.domains).index(domain)}.{kind}"

    def done(self, step: str, number: int) -> Path:
        """File that is there once a step has left all of a piece."""
        return self.folder / step / f"{number}.json"

    def opens(self, number: int) -> bool:
        """Whether piece `number` is the first of its source."""
        return number == 0 or self.pieces[number - 1][0] != self.pieces[number][0]

    @property
    def size(self) -> int:
        """Bytes of all pieces."""
        return sum(piece.size for _, piece in self.pieces)


def read(job: Job, number: int, domains: tuple[str, ...]) -> Iterator[tuple[str, Document] | Damage | None]:
    """What stands in a piece: domain and document as it was found, or what is wrong; None for what no one takes."""
    piece = job.pieces[number][1]
    group = [job.corpus.domains[domain] for domain in job.domains(number)]
    takers = [(domain, sources.taker(job.corpus.domains[domain])) for domain in domains]
    for found in sources.records(sources.whole(group[0]), piece, job.corpus.record_bytes, sources.wanted(group)):
        if isinstance(found, Damage):
            yield found
            continue
        nobody = True
        for domain, take in takers:
            document = take(found)
            if document is not None:
                nobody = False
                yield document if isinstance(document, Damage) else (domain, document)
        if nobody:
            yield None


def batches(texts: Iterator[tuple], characters: int) -> Iterator[list[tuple]]:
    """Tuples that begin with a text, in lists of about so many characters together and at most `TEXTS`."""
    batch: list[tuple] = []
    size = 0
    for item in texts:
        batch.append(item)
        size += len(item[0])
        if size >= characters or len(batch) == TEXTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


@contextmanager
def opened_all(job: Job, step: str, number: int, kinds: tuple[str, ...]) -> Iterator[dict[tuple[str, str], IO[bytes]]]:
    """Files that a step leaves of a piece, open for writing: one for each of its domains and kinds."""
    with ExitStack() as stack:
        yield {
            (domain, kind): stack.enter_context(open(job.path(step, number, domain, kind), "wb"))
            for domain in job.domains(number)
            for kind in kinds
        }


def save(path: Path, array: np.ndarray) -> None:
    """Writes an array where a kill may leave half of it; what counts is the file that says the piece is done."""
    # By way of memory, since NumPy's own way to a file has no word for a full disk.
    held = io.BytesIO()
    np.save(held, array, allow_pickle=False)
    path.write_bytes(held.getbuffer())


def _pieces(source: sources.Source) -> list[Piece]:
    found = sources.pieces(source, sources.PIECE)
    if len(found) <= MOST:
        return found
    return sources.pieces(source, sources.PIECE * -(-len(found) // MOST))
