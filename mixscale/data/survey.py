"""The first reading: what every document is, in a few bytes each, and what could not be read."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mixscale.config import Corpus
from mixscale.data import near, overlap
from mixscale.data.cleaning import RULES, cleaned
from mixscale.data.job import Job, batches, opened_all, read
from mixscale.data.records import Damage, Document
from mixscale.errors import InputError
from mixscale.io import atomic_write

STEP = "survey"
DOCUMENT = np.dtype(
    [("digest", "<u8", (2,)), ("characters", "<u4"), ("bytes", "<u4"), ("sequences", "<u4"), ("held_out", "?"),
     ("rule", "u1")]
)  # fmt: skip
"""what is kept of a document; `sequences` counts its hashes for `overlap`, `rule` is a place in `RULES`, from 1"""
_REST = struct.Struct("<III?B")
"""what follows the digest in it"""
DOCUMENTS, SEQUENCES, SKETCH = "documents", "sequences", "sketch"
"""files of a domain in a piece: `DOCUMENT` each, their hashes (uint64), their sketches (uint32, PLACES each)"""
SKETCHED = 1_000_000
"""characters sketched at a time"""
SURE = 1000
"""records with which a source begins, all of them unreadable, after which it is given up"""


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
                # Further on, such a piece may be a small share of what there is.
                if damaged == records == SURE and job.corpus.damaged < 1 and job.opens(number):
                    raise InputError(f"none of the first {SURE} records can be read. The first: {examples[0]}")
            elif found is not None:
                domain, document = found
                text, rule = cleaned(document.text, job.corpus.cleaning, domain)
                row, hashes = _row(job.corpus, Document(text, document.work), rule)
                left[domain, DOCUMENTS].write(row)
                left[domain, SEQUENCES].write(hashes)
                if not rule:
                    yield text, domain

    done.parent.mkdir(exist_ok=True)
    with opened_all(job, STEP, number, (DOCUMENTS, SEQUENCES, SKETCH)) as left:
        for batch in batches(documents(), SKETCHED):
            if job.corpus.cleaning.near_copies != "keep":
                for row_P, (_, domain) in zip(near.sketch([text for text, _ in batch]), batch, strict=True):
                    left[domain, SKETCH].write(row_P.tobytes())
    found = Found(records, damaged, tuple(examples))
    with atomic_write(done) as temporary:
        temporary.write_text(json.dumps(vars(found)))
    return found


def surveyed(job: Job, number: int, domain: str) -> np.ndarray:
    """Documents of a domain in a piece, as `DOCUMENT`."""
    return np.fromfile(job.path(STEP, number, domain, DOCUMENTS), DOCUMENT)


def _row(corpus: Corpus, document: Document, rule: str) -> tuple[bytes, bytes]:
    """A document as `DOCUMENT`, and the hashes of its sequences where they will be asked for."""
    raw = document.text.encode()
    digest = hashlib.blake2b(raw, digest_size=16).digest()
    held_out = split_of(corpus, document) == "validation"
    words = corpus.cleaning.overlap if held_out and not rule else 0
    hashes = overlap.distinct(document.text, words).tobytes() if words else b""
    number = RULES.index(rule) + 1 if rule else 0
    return digest + _REST.pack(len(document.text), len(raw), len(hashes) // 8, held_out, number), hashes
