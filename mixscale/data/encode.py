"""The last reading: what is kept becomes token ids, one file a piece, domain and split."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from mixscale.data import tokenizer
from mixscale.data.cleaning import cleaned
from mixscale.data.job import HELD_OUT, REASONS, Job, batches, opened_all, read
from mixscale.data.overlap import HeldOutText
from mixscale.data.pack import SPLITS
from mixscale.data.records import Damage
from mixscale.data.splits import HELD_OUT_TEXT, OVERLAPS
from mixscale.io import atomic_write

STEP = "tokens"
MODEL = "tokenizer"
"""folder of the tokenizer, in the job's"""
REASON = "reasons"
ENCODED = np.dtype([("tokens", "<u4"), ("bytes", "<u4"), ("held_out", "?")])
"""what is kept of an encoded document; its end is one of its tokens"""
_ENCODED = struct.Struct("<II?")
DOCUMENTS = "documents"
"""file of them, beside those of the tokens of each split"""
BATCH_CHARACTERS = 1_000_000
"""text encoded at a time"""
LONGEST = 1_000_000
"""characters of one text that a tokenizer is given; a longer one is cut before a space"""


def kept(job: Job, number: int, domains: tuple[str, ...], reason: Mapping[str, np.ndarray]) -> Iterator[tuple]:
    """Text, domain and split of what a piece gives; `reason` says of each of its documents what becomes of it.

    Where training text overlaps with held-out text, `reason` is changed to say so.
    """
    words = job.corpus.cleaning.overlap
    held_out_text = _held_out_text(job.folder / HELD_OUT_TEXT, words) if words else None
    at = dict.fromkeys(domains, 0)
    for found in read(job, number, domains):
        if found is None or isinstance(found, Damage):
            continue
        domain, document = found
        place = at[domain]
        at[domain] += 1
        about = reason[domain][place]
        if about not in (0, HELD_OUT):
            continue
        text, _ = cleaned(document.text, job.corpus.cleaning, domain)
        if held_out_text and about == 0 and held_out_text.shares(text):
            reason[domain][place] = OVERLAPS
        else:
            yield text, domain, "validation" if about else "train"


def encode(job: Job, number: int) -> None:
    """Encodes what is kept of a piece; leaves its tokens, a line about each document, and what overlapped."""
    done = job.done(STEP, number)
    if done.exists():
        return
    domains = job.domains(number)
    model = _model(job.folder / MODEL)
    end = np.array([model.eod], model.dtype).tobytes()
    reason = {domain: np.load(job.path(REASON, number, domain, "npy")) for domain in domains}
    done.parent.mkdir(exist_ok=True)
    with opened_all(job, STEP, number, (DOCUMENTS, *SPLITS)) as left:
        for batch in batches(kept(job, number, domains, reason), BATCH_CHARACTERS):
            for (text, domain, split), tokens_T in zip(batch, encoded(model, [t for t, *_ in batch]), strict=True):
                left[domain, split].write(tokens_T.tobytes() + end)
                left[domain, DOCUMENTS].write(
                    _ENCODED.pack(len(tokens_T) + 1, len(text.encode()), split == "validation")
                )
    overlapping = {domain: int((reason[domain] == OVERLAPS).sum()) for domain in domains}
    with atomic_write(done) as temporary:
        temporary.write_text(json.dumps({REASONS[OVERLAPS]: overlapping}))


def encoded(model: tokenizer.Tokenizer, texts: list[str]) -> Iterator[np.ndarray]:
    """Token ids of each text; a very long one is encoded in parts, which bounds memory."""
    gap = _gap(model) if max(map(len, texts), default=0) > LONGEST else 0
    parts = [list(_parts(text, gap)) for text in texts]
    ids = iter(model.encode_batch([part for some in parts for part in some]))
    for some in parts:
        yield np.concatenate([next(ids) for _ in some])


def _gap(model: tokenizer.Tokenizer) -> int:
    """1 where a tokenizer puts a space of its own before every text, which then stands for the one at a cut."""
    whole, word, spaced = (ids.tolist() for ids in model.encode_batch(["a a", "a", " a"]))
    return int(word + spaced != whole and word + word == whole)


def _parts(text: str, gap: int) -> Iterator[str]:
    """Cut before a space that follows a character which is none: there no tokenizer of words joins two tokens.

    The `gap` first characters of what follows a cut are left out.
    """
    start = 0
    while len(text) - start > LONGEST:
        end = start + LONGEST
        cut = text.rfind(" ", start + LONGEST // 2, end)
        while cut > start and text[cut - 1].isspace():
            cut = text.rfind(" ", start + LONGEST // 2, cut)
        # Half a million characters without a word's beginning are no text; they may be cut anywhere.
        yield text[start : (cut if cut > start else end)]
        start = cut + gap if cut > start else end
    yield text[start:]


@lru_cache(maxsize=1)
def _model(folder: Path) -> tokenizer.Tokenizer:
    return tokenizer.load(folder)


@lru_cache(maxsize=1)
def _held_out_text(path: Path, words: int) -> HeldOutText:
    return HeldOutText(path, words)
