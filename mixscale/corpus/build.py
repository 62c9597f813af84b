"""Builds the token store of a corpus, once for each content.

Three passes over the documents: one counts and hashes them, one trains the tokenizer, one encodes and packs. Texts
are streamed and only token ids are held. The folder gets its name when it is whole, so a build that dies leaves
nothing that could be taken for a store.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from mixscale.corpus import pack, tokenizer
from mixscale.corpus.sources import documents
from mixscale.corpus.store import FILE, TokenStore
from mixscale.errors import InputError
from mixscale.experiment import Corpus, Source, content_hash

FORMAT = 1
"""raised when the same config and text would give another store"""
TOKENIZER_CHARACTERS = 2_000_000
"""most training text of each domain that the tokenizer learns from"""
BATCH_CHARACTERS = 2_000_000
"""text encoded at a time, over all cores"""


@dataclass(frozen=True)
class _Contents:
    """What the first pass saw of a domain."""

    documents: int
    train_characters: int
    digest: str


def build_store(corpus: Corpus, progress: bool = True) -> TokenStore:
    """The token store of `corpus` in `<corpus.cache>/<content hash>/`, built where it is not there yet.

    Several processes may call this at once: one builds, the others wait for it. A document is held out where a hash
    of the seed and its text is below `validation_share`, so the same text is never in both splits, in whichever
    domains it stands, and adding documents moves no other.

    Raises:
        InputError: a source cannot be read, or a domain has too little text for a row of either split.
        OSError: the disk is full; nothing half-built is left behind.
    """
    _check(corpus)
    with _bars(progress) as bars:
        contents = {}
        for domain, source in _tracked(corpus, "reading", bars):
            contents[domain] = _contents(corpus, domain, source)
        identity = _identity(corpus, contents)
        cache = Path(corpus.cache)
        cache.mkdir(parents=True, exist_ok=True)
        final = cache / identity
        if not (final / FILE).is_file():
            with FileLock(cache / f"{identity}.lock"):
                if not (final / FILE).is_file():
                    _build(corpus, contents, final, bars)
    return TokenStore.open(final)


def _identity(corpus: Corpus, contents: dict[str, _Contents]) -> str:
    """Hash of what decides the store's bytes: the text itself, not the files or names where it was found."""
    digests = [[domain, c.digest] for domain, c in contents.items()]
    return content_hash(FORMAT, digests, corpus.tokenizer, corpus.context, corpus.validation_share, corpus.seed)


def _build(corpus: Corpus, contents: dict[str, _Contents], final: Path, bars: Progress) -> None:
    unfinished = final.with_name(f"{final.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        model = _tokenizer(corpus, contents, bars)
        model.save(unfinished)
        facts = {}
        for domain, source in _tracked(corpus, "packing", bars):
            facts[domain] = _write(corpus, domain, source, model, unfinished)
        described = {
            "id": final.name,
            "context": corpus.context,
            "tokenizer": {
                "kind": corpus.tokenizer.kind,
                "vocab_size": model.vocab_size,
                "hash": tokenizer.file_hash(unfinished),
            },
            "seed": corpus.seed,
            "validation_share": corpus.validation_share,
            "domains": facts,
            "versions": {
                p: importlib.metadata.version(p) for p in ("tokenizers", "tensorflow-datasets", "array_record")
            },
        }
        (unfinished / FILE).write_text(json.dumps(described, indent=1, ensure_ascii=False) + "\n", "utf-8")
        # Whole stores have their description; what stands here without one was damaged from outside.
        shutil.rmtree(final, ignore_errors=True)
        os.rename(unfinished, final)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _tokenizer(corpus: Corpus, contents: dict[str, _Contents], bars: Progress) -> tokenizer.Bpe | tokenizer.Bytes:
    if corpus.tokenizer.kind == "bytes":
        return tokenizer.Bytes()
    share = min(TOKENIZER_CHARACTERS, *(c.train_characters for c in contents.values()))
    texts = (
        text
        for domain, source in _tracked(corpus, "tokenizer", bars)
        for text in _first(share, _training(corpus, source))
    )
    return tokenizer.Bpe.train(texts, corpus.tokenizer.vocab_size)


def _write(corpus: Corpus, domain: str, source: Source, model: tokenizer.Tokenizer, folder: Path) -> dict[str, int]:
    """Encodes, packs and writes both splits of a domain; what `TokenStore.facts` says of it."""
    ids: dict[str, list[np.ndarray]] = {split: [] for split in pack.SPLITS}
    count = dict.fromkeys(pack.SPLITS, 0)
    size = dict.fromkeys(pack.SPLITS, 0)
    end = np.array([model.eod], np.uint16)
    for batch in _batches(_unique(source)):
        for text, encoded in zip(batch, model.encode_batch(batch), strict=True):
            split = _split(corpus, text)
            ids[split] += (encoded, end)
            count[split] += 1
            size[split] += len(text.encode())
    tokens = {split: np.concatenate([end[:0], *parts]) for split, parts in ids.items()}
    rows = {split: pack.pack(t, corpus.context) for split, t in tokens.items()}
    for split in pack.SPLITS:
        if len(rows[split]) == 0:
            raise InputError(_too_little(corpus, domain, split, count, len(tokens[split])))
    pack.write_rows(folder, domain, rows)
    return {
        "documents": sum(count.values()),
        "held_out_documents": count["validation"],
        **{f"{s}_bytes": size[s] for s in pack.SPLITS},
        **{f"{s}_tokens": len(tokens[s]) for s in pack.SPLITS},
        **{f"{s}_rows": len(rows[s]) for s in pack.SPLITS},
    }


# ------------------------------------------------------------------ documents, their split, and samples of them


def _unique(source: Source) -> Iterator[str]:
    """Documents of `source`; the second and later copies of one are left out."""
    seen: set[bytes] = set()
    for text in documents(source):
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        if digest not in seen:
            seen.add(digest)
            yield text


def _split(corpus: Corpus, text: str) -> str:
    """A pure function of seed and text, so that no text can be in both splits."""
    digest = hashlib.blake2b(text.encode(), digest_size=8, key=str(corpus.seed).encode()).digest()
    return "validation" if int.from_bytes(digest) < corpus.validation_share * 2**64 else "train"


def _training(corpus: Corpus, source: Source) -> Iterator[str]:
    return (text for text in _unique(source) if _split(corpus, text) == "train")


def _first(characters: int, texts: Iterator[str]) -> Iterator[str]:
    for text in texts:
        yield text[:characters]
        characters -= len(text)
        if characters <= 0:
            return


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _contents(corpus: Corpus, domain: str, source: Source) -> _Contents:
    digest = hashlib.sha256()
    count = characters = 0
    for text in _unique(source):
        raw = text.encode()
        digest.update(len(raw).to_bytes(8) + raw)
        count += 1
        characters += len(text) if _split(corpus, text) == "train" else 0
    if count == 0:
        raise InputError(f"domain '{domain}' has no text: {source} gave no document")
    return _Contents(count, characters, digest.hexdigest())


# ------------------------------------------------------------------ checks and progress


def _check(corpus: Corpus) -> None:
    if not corpus.domains:
        raise InputError("the corpus has no domains; name at least one")
    for domain in corpus.domains:
        if not re.fullmatch(r"\w[\w.-]*", domain):
            raise InputError(
                f"domain '{domain}' cannot name a folder and a column; use letters, digits, '_', '-' and '.'"
            )
    if not 0 < corpus.validation_share < 1:
        raise InputError(f"validation_share is {corpus.validation_share}; it must be between 0 and 1")
    if corpus.context < 1:
        raise InputError(f"context is {corpus.context}; it must be at least 1")
    tokenizer.check(corpus.tokenizer)


def _too_little(corpus: Corpus, domain: str, split: str, count: dict[str, int], tokens: int) -> str:
    whose = "held-out" if split == "validation" else "training"
    remedy = "raise" if split == "validation" else "lower"
    return (
        f"domain '{domain}' has too little {whose} text: {tokens} tokens in {count[split]} of its "
        f"{sum(count.values())} documents, but one row needs {corpus.context + 1}. Give it more text, {remedy} "
        f"validation_share (now {corpus.validation_share:g}) or lower context (now {corpus.context}); where its "
        f"documents are few and long, split them"
    )


def _bars(shown: bool) -> Progress:
    columns = TextColumn("{task.description:10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    return Progress(*columns, TextColumn("{task.fields[domain]}"), console=Console(stderr=True), disable=not shown)


def _tracked(corpus: Corpus, step: str, bars: Progress) -> Iterator[tuple[str, Source]]:
    """The corpus's domains and sources, each counted on a bar when the next is asked for."""
    task: TaskID = bars.add_task(step, total=len(corpus.domains), domain="")
    for domain, source in corpus.domains.items():
        bars.update(task, domain=domain)
        yield domain, source
        bars.advance(task)
    bars.update(task, domain="")
