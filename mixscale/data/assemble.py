"""Puts together what the pieces gave of a domain: its two streams of tokens, cut into rows, written as one dataset."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mixscale.data import pack, sources, tokenizer
from mixscale.data.encode import DOCUMENTS, ENCODED, STEP
from mixscale.data.job import Job
from mixscale.data.splits import Decided
from mixscale.errors import InputError
from mixscale.io import atomic_write


def assemble(job: Job, decided: Decided, domain: str, model: tokenizer.Tokenizer, folder: Path) -> dict[str, int]:
    """Writes the rows of both splits of a domain; what `TokenStore.facts` says of it."""
    done = job.folder / f"{domain}.assembled.json"
    if done.exists():
        return json.loads(done.read_text("utf-8"))
    numbers = list(decided.first[domain])
    about = [np.fromfile(job.path(STEP, n, domain, DOCUMENTS), ENCODED) for n in numbers]
    documents = np.concatenate([np.zeros(0, ENCODED), *about])
    documents = documents[: _within_cap(job, domain, documents)]
    held_out = documents["held_out"]
    tokens = {s: int(documents["tokens"][held_out == (s == "validation")].sum()) for s in pack.SPLITS}
    rows = {s: pack.row_count(tokens[s], job.corpus.context) for s in pack.SPLITS}
    for split in pack.SPLITS:
        if rows[split] == 0:
            raise InputError(_too_little(job, decided, domain, split, held_out, tokens[split]))
    streams = {
        s: pack.Split(rows[s], pack.pack(_stream(job, domain, s, numbers, model.dtype), rows[s], job.corpus.context))
        for s in pack.SPLITS
    }
    pack.write_rows(folder, domain, streams, job.corpus.context, model.dtype)
    facts = {
        "documents": len(documents),
        "held_out_documents": int(held_out.sum()),
        **{f"{s}_bytes": int(documents["bytes"][held_out == (s == "validation")].sum()) for s in pack.SPLITS},
        **{f"{s}_tokens": tokens[s] for s in pack.SPLITS},
        **{f"{s}_rows": rows[s] for s in pack.SPLITS},
    }
    with atomic_write(done) as temporary:
        temporary.write_text(json.dumps(facts), "utf-8")
    for number in numbers:
        for split in pack.SPLITS:
            job.path(STEP, number, domain, split).unlink()
    return facts


def _within_cap(job: Job, domain: str, documents: np.ndarray) -> int:
    """How many of a domain's documents lie below its cap on training tokens."""
    cap = sources.cap(job.corpus.domains[domain]).tokens
    if cap is None:
        return len(documents)
    train = np.cumsum(np.where(documents["held_out"], 0, documents["tokens"]).astype(np.int64))
    return int(np.searchsorted(train, cap, side="right"))


def _stream(job: Job, domain: str, split: str, numbers: list[int], dtype: np.dtype) -> Iterator[np.ndarray]:
    for number in numbers:
        path = job.path(STEP, number, domain, split)
        if path.stat().st_size:
            yield np.memmap(path, dtype, "r")


def _too_little(job: Job, decided: Decided, domain: str, split: str, held_out: np.ndarray, tokens: int) -> str:
    corpus = job.corpus
    whose = "held-out" if split == "validation" else "training"
    remedy = "raise" if split == "validation" else "lower"
    of_split = int((held_out == (split == "validation")).sum())
    left_out = len(decided.reason[domain]) - len(held_out)
    others = f" ({left_out} more were left out by cleaning or a cap)" if left_out else ""
    return (
        f"domain '{domain}' has too little {whose} text: {tokens} tokens in {of_split} of its {len(held_out)} "
        f"documents{others}, but one row needs {corpus.context + 1}. Give it more text, {remedy} validation_share "
        f"(now {corpus.validation_share:g}) or lower context (now {corpus.context}); where its documents are few and "
        f"long, split them"
    )
