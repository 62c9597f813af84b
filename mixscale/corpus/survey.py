"""The first reading: what every document is, in a few bytes each, and what could not be read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mixscale.corpus import near, overlap
from mixscale.corpus.cleaning import RULES
from mixscale.corpus.job import Job, batches, read, save
from mixscale.corpus.records import Damage, Document
from mixscale.errors import InputError
from mixscale.experiment import Corpus
from mixscale.files import replaced

STEP = "survey"
DOCUMENT = np.dtype(
    [("digest", "<u8", (2,)), ("characters", "<u4"), ("bytes", "<u4"), ("sequences", "<u4"), ("held_out", "?"),
     ("rule", "u1")]
)  # fmt: skip
"""what is kept of a document; `sequences` counts its hashes for `overlap`, `rule` is a place in `RULES`, from 1"""
SKETCHED = 1_000_000
"""characters sketched at a time"""
SURE = 1000
"""records, all of them unreadable, after which a source is given up"""


@dataclass(frozen=True)
class Found:
    """What one piece has, apart from its documents."""

    records: int
    damaged: int
    examples: tuple[str, ...]
    """the first few damages"""


def split_of(corpus: Corpus, document: Document) -> str:
    """A pure function of the seed and the document's work; of its text where it stands alone."""
    whole = document.work or document.text
    digest = hashlib.blake2b(whole.encode(), digest_size=8, key=str(corpus.seed).encode()).digest()
    return "validation" if int.from_bytes(digest) < corpus.validation_share * 2**64 else "train"


def survey(job: Job, number: int) -> Found:
    """Reads a piece; leaves, for each domain, its documents in order, with sketches and held-out sequences."""
    done = job.done(STEP, number)
    if done.exists():
        return Found(**json.loads(done.read_text()))
    rows: dict[str, list[tuple]] = {domain: [] for domain in job.domains(number)}
    sequences: dict[str, list[np.ndarray]] = {domain: [] for domain in rows}
    sketches: dict[str, list[np.ndarray]] = {domain: [] for domain in rows}
    records = damaged = 0
    examples: list[str] = []

    def documents() -> Iterator[tuple[str, str]]:
        """Text and domain of what the rules keep; notes all."""
        nonlocal records, damaged
        for found in read(job, number, job.domains(number)):
            records += 1
            if isinstance(found, Damage):
                damaged += 1
                examples.extend([found.reason] if len(examples) < 3 else [])
                if damaged == records == SURE and job.corpus.damaged < 1:
                    raise InputError(f"none of the first {SURE} records can be read. The first: {examples[0]}")
            elif found is not None:
                domain, document, rule = found
                row, hashes = _row(job.corpus, document, rule)
                rows[domain].append(row)
                sequences[domain].append(hashes)
                if not rule:
                    yield document.text, domain

    sketching = job.corpus.cleaning.near_copies != "keep"
    for batch in batches(documents(), SKETCHED):
        if sketching:
            for row_P, (_, domain) in zip(near.sketch([text for text, _ in batch]), batch, strict=True):
                sketches[domain].append(row_P)
    done.parent.mkdir(exist_ok=True)
    for domain in rows:
        save(job.path(STEP, number, domain, ".npy"), np.array(rows[domain], DOCUMENT))
        save(job.path(STEP, number, domain, ".sequences.npy"), np.concatenate([_NONE, *sequences[domain]]))
        if sketching:
            sketch_PxD = np.array(sketches[domain], np.uint32).reshape(-1, near.PLACES).T
            save(job.path(STEP, number, domain, ".sketch.npy"), np.ascontiguousarray(sketch_PxD))
    found = Found(records, damaged, tuple(examples))
    with replaced(done) as temporary:
        temporary.write_text(json.dumps(vars(found)))
    return found


_NONE = np.zeros(0, np.uint64)


def _row(corpus: Corpus, document: Document, rule: str) -> tuple[tuple, np.ndarray]:
    """A document as `DOCUMENT`, and the hashes of its sequences where they will be asked for."""
    raw = document.text.encode()
    digest = hashlib.blake2b(raw, digest_size=16).digest()
    held_out = split_of(corpus, document) == "validation"
    words = corpus.cleaning.overlap if held_out and not rule else 0
    hashes = overlap.distinct(document.text, words) if words else _NONE
    both = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")
    number = RULES.index(rule) + 1 if rule else 0
    return (both, len(document.text), len(raw), len(hashes), held_out, number), hashes
