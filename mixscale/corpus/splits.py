"""What becomes of every document: held out, trained on, or left out and why.

Works are held out whole, never a part of one. Where the same text stands in a work that is held out and in one that
is not, training loses it, so that no text is in both splits. Nothing here reads text: the survey is enough.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from mixscale.corpus import near, overlap, sources
from mixscale.corpus.job import HELD_OUT, REASONS, Job
from mixscale.corpus.survey import SEQUENCES, SKETCH, STEP, surveyed
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
        numbers = list(self.first[domain])
        ends = [*self.first[domain].values(), len(self.reason[domain])]
        place = numbers.index(number)
        return self.reason[domain][ends[place] : ends[place + 1]]


def within_cap(job: Job, domain: str, documents: np.ndarray) -> np.ndarray:
    """Which of a domain's first documents lie below its caps on documents and bytes."""
    cap = sources.cap(job.corpus.domains[domain])
    counted = documents["rule"] != EMPTY
    below = np.ones(len(documents), bool)
    if cap.documents is not None:
        below &= np.cumsum(counted) <= cap.documents
    if cap.bytes is not None:
        below &= np.cumsum(documents["bytes"].astype(np.int64) * counted) <= cap.bytes
    return below


def decide(job: Job, pieces: Collection[int]) -> Decided:
    """Decides over all documents of some pieces.

    Raises:
        InputError: a domain has no text.
    """
    held_in = {domain: [n for n in numbers if n in pieces] for domain, numbers in job.held_in.items()}
    parts = {d: [surveyed(job, n, d) for n in held_in[d]] for d in held_in}
    first = {d: dict(zip(held_in[d], np.cumsum([0, *map(len, parts[d])]).tolist(), strict=False)) for d in held_in}
    of_domain = {domain: np.concatenate(found) for domain, found in parts.items()}
    reasons = []
    for domain, documents in of_domain.items():
        if not (documents["rule"] != EMPTY).any():
            raise InputError(f"domain '{domain}' has no text: {job.corpus.domains[domain]} gave no document")
        reasons.append(np.where(within_cap(job, domain, documents), documents["rule"], np.uint8(BEYOND)))
    all_D = np.concatenate(list(of_domain.values()))
    domain_D = np.repeat(np.arange(len(of_domain)), [len(d) for d in of_domain.values()])
    reason_D = np.concatenate(reasons)
    usable_D = reason_D == 0
    text_D = _same_text(all_D["digest"])
    characters = _train_characters(all_D, domain_D, text_D, usable_D)
    _leave_out_copies(job, all_D["held_out"], domain_D, text_D, reason_D)
    group_D = text_D
    if job.corpus.cleaning.near_copies != "keep":
        group_D = _near_groups(job, parts, held_in, all_D["rule"] == 0, domain_D)
        _leave_out_near_copies(all_D["held_out"], group_D, reason_D)
    duplication, shared = _sharing(list(of_domain), domain_D[usable_D], group_D[usable_D])
    ends = np.cumsum([len(d) for d in of_domain.values()])
    reason_D |= np.where(all_D["held_out"], np.uint8(HELD_OUT), np.uint8(0))
    reason = dict(zip(of_domain, np.split(reason_D, ends[:-1]), strict=True))
    if job.corpus.cleaning.overlap:
        overlap.write(job.folder / HELD_OUT_TEXT, lambda: _held_out_sequences(job, parts, held_in, reason, first))
    return Decided(tuple(pieces), reason, first, characters, duplication, shared)


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


def _near_groups(
    job: Job,
    parts: dict[str, list[np.ndarray]],
    held_in: dict[str, list[int]],
    sketched_D: np.ndarray,
    domain_D: np.ndarray,
) -> np.ndarray:
    """Group of each document; one without a sketch is a group of its own."""
    cleaning = job.corpus.cleaning
    of = domain_D[sketched_D] if cleaning.near_copies == "domain" else None
    with tempfile.TemporaryFile(dir=job.folder) as together:
        for path in (job.path(STEP, n, d, SKETCH) for d in parts for n in held_in[d]):
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

    _, number_D = np.unique(group_D, return_inverse=True)
    counts = coo_array((np.ones(len(number_D)), (number_D, domain_D))).tocsr()
    counts.resize(counts.shape[0], len(domains))
    documents = np.bincount(domain_D, minlength=len(domains))
    there = (counts > 0).astype(float)
    distinct = there.sum(0)
    both = (counts.T @ there).toarray()
    share = both / np.maximum(documents, 1)[:, None]
    duplication = {d: float(1 - distinct[k] / max(documents[k], 1)) for k, d in enumerate(domains)}
    shared = {d: {e: float(share[k, j]) for j, e in enumerate(domains) if j != k} for k, d in enumerate(domains)}
    return duplication, shared


def _held_out_sequences(
    job: Job,
    parts: dict[str, list[np.ndarray]],
    held_in: dict[str, list[int]],
    reason: dict[str, np.ndarray],
    first: dict[str, dict[int, int]],
) -> Iterator[np.ndarray]:
    """Hashes of the sequences of the documents that are held out, a piece at a time."""
    for domain in parts:
        for number, documents in zip(held_in[domain], parts[domain], strict=True):
            hashes = np.fromfile(job.path(STEP, number, domain, SEQUENCES), np.uint64)
            kept = reason[domain][first[domain][number] :][: len(documents)] == HELD_OUT
            yield hashes[np.repeat(kept, documents["sequences"])]
