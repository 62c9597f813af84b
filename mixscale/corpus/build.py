"""Builds the token store of a corpus, once for each content.

Three passes over the documents: one finds what is held out, one trains the tokenizer, one encodes and packs. Texts
are streamed and only token ids are held. The folder gets its name when it is whole, so a build that dies leaves
nothing that could be taken for a store. Where a store is there already, the sources' bytes are hashed and no more.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from mixscale.corpus import pack, splits, tokenizer
from mixscale.corpus.sources import Document, documents, fingerprint
from mixscale.corpus.store import FILE, TokenStore
from mixscale.errors import InputError
from mixscale.experiment import Corpus, content_hash

FORMAT = 2
"""raised when the same config and text would give another store"""
TOKENIZER_CHARACTERS = 2_000_000
"""most training text of each domain that the tokenizer learns from"""
BATCH_CHARACTERS = 2_000_000
"""text encoded at a time, over all cores"""
COUNTED = 64
"""documents between two moves of a bar"""


def build_store(corpus: Corpus, progress: bool = True) -> TokenStore:
    """The token store of `corpus` in `<corpus.cache>/<content hash>/`, built where it is not there yet.

    Several processes may call this at once: one builds, the others wait for it. A work is held out where a hash of
    the seed and its name is below `validation_share`; a document that stands alone, by its text. So no document moves
    to the other split when others are added. The same text is never in both splits, in whichever domains it stands:
    training gives it up.

    Raises:
        InputError: a source cannot be read, or a domain has too little text for a row of either split.
        OSError: the disk is full; nothing half-built is left behind.
    """
    _check(corpus)
    cache = Path(corpus.cache)
    final = cache / _identity(corpus)
    if not (final / FILE).is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{final.name}.lock"):
            if not (final / FILE).is_file():
                with _bars(progress) as bars:
                    _build(corpus, final, bars)
    return TokenStore.open(final)


def _identity(corpus: Corpus) -> str:
    """Hash of what decides the store's bytes: what the sources' files hold, not how they are called."""
    prints = [[domain, fingerprint(source)] for domain, source in corpus.domains.items()]
    return content_hash(FORMAT, prints, corpus.tokenizer, corpus.context, corpus.validation_share, corpus.seed)


def _build(corpus: Corpus, final: Path, bars: Progress) -> None:
    unfinished = final.with_name(f"{final.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        survey = _survey(corpus, bars)
        model = _tokenizer(corpus, survey, bars)
        model.save(unfinished)
        facts = {}
        for domain, found in _each(corpus, "packing", bars, survey.documents):
            texts = splits.kept(corpus, found, survey.held_out)
            facts[domain] = _write(corpus, domain, texts, model, unfinished)
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


def _survey(corpus: Corpus, bars: Progress) -> splits.Survey:
    found = {}
    for domain, texts in _each(corpus, "reading", bars):
        found[domain] = splits.survey(corpus, texts)
        if found[domain].documents == 0:
            raise InputError(f"domain '{domain}' has no text: {corpus.domains[domain]} gave no document")
    return splits.together(found.values())


def _tokenizer(corpus: Corpus, survey: splits.Survey, bars: Progress) -> tokenizer.Bpe | tokenizer.Bytes:
    if corpus.tokenizer.kind == "bytes":
        return tokenizer.Bytes()
    share = min(TOKENIZER_CHARACTERS, survey.train_characters)
    texts = (
        text
        for _, found in _each(corpus, "tokenizer", bars)
        for text in _first(share, splits.kept(corpus, found, survey.held_out))
    )
    return tokenizer.Bpe.train(texts, corpus.tokenizer.vocab_size)


def _first(characters: int, texts: Iterator[tuple[str, str]]) -> Iterator[str]:
    """The first `characters` of training text."""
    for text, split in texts:
        if split == "train":
            yield text[:characters]
            characters -= len(text)
            if characters <= 0:
                return


def _write(
    corpus: Corpus, domain: str, texts: Iterator[tuple[str, str]], model: tokenizer.Tokenizer, folder: Path
) -> dict[str, int]:
    """Encodes, packs and writes both splits of a domain; what `TokenStore.facts` says of it."""
    ids: dict[str, list[np.ndarray]] = {split: [] for split in pack.SPLITS}
    count = dict.fromkeys(pack.SPLITS, 0)
    size = dict.fromkeys(pack.SPLITS, 0)
    end = np.array([model.eod], np.uint16)
    for batch in _batches(texts):
        encoded = model.encode_batch([text for text, _ in batch])
        for (text, split), tokens_T in zip(batch, encoded, strict=True):
            ids[split] += (tokens_T, end)
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


def _batches(texts: Iterator[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    batch: list[tuple[str, str]] = []
    size = 0
    for text, split in texts:
        batch.append((text, split))
        size += len(text)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


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


def _each(
    corpus: Corpus, step: str, bars: Progress, total: int | None = None
) -> Iterator[tuple[str, Iterator[Document]]]:
    """Every domain and its documents, counted on one bar."""
    task = bars.add_task(step, total=total, domain="")
    for domain, source in corpus.domains.items():
        bars.update(task, domain=domain)
        yield domain, _counted(documents(source), bars, task)
    bars.update(task, total=bars.tasks[task].completed, domain="")


def _counted(found: Iterator[Document], bars: Progress, task: TaskID) -> Iterator[Document]:
    """`found`, shown on a bar now and then, because moving it takes longer than most documents."""
    number = 0
    for number, document in enumerate(found, 1):
        yield document
        if number % COUNTED == 0:
            bars.advance(task, COUNTED)
    bars.advance(task, number % COUNTED)
