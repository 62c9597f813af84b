"""The first reading, and the decision about every document: trained on, held out or removed.

`survey` stores a few bytes per document; `decide` needs no text. Works are held out whole. A text in a held-out work
and in another is removed from training, so no text is in both splits.
"""

from __future__ import annotations

import hashlib
import shutil
import struct
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixscale.config import Cap, Corpus
from mixscale.data import ngrams
from mixscale.data.cleaning import RULES, cleaned
from mixscale.data.sources import no_text
from mixscale.data.sources.base import Damage, Document
from mixscale.data.worker_pool import Job, batches
from mixscale.errors import InputError

DUPLICATE, NEAR_DUPLICATE, IN_HELD_OUT, OVERLAP, ABOVE_CAP = range(len(RULES) + 1, len(RULES) + 6)
# Why a document is removed, by number; 0 is kept.
REASONS = ("", *RULES, "duplicate", "near-duplicate", "held out elsewhere", "overlaps held-out text", "above the cap")
EMPTY = REASONS.index("empty")
HELD_OUT = 128  # added to the number of a document that is held out
STEP = "survey"
# What is stored of a document; `ngrams` counts its hashes in the file `NGRAMS`, `rule` is a number in `REASONS`.
DOCUMENT = np.dtype(
    [("digest", "<u8", (2,)), ("characters", "<u4"), ("bytes", "<u4"), ("ngrams", "<u4"), ("held_out", "?"),
     ("rule", "u1")]
)  # fmt: skip
_AFTER_DIGEST = struct.Struct("<III?B")
# Files of a domain in a piece: `DOCUMENT` records, their n-gram hashes (uint64), their sketches (uint32, PLACES).
DOCUMENTS, NGRAMS, SKETCH = "documents", "ngrams", "sketch"
SKETCHED_CHARACTERS = 1_000_000  # sketched at a time
GIVE_UP = 1000  # a source is given up if its first records, so many, are all unreadable
HELD_OUT_INDEX = "held-out"  # file of the n-grams that training text may not contain

# Survey


def is_held_out(corpus: Corpus, document: Document) -> bool:
    """A pure function of the seed and the document's work, or of its text if it has no work."""
    key = document.work or document.text
    digest = hashlib.blake2b(key.encode(), digest_size=8, key=str(corpus.seed).encode()).digest()
    return int.from_bytes(digest) < corpus.validation_share * 2**64


def survey(job: Job, number: int) -> dict[str, Any]:
    """Reads a piece and writes the documents of each domain with sketches and held-out n-grams.

    Returns the number of `records`, how many are `damaged`, and the first few of these as `examples`.
    """
    return job.once(f"{STEP}/{number}", lambda: _survey(job, number))


def _survey(job: Job, number: int) -> dict[str, Any]:
    records = damaged = 0
    examples: list[str] = []
    first_of_source = number == job.pieces_of[job.domains(number)[0]][0]

    def documents() -> Iterator[tuple[str, str]]:
        """Text and domain of every document that the rules keep; writes a row for each document."""
        nonlocal records, damaged
        for found in job.read(number, job.domains(number)):
            records += 1
            if isinstance(found, Damage):
                damaged += 1
                examples.extend([found.reason] if len(examples) < 3 else [])
                # Only at the start: a later piece may be a small share of the source.
                if damaged == records == GIVE_UP and job.corpus.max_damaged < 1 and first_of_source:
                    raise InputError(f"the first {GIVE_UP} records are all unreadable. The first: {examples[0]}")
            elif found is not None:
                domain, document = found
                text, rule = cleaned(document.text, job.corpus.cleaning, domain)
                row, hashes = _row(job.corpus, Document(text, document.work), rule)
                files[domain, DOCUMENTS].write(row)
                files[domain, NGRAMS].write(hashes)
                if not rule:
                    yield text, domain

    with job.opened(STEP, number, (DOCUMENTS, NGRAMS, SKETCH)) as files:
        for batch in batches(documents(), SKETCHED_CHARACTERS):
            if job.corpus.cleaning.near_duplicates != "keep":
                for row_P, (_, domain) in zip(ngrams.sketch([text for text, _ in batch]), batch, strict=True):
                    files[domain, SKETCH].write(row_P.tobytes())
    return {"records": records, "damaged": damaged, "examples": examples}


def surveyed(job: Job, number: int, domain: str) -> np.ndarray:
    return np.fromfile(job.path(STEP, number, domain, DOCUMENTS), DOCUMENT)


def _row(corpus: Corpus, document: Document, rule: str) -> tuple[bytes, bytes]:
    """A document as `DOCUMENT`, and the hashes of its n-grams if decontamination needs them."""
    raw = document.text.encode()
    digest = hashlib.blake2b(raw, digest_size=16).digest()
    held_out = is_held_out(corpus, document)
    words = corpus.cleaning.decontaminate if held_out and not rule else 0
    hashes = np.unique(ngrams.ngrams(document.text, words)).tobytes() if words else b""
    number = REASONS.index(rule)
    return digest + _AFTER_DIGEST.pack(len(document.text), len(raw), len(hashes) // 8, held_out, number), hashes


# Decision


@dataclass(frozen=True)
class Decision:
    """What a build does with the documents of its pieces."""

    pieces: tuple[int, ...]  # the pieces that are read; others contain nothing within the caps
    reason: dict[str, np.ndarray]  # by domain, uint8 (D,) in order of pieces: number in `REASONS`, plus `HELD_OUT`
    place: dict[str, dict[int, slice]]  # by domain and piece: where the documents of the piece are in `reason`
    train_characters: int  # training text of the domain that has the least, without duplicates inside the domain
    duplication: dict[str, float]  # share of a domain's documents that repeat another of it, nearly if searched for
    shared: dict[str, dict[str, float]]  # share of a domain's documents that are in another domain too

    def of(self, domain: str, number: int) -> np.ndarray:
        return self.reason[domain][self.place[domain][number]]


def kept_characters(job: Job, decision: Decision, domain: str) -> int:
    """Characters of a domain's documents that are not removed before they are encoded."""
    kept = [(number, decision.of(domain, number) & ~np.uint8(HELD_OUT) == 0) for number in decision.place[domain]]
    return sum(int(surveyed(job, number, domain)["characters"][kept_D].sum()) for number, kept_D in kept)


def cap_counts(documents: np.ndarray) -> np.ndarray:
    """What each document adds to the documents and bytes that a cap counts, int64 (D, 2)."""
    counts_D = (documents["rule"] != EMPTY).astype(np.int64)
    return np.stack([counts_D, documents["bytes"] * counts_D], 1)


def within_cap(cap: Cap, counts: np.ndarray) -> np.ndarray:
    """Whether these documents and bytes (..., 2) are within a cap."""
    return (counts <= [np.inf if limit is None else limit for limit in (cap.documents, cap.bytes)]).all(-1)


def decide(job: Job, pieces: Collection[int]) -> Decision:
    """Decides on all documents of the surveyed pieces; raises InputError if a domain has no text."""
    import pandas as pd

    known = set(pieces)
    pieces_of = {domain: [n for n in numbers if n in known] for domain, numbers in job.pieces_of.items()}
    parts = {d: [surveyed(job, n, d) for n in numbers] for d, numbers in pieces_of.items()}
    ends = {d: np.cumsum([0, *map(len, parts[d])]).tolist() for d in parts}
    place = {d: dict(zip(pieces_of[d], map(slice, ends[d], ends[d][1:]), strict=True)) for d in parts}
    all_D = np.concatenate([np.zeros(0, DOCUMENT), *(part for found in parts.values() for part in found)])
    count = [ends[domain][-1] for domain in parts]
    of_domain = dict(zip(parts, np.split(all_D, np.cumsum(count)[:-1]), strict=True))
    del parts
    domain_D, held_out_D = np.repeat(np.arange(len(count)), count), all_D["held_out"]
    reasons = []
    for domain, documents in of_domain.items():
        if not (documents["rule"] != EMPTY).any():
            reason = no_text(job.corpus.domains[domain], job.corpus.max_record_bytes)
            raise InputError(f"domain '{domain}' has no text: {reason}")
        within = within_cap(job.corpus.domains[domain].cap, np.cumsum(cap_counts(documents), 0))
        reasons.append(np.where(within, documents["rule"], np.uint8(ABOVE_CAP)))
    reason_D = np.concatenate(reasons)
    kept_D = reason_D == 0
    text_D = pd.DataFrame(all_D["digest"]).groupby([0, 1], sort=False).ngroup().to_numpy()  # equal for equal texts
    in_domain_D = domain_D * len(text_D) + text_D  # equal for equal texts of a domain
    trained = np.flatnonzero(kept_D & ~held_out_D)
    trained = np.setdiff1d(trained, _repeats(in_domain_D, trained))
    characters = np.bincount(domain_D[trained], all_D["characters"][trained], minlength=len(count)).min()
    reason_D[kept_D & ~held_out_D & np.isin(text_D, text_D[kept_D & held_out_D])] = IN_HELD_OUT
    cleaning = job.corpus.cleaning
    if cleaning.duplicates != "keep":
        key_D = text_D if cleaning.duplicates == "corpus" else in_domain_D
        reason_D[_repeats(key_D, np.flatnonzero(reason_D == 0))] = DUPLICATE
    group_D = text_D
    # An empty file cannot be mapped.
    if cleaning.near_duplicates != "keep" and (all_D["rule"] == 0).any():
        group_D = _near_duplicate_groups(job, pieces_of, all_D["rule"] == 0, domain_D)
        # Keeps the first held-out document of each group, or else the first: no group is in both splits.
        at = np.flatnonzero(reason_D == 0)
        reason_D[_repeats(group_D, at[np.argsort(~held_out_D[at], kind="stable")])] = NEAR_DUPLICATE
    duplication, shared = _sharing(list(of_domain), domain_D[kept_D], group_D[kept_D])
    reason_D |= np.where(held_out_D, np.uint8(HELD_OUT), np.uint8(0))
    reason = dict(zip(of_domain, np.split(reason_D, np.cumsum(count)[:-1]), strict=True))
    decision = Decision(tuple(pieces), reason, place, int(characters), duplication, shared)
    if cleaning.decontaminate:
        index = job.folder / HELD_OUT_INDEX
        ngrams.write_index(index, lambda: _held_out_ngrams(job, of_domain, decision))
    return decision


def _repeats(key_D: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The documents of `order` that have the key of an earlier one in it."""
    import pandas as pd

    return order[pd.Series(key_D[order]).duplicated()]


def _near_duplicate_groups(
    job: Job, pieces_of: dict[str, list[int]], sketched_D: np.ndarray, domain_D: np.ndarray
) -> np.ndarray:
    """Group of each document; one without a sketch is a group of its own."""
    cleaning = job.corpus.cleaning
    within = domain_D[sketched_D] if cleaning.near_duplicates == "domain" else None
    with tempfile.TemporaryFile(dir=job.folder) as together:
        for path in (job.path(STEP, n, d, SKETCH) for d in pieces_of for n in pieces_of[d]):
            with open(path, "rb") as part:
                shutil.copyfileobj(part, together)
        together.flush()
        sketch_DxP = np.memmap(together, np.uint32, "r", shape=(int(sketched_D.sum()), ngrams.PLACES))
        found = ngrams.groups(sketch_DxP, cleaning.similarity, within)
    group_D = np.arange(len(sketched_D), dtype=np.int64) + len(sketched_D)
    group_D[sketched_D] = found
    return group_D


def _sharing(
    domains: list[str], domain_D: np.ndarray, group_D: np.ndarray
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """`duplication` and `shared` of a `Decision`."""
    from scipy.sparse import coo_array

    groups, number_D = np.unique(group_D, return_inverse=True)
    counts = coo_array((np.ones(len(number_D)), (number_D, domain_D)), shape=(len(groups), len(domains))).tocsr()
    documents = np.maximum(np.bincount(domain_D, minlength=len(domains)), 1)
    present = (counts > 0).astype(float)
    distinct = present.sum(0)
    share = (counts.T @ present).toarray() / documents[:, None]
    duplication = {d: float(1 - distinct[k] / documents[k]) for k, d in enumerate(domains)}
    shared = {d: {e: float(share[k, j]) for j, e in enumerate(domains) if j != k} for k, d in enumerate(domains)}
    return duplication, shared


def _held_out_ngrams(job: Job, of_domain: dict[str, np.ndarray], decision: Decision) -> Iterator[np.ndarray]:
    """Hashes of the n-grams of the documents that are held out, one piece at a time."""
    for domain, documents in of_domain.items():
        for number in decision.place[domain]:
            hashes = np.fromfile(job.path(STEP, number, domain, NGRAMS), np.uint64)
            kept = decision.of(domain, number) == HELD_OUT
            yield hashes[np.repeat(kept, documents["ngrams"][decision.place[domain][number]])]
