"""What becomes of every document: held out, trained on, or left out and why.

Works are held out whole, never a part of one. Where the same text stands in a work that is held out and in one that
is not, training loses it, so that no text is in both splits. Nothing here reads text: the survey is enough.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mixscale.data import near, overlap, sources
from mixscale.data.job import HELD_OUT, REASONS, Job
from mixscale.data.survey import DOCUMENT, SEQUENCES, SKETCH, STEP, surveyed
from mixscale.errors import InputError

COPY, NEAR, ELSEWHERE, OVERLAPS, BEYOND = (
    REASONS.index(reason)
    for reason in ("copy", "near copy", "held out elsewhere", "overlaps held-out text", "beyond the cap")
)
EMPTY = REASONS.index("empty")
HELD_OUT_TEXT = "held-out"
"""file of the sequences that training text may not share"""


@dataclass(frozen=True)
class Decided:
    """What a build does with the documents of its pieces."""

    pieces: tuple[int, ...]
    """those that are read; others hold nothing below the caps"""
    reason: dict[str, np.ndarray]
    """place in `REASONS` of each document of a domain, and `HELD_OUT`, uint8, in the order of the pieces"""
    first: dict[str, dict[int, int]]
    """of each domain, where the documents of a piece begin in `reason`"""
    train_characters: int
    """least of any domain, without copies inside it; what only another domain holds out is still counted"""
    duplication: dict[str, float]
    """share of a domain's documents that repeat another of it; near copies too where they are looked for"""
    shared: dict[str, dict[str, float]]
    """share of a domain's documents that stand in another domain too"""

    def of(self, domain: str, number: int) -> np.ndarray:
        """Reasons of the documents that a domain has in a piece."""
        return self.reason[domain][self.place(domain, number)]

    def place(self, domain: str, number: int) -> slice:
        """Where the documents that a domain has in a piece stand among all of the domain."""
        return slice(self.first[domain][number], self._end[domain][number])

    @cached_property
    def _end(self) -> dict[str, dict[int, int]]:
        """Where the documents of a piece end, as `first` is where they begin."""
        return {
            domain: dict(zip(first, [*list(first.values())[1:], len(self.reason[domain])], strict=True))
            for domain, first in self.first.items()
        }


def toward_caps(documents: np.ndarray) -> np.ndarray:
    """What each document adds to the documents and bytes that a cap counts, int64 (D, 2)."""
    there_D = (documents["rule"] != EMPTY).astype(np.int64)
    return np.stack([there_D, documents["bytes"] * there_D], 1)


def is_full(job: Job, domain: str, taken: np.ndarray) -> bool:
    """Whether so many documents and bytes (2,) go beyond a domain's caps on them."""
    return bool((taken > _limits(job, domain)).any())


def _within_cap(job: Job, domain: str, documents: np.ndarray) -> np.ndarray:
    """Which of a domain's documents lie below its caps on documents and bytes."""
    limits = _limits(job, domain)
    if np.isinf(limits).all():
        return np.ones(len(documents), bool)
    return (np.cumsum(toward_caps(documents), 0) <= limits).all(1)


def _limits(job: Job, domain: str) -> np.ndarray:
    cap = sources.cap(job.corpus.domains[domain])
    return np.array([np.inf if limit is None else limit for limit in (cap.documents, cap.bytes)])


def decide(job: Job, pieces: Collection[int]) -> Decided:
    """Decides over all documents of some pieces.

    Raises:
        InputError: a domain has no text.
    """
    known = set(pieces)
    held_in = {domain: [n for n in numbers if n in known] for domain, numbers in job.held_in.items()}
    all_D, first, of_domain = _surveyed(job, held_in)
    reasons = []
    for domain, documents in of_domain.items():
        if not (documents["rule"] != EMPTY).any():
            raise InputError(f"domain '{domain}' has no text: {job.corpus.domains[domain]} gave no document")
        reasons.append(np.where(_within_cap(job, domain, documents), documents["rule"], np.uint8(BEYOND)))
    domain_D = np.repeat(np.arange(len(of_domain)), [len(d) for d in of_domain.values()])
    reason_D = np.concatenate(reasons)
    usable_D = reason_D == 0
    text_D = _same_text(all_D["digest"])
    characters = _train_characters(all_D, domain_D, text_D, usable_D)
    _leave_out_copies(job, all_D["held_out"], domain_D, text_D, reason_D)
    group_D = text_D
    # An empty file cannot be mapped.
    if job.corpus.cleaning.near_copies != "keep" and (all_D["rule"] == 0).any():
        group_D = _near_groups(job, held_in, all_D["rule"] == 0, domain_D)
        _leave_out_near_copies(all_D["held_out"], group_D, reason_D)
    duplication, shared = _sharing(list(of_domain), domain_D[usable_D], group_D[usable_D])
    ends = np.cumsum([len(d) for d in of_domain.values()])
    reason_D |= np.where(all_D["held_out"], np.uint8(HELD_OUT), np.uint8(0))
    reason = dict(zip(of_domain, np.split(reason_D, ends[:-1]), strict=True))
    decided = Decided(tuple(pieces), reason, first, characters, duplication, shared)
    if job.corpus.cleaning.overlap:
        overlap.write(job.folder / HELD_OUT_TEXT, lambda: _held_out_sequences(job, of_domain, decided))
    return decided


def _surveyed(
    job: Job, held_in: dict[str, list[int]]
) -> tuple[np.ndarray, dict[str, dict[int, int]], dict[str, np.ndarray]]:
    """All documents, where those of each piece begin in their domain, and the documents of each domain, not copied."""
    parts = {d: [surveyed(job, n, d) for n in numbers] for d, numbers in held_in.items()}
    first = {d: dict(zip(held_in[d], np.cumsum([0, *map(len, parts[d])]).tolist(), strict=False)) for d in held_in}
    all_D = np.concatenate([np.zeros(0, DOCUMENT), *(part for found in parts.values() for part in found)])
    ends = np.cumsum([sum(map(len, found)) for found in parts.values()])
    return all_D, first, dict(zip(held_in, np.split(all_D, ends[:-1]), strict=True))


def _same_text(digest_Dx2: np.ndarray) -> np.ndarray:
    """A number for each document that is equal where the texts are."""
    order = np.lexsort((digest_Dx2[:, 1], digest_Dx2[:, 0]))
    differs = np.concatenate([[0], (digest_Dx2[order[1:]] != digest_Dx2[order[:-1]]).any(1)])
    number_D = np.empty(len(order), np.int64)
    number_D[order] = np.cumsum(differs)
    return number_D


def _train_characters(all_D: np.ndarray, domain_D: np.ndarray, text_D: np.ndarray, usable_D: np.ndarray) -> int:
    at = np.flatnonzero(usable_D & ~all_D["held_out"])
    _, firsts = np.unique(domain_D[at] * len(text_D) + text_D[at], return_index=True)
    counted = at[firsts]
    domains = domain_D.max() + 1
    return int(np.bincount(domain_D[counted], all_D["characters"][counted], minlength=domains).min())


def _leave_out_copies(
    job: Job, held_out_D: np.ndarray, domain_D: np.ndarray, text_D: np.ndarray, reason_D: np.ndarray
) -> None:
    held_out_text = np.zeros(len(text_D), bool)
    held_out_text[text_D[(reason_D == 0) & held_out_D]] = True
    reason_D[(reason_D == 0) & ~held_out_D & held_out_text[text_D]] = ELSEWHERE
    scope = job.corpus.cleaning.copies
    if scope != "keep":
        at = np.flatnonzero(reason_D == 0)
        key = text_D[at] if scope == "corpus" else domain_D[at] * len(text_D) + text_D[at]
        _, firsts = np.unique(key, return_index=True)
        reason_D[np.delete(at, firsts)] = COPY


def _leave_out_near_copies(held_out_D: np.ndarray, group_D: np.ndarray, reason_D: np.ndarray) -> None:
    """Each group keeps its first document, or the first that is held out, since training must not lose it alone."""
    at = np.flatnonzero(reason_D == 0)
    order = at[np.lexsort((at, ~held_out_D[at], group_D[at]))]
    _, firsts = np.unique(group_D[order], return_index=True)
    reason_D[np.delete(order, firsts)] = NEAR


def _near_groups(job: Job, held_in: dict[str, list[int]], sketched_D: np.ndarray, domain_D: np.ndarray) -> np.ndarray:
    """Group of each document; one without a sketch is a group of its own."""
    cleaning = job.corpus.cleaning
    of = domain_D[sketched_D] if cleaning.near_copies == "domain" else None
    with tempfile.TemporaryFile(dir=job.folder) as together:
        for path in (job.path(STEP, n, d, SKETCH) for d in held_in for n in held_in[d]):
            with open(path, "rb") as part:
                shutil.copyfileobj(part, together)
        together.flush()
        sketch_DxP = np.memmap(together, np.uint32, "r", shape=(int(sketched_D.sum()), near.PLACES))
        found = near.groups(sketch_DxP, cleaning.similarity, of)
    group_D = np.arange(len(sketched_D), dtype=np.int64) + len(sketched_D)
    group_D[sketched_D] = found
    return group_D


def _sharing(
    domains: list[str], domain_D: np.ndarray, group_D: np.ndarray
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    from scipy.sparse import coo_array

    groups, number_D = np.unique(group_D, return_inverse=True)
    counts = coo_array((np.ones(len(number_D)), (number_D, domain_D)), shape=(len(groups), len(domains))).tocsr()
    documents = np.bincount(domain_D, minlength=len(domains))
    there = (counts > 0).astype(float)
    distinct = there.sum(0)
    both = (counts.T @ there).toarray()
    share = both / np.maximum(documents, 1)[:, None]
    duplication = {d: float(1 - distinct[k] / max(documents[k], 1)) for k, d in enumerate(domains)}
    shared = {d: {e: float(share[k, j]) for j, e in enumerate(domains) if j != k} for k, d in enumerate(domains)}
    return duplication, shared


def _held_out_sequences(job: Job, of_domain: dict[str, np.ndarray], decided: Decided) -> Iterator[np.ndarray]:
    """Hashes of the sequences of the documents that are held out, a piece at a time."""
    for domain, documents in of_domain.items():
        for number in decided.first[domain]:
            hashes = np.fromfile(job.path(STEP, number, domain, SEQUENCES), np.uint64)
            kept = decided.of(domain, number) == HELD_OUT
            yield hashes[np.repeat(kept, documents["sequences"][decided.place(domain, number)])]
