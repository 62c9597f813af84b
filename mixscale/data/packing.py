"""The last reading: kept documents become token ids, the ids of a domain two streams, and the streams rows."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mixscale.data import tokenizer
from mixscale.data.cleaning import cleaned
from mixscale.data.ngrams import HeldOutText
from mixscale.data.sources.base import Damage
from mixscale.data.splits import HELD_OUT, HELD_OUT_INDEX, OVERLAP, Decision, surveyed
from mixscale.data.store import BLOCK_ROWS, SPLITS, write_rows
from mixscale.data.worker_pool import Job, batches
from mixscale.errors import InputError

STEP = "tokens"
TOKENIZER = "tokenizer"  # folder of the tokenizer, in the job's
REASON = "reasons"
# What is stored of an encoded document; its end is one of its tokens.
ENCODED = np.dtype([("tokens", "<u4"), ("bytes", "<u4"), ("held_out", "?")])
_ENCODED = struct.Struct("<II?")
DOCUMENTS = "documents"  # file of `ENCODED` records, beside the token files of both splits
BATCH_CHARACTERS = 1_000_000  # encoded at a time
SAMPLED_CHARACTERS = 1_000_000  # of a domain, about as many are compared with what the tokenizer makes of them
SAMPLED_TEXT = 20_000  # of one document, at most
MAX_CHARACTERS = 1_000_000  # a longer text is encoded in parts, cut before a space

# Text to tokens


def kept_documents(
    job: Job, number: int, domains: tuple[str, ...], reason: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, str, str]]:
    """Text, domain and split of the kept documents of a piece; adds overlaps with held-out text to `reason`."""
    words = job.corpus.cleaning.decontaminate
    held_out_text = _held_out_text(job.folder / HELD_OUT_INDEX, words) if words else None
    at = dict.fromkeys(domains, 0)
    for found in job.read(number, domains):
        if found is None or isinstance(found, Damage):
            continue
        domain, document = found
        place = at[domain]
        at[domain] += 1
        fate = reason[domain][place]
        if fate not in (0, HELD_OUT):
            continue
        text, _ = cleaned(document.text, job.corpus.cleaning, domain)
        if held_out_text and fate == 0 and held_out_text.overlaps(text):
            reason[domain][place] = OVERLAP
        else:
            yield text, domain, "validation" if fate else "train"


def encode(job: Job, number: int) -> dict[str, dict[str, Any]]:
    """Writes the tokens of a piece and a record of each document.

    Returns for each domain how many `documents`, `characters` and `overlaps` with held-out text it has, and of a
    sample how many characters it has (`sampled`), how many the ids do not carry (`lost`), and which (`examples`).
    """
    return job.once(f"{STEP}/{number}", lambda: _encode(job, number))


def _encode(job: Job, number: int) -> dict[str, dict[str, Any]]:
    domains = job.domains(number)
    model = _model(job.folder / TOKENIZER)
    end = np.array([model.eod], model.dtype).tobytes()
    reason = {domain: np.fromfile(job.path(REASON, number, domain, "u1"), np.uint8) for domain in domains}
    found: dict[str, Counter[str]] = {domain: Counter() for domain in domains}
    examples: dict[str, Counter[str]] = {domain: Counter() for domain in domains}
    every = {domain: _sampled(job, number, domain) for domain in domains}
    with job.opened(STEP, number, (DOCUMENTS, *SPLITS)) as files:
        for batch in batches(kept_documents(job, number, domains, reason), BATCH_CHARACTERS):
            for (text, domain, split), tokens_T in zip(batch, encoded(model, [t for t, *_ in batch]), strict=True):
                row = _ENCODED.pack(len(tokens_T) + 1, len(text.encode()), split == "validation")
                files[domain, split].write(tokens_T.tobytes() + end)
                files[domain, DOCUMENTS].write(row)
                if every[domain] and found[domain]["documents"] % every[domain] == 0:
                    sampled, lost, which = model.lost(text[:SAMPLED_TEXT])
                    found[domain].update(sampled=sampled, lost=lost)
                    examples[domain].update(which)
                found[domain].update(documents=1, characters=len(text))
    overlaps = {domain: int((reason[domain] == OVERLAP).sum()) for domain in domains}
    return {d: {**found[d], "overlaps": overlaps[d], "examples": examples[d]} for d in domains}


def _sampled(job: Job, number: int, domain: str) -> int:
    """One in how many documents of a piece is sampled; 0 for none, because a tokenizer of our own loses nothing."""
    if job.corpus.tokenizer.kind in ("bpe", "bytes"):
        return 0
    characters = int(surveyed(job, number, domain)["characters"].sum()) * len(job.pieces_of[domain])
    return -(-characters // SAMPLED_CHARACTERS) or 1


def lost_text(pieces: Iterable[Mapping[str, Any]]) -> tuple[float, str]:
    """About how many characters the ids of pieces of a domain (from `encode`) do not carry, and the most frequent."""
    number, frequent = 0.0, Counter[str]()
    for counts in pieces:
        frequent.update(counts["examples"])
        if counts.get("lost"):
            number += counts["characters"] * counts["lost"] / counts["sampled"]
    return number, "".join(character for character, _ in frequent.most_common(5))


def encoded(model: tokenizer.Tokenizer, texts: list[str]) -> Iterator[np.ndarray]:
    """Token ids of each text; a very long one is encoded in parts to bound memory."""
    gap = _gap(model) if max(map(len, texts), default=0) > MAX_CHARACTERS else 0
    parts = [list(_parts(text, gap)) for text in texts]
    ids = iter(model.encode_batch([part for some in parts for part in some]))
    for some in parts:
        yield np.concatenate([next(ids) for _ in some])


def _gap(model: tokenizer.Tokenizer) -> int:
    """1 if the tokenizer adds a space before every text, which then replaces the space at a cut."""
    whole, word, spaced = (ids.tolist() for ids in model.encode_batch(["a a", "a", " a"]))
    return int(word + spaced != whole and word + word == whole)


def _parts(text: str, gap: int) -> Iterator[str]:
    """Parts cut before a space that follows another character, where no word tokenizer merges two tokens; the first
    `gap` characters after a cut are left out."""
    start = 0
    while len(text) - start > MAX_CHARACTERS:
        end = start + MAX_CHARACTERS
        cut = text.rfind(" ", start + MAX_CHARACTERS // 2, end)
        while cut > start and text[cut - 1].isspace():
            cut = text.rfind(" ", start + MAX_CHARACTERS // 2, cut)
        # Half a million characters without the start of a word are not text; they are cut anywhere.
        yield text[start : (cut if cut > start else end)]
        start = cut + gap if cut > start else end
    yield text[start:]


_model = lru_cache(maxsize=1)(tokenizer.load)
_held_out_text = lru_cache(maxsize=1)(HeldOutText)

# Tokens to rows


def row_count(tokens: int, context: int) -> int:
    return max(0, (tokens - 1) // context)


def pack(parts: Iterable[np.ndarray], rows: int, context: int) -> Iterator[np.ndarray]:
    """The first `rows` rows of a stream of tokens that comes in parts, in blocks (BLOCK_ROWS, context + 1).

    Each row starts with the last token of the row before, so every token but the first is predicted exactly once. The
    tail that does not fill a row is dropped.
    """
    stream = iter(parts)
    held_T = np.zeros(0, np.uint16)
    while rows:
        block = min(rows, BLOCK_ROWS)
        needed = block * context + 1
        waiting = [held_T]
        while sum(map(len, waiting)) < needed:
            waiting.append(next(stream))
        held_T = waiting[0] if len(waiting) == 1 else np.concatenate([part for part in waiting if len(part)])
        windows = np.lib.stride_tricks.sliding_window_view(held_T[:needed], context + 1)
        yield np.ascontiguousarray(windows[::context])
        held_T = held_T[needed - 1 :]
        rows -= block


def pack_domain(job: Job, decision: Decision, domain: str, model: tokenizer.Tokenizer, folder: Path) -> dict[str, int]:
    """Writes the rows of both splits of a domain; returns its entry in `TokenStore.facts`."""
    corpus, numbers = job.corpus, list(decision.place[domain])
    parts = [np.fromfile(job.path(STEP, number, domain, DOCUMENTS), ENCODED) for number in numbers]
    documents = np.concatenate([np.zeros(0, ENCODED), *parts])
    cap = corpus.domains[domain].cap.tokens
    if cap is not None:
        train = np.cumsum(np.where(documents["held_out"], 0, documents["tokens"]).astype(np.int64))
        documents = documents[: np.searchsorted(train, cap, side="right")]
    of_split = {split: documents[documents["held_out"] == (split == "validation")] for split in SPLITS}
    tokens = {split: int(of_split[split]["tokens"].sum()) for split in SPLITS}
    rows = {split: row_count(tokens[split], corpus.context) for split in SPLITS}
    for split, (name, remedy) in zip(SPLITS, (("training", "lower"), ("held-out", "raise")), strict=True):
        if rows[split] == 0:
            removed = len(decision.reason[domain]) - len(documents)
            others = f" ({removed} more were removed by cleaning or a cap)" if removed else ""
            raise InputError(
                f"domain '{domain}' has too little {name} text: {tokens[split]} tokens in {len(of_split[split])} of "
                f"its {len(documents)} documents{others}, but one row needs {corpus.context + 1}. Give it more text, "
                f"{remedy} validation_share (now {corpus.validation_share:g}) or lower context (now {corpus.context});"
                f" if its documents are few and long, split them"
            )

    def stream(split: str) -> Iterator[np.ndarray]:
        for number in numbers:
            path = job.path(STEP, number, domain, split)
            # An empty file cannot be mapped.
            if path.stat().st_size:
                yield np.memmap(path, model.dtype, "r")

    packed = {split: (rows[split], pack(stream(split), rows[split], corpus.context)) for split in SPLITS}
    write_rows(folder, domain, packed, corpus.context, model.dtype)
    return {
        "documents": len(documents),
        "held_out_documents": len(of_split["validation"]),
        **{f"{split}_bytes": int(of_split[split]["bytes"].sum()) for split in SPLITS},
        **{f"{split}_tokens": tokens[split] for split in SPLITS},
        **{f"{split}_rows": rows[split] for split in SPLITS},
    }
