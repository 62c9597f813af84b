"""Builds the token store of a corpus, once for each content.

Three readings of the documents, in pieces and on all cores: one surveys them, one trains the tokenizer, one encodes.
What a piece gives lies on disk, so a build that is killed goes on where it was, and the store is the same. The folder
gets its name when it is whole. Where a store is there already, the sources' bytes are hashed and no more.
"""

from __future__ import annotations

import errno
import importlib.metadata
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from filelock import FileLock

from mixscale import __version__
from mixscale.config import Cleaning, Corpus, content_hash
from mixscale.data import encode, job, splits, survey, tokenizer
from mixscale.data.assemble import assemble
from mixscale.data.crew import Each, crew
from mixscale.data.job import Job
from mixscale.data.progress import Bar, Bars, bars
from mixscale.data.sources import fingerprint
from mixscale.data.statistics import statistics
from mixscale.data.store import FILE, TokenStore
from mixscale.errors import InputError
from mixscale.io import atomic_write

FORMAT = 2
"""raised when the same config and text would give another store"""
TOKENIZER_CHARACTERS = 2_000_000
"""most training text of each domain that the tokenizer learns from"""
WORK = "work"
"""folder in an unfinished store, for what is found on the way"""
LIBRARIES = ("tokenizers", "tensorflow-datasets", "array_record")


def build_store(corpus: Corpus, progress: bool = True) -> TokenStore:
    """The token store of `corpus` in `<corpus.cache>/<content hash>/`, built where it is not there yet.

    Several processes may call this at once: one builds, the others wait for it. A work is held out where a hash of
    the seed and its name is below `validation_share`; a document that stands alone, by its text. So no document moves
    to the other split when others are added. The same text is never in both splits, in whichever domains it stands:
    training gives it up.

    Raises:
        InputError: a source cannot be read, too much of it is damaged, or a domain has too little text for a row of
            either split.
        Unfinished: a process that reads was killed; what was done is kept.
        OSError: the disk is full; nothing half-built is left behind.
    """
    tokenizer.check(corpus.tokenizer)
    cache = Path(corpus.cache)
    final = cache / _identity(corpus)
    if not (final / FILE).is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{final.name}.lock"):
            if not (final / FILE).is_file():
                with bars(progress) as shown:
                    _build(corpus, final, shown)
    store = TokenStore.open(final)
    for domain, told in store.statistics.items():
        # It may have been built when more was allowed.
        _check_damage(corpus, domain, told["records"], told["damaged"], "damaged text")
    return store


def _identity(corpus: Corpus) -> str:
    """Hash of what decides the store's bytes: what the sources' files hold, not how they are called."""
    prints = [[domain, fingerprint(source)] for domain, source in corpus.domains.items()]
    model = tokenizer.identity(corpus.tokenizer)
    asked = [FORMAT, prints, model, corpus.context, corpus.validation_share, corpus.seed]
    # What came later counts where it is used, so that older stores keep their names.
    if corpus.cleaning != Cleaning():
        asked.append(corpus.cleaning)
    if corpus.record_bytes != Corpus.record_bytes:
        asked.append(corpus.record_bytes)
    return content_hash(*asked)


def _build(corpus: Corpus, final: Path, shown: Bars) -> None:
    unfinished = final.with_name(f"{final.name}.unfinished")
    try:
        work = Job.of(corpus, unfinished / WORK)
        _continue_or_begin(work)
        with crew(work) as each:
            surveyed = _survey(work, each, shown)
            decided = splits.decide(work, surveyed)
            model = _tokenizer(work, decided, shown)
            _encode(work, decided, each, shown)
        facts = {domain: assemble(work, decided, domain, model, unfinished) for domain in corpus.domains}
        model.save(unfinished)
        _describe(work, decided, facts, model, unfinished, final.name)
        shutil.rmtree(work.folder)
        # Whole stores have their description; what stands here without one was damaged from outside.
        shutil.rmtree(final, ignore_errors=True)
        os.rename(unfinished, final)
    except (InputError, OSError) as error:
        # Other input is another store, and a full disk needs the room.
        if isinstance(error, InputError) or error.errno == errno.ENOSPC:
            shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _continue_or_begin(work: Job) -> None:
    """Keeps what a build that was killed has left, if it was after the same with the same."""
    plan = work.folder / "plan.json"
    asked = json.dumps([FORMAT, __version__, _versions(), [[g, *piece] for g, piece in work.pieces]])
    if not plan.is_file() or plan.read_text("utf-8") != asked:
        shutil.rmtree(work.folder.parent, ignore_errors=True)
        work.folder.mkdir(parents=True)
        with atomic_write(plan) as temporary:
            temporary.write_text(asked, "utf-8")


def _survey(work: Job, each: Each, shown: Bars) -> list[int]:
    """Reads the pieces once; the numbers of those that hold something below the caps."""
    read: list[int] = []
    found: dict[int, list[survey.Found]] = {}
    full: set[int] = set()
    capped = {d for d, source in work.corpus.domains.items() if splits.sources.cap(source) != splits.sources.Cap()}
    taken = dict.fromkeys(capped, np.zeros(2, np.int64))
    with shown.step("reading", work.size) as bar:
        numbers = (n for n, (group, _) in enumerate(work.pieces) if group not in full)
        for number, result in each(survey.survey, numbers):
            group, piece = work.pieces[number]
            bar.advance(piece.size, work.domains(number)[0])
            if group in full:
                continue
            read.append(number)
            found.setdefault(group, []).append(result)
            for domain in capped.intersection(work.groups[group]):
                taken[domain] = taken[domain] + splits.toward_caps(survey.surveyed(work, number, domain)).sum(0)
            if all(d in capped and splits.is_full(work, d, taken[d]) for d in work.groups[group]):
                full.add(group)
    for group, results in found.items():
        examples = [example for r in results for example in r.examples]
        records, damaged = sum(r.records for r in results), sum(r.damaged for r in results)
        _check_damage(work.corpus, work.groups[group][0], records, damaged, "".join(examples[:1]))
    return read


def _check_damage(corpus: Corpus, domain: str, records: int, damaged: int, example: str) -> None:
    if damaged > corpus.damaged * records:
        raise InputError(
            f"{example} ({damaged} of the {records} records that domain '{domain}' is read from cannot be used; "
            f"corpus.damaged allows {corpus.damaged:.2%})"
        )


def _tokenizer(work: Job, decided: splits.Decided, shown: Bars) -> tokenizer.Tokenizer:
    """The tokenizer, trained where it has to be and is not yet."""
    folder = work.folder / encode.MODEL
    if not (folder / "done").exists():
        folder.mkdir(exist_ok=True)
        kind = work.corpus.tokenizer.kind
        if kind == "bpe":
            share = min(TOKENIZER_CHARACTERS, decided.train_characters)
            with shown.step("tokenizer", share * len(work.corpus.domains)) as bar:
                texts = _sample(work, decided, share, bar)
                model: tokenizer.Tokenizer = tokenizer.Bpe.train(texts, work.corpus.tokenizer.vocab_size)
        else:
            model = tokenizer.Bytes() if kind == "bytes" else tokenizer.given(work.corpus.tokenizer)
        model.save(folder)
        (folder / "done").touch()
    return tokenizer.load(folder)


def _sample(work: Job, decided: splits.Decided, share: int, bar: Bar) -> Iterator[str]:
    """The first `share` characters of training text of each domain."""
    for domain in work.corpus.domains:
        left = share
        for number in decided.first[domain]:
            if left <= 0:
                break
            reason = {domain: decided.of(domain, number).copy()}
            for text, _, split in encode.kept(work, number, (domain,), reason):
                if split == "train":
                    yield text[:left]
                    bar.advance(min(left, len(text)), domain)
                    left -= len(text)
                    if left <= 0:
                        break


def _encode(work: Job, decided: splits.Decided, each: Each, shown: Bars) -> None:
    (work.folder / encode.REASON).mkdir(exist_ok=True)
    for number in decided.pieces:
        for domain in work.domains(number):
            job.save(work.path(encode.REASON, number, domain, "npy"), decided.of(domain, number))
    with shown.step("encoding", sum(work.pieces[n][1].size for n in decided.pieces)) as bar:
        for number, _ in each(encode.encode, decided.pieces):
            bar.advance(work.pieces[number][1].size, work.domains(number)[0])


def _describe(
    work: Job,
    decided: splits.Decided,
    facts: dict[str, dict[str, int]],
    model: tokenizer.Tokenizer,
    folder: Path,
    name: str,
) -> None:
    described = {
        "id": name,
        "context": work.corpus.context,
        "tokenizer": {
            "kind": work.corpus.tokenizer.kind,
            "vocab_size": model.vocab_size,
            "hash": tokenizer.file_hash(folder),
        },
        "seed": work.corpus.seed,
        "validation_share": work.corpus.validation_share,
        "domains": facts,
        "statistics": statistics(work, decided),
        "versions": _versions(),
    }
    (folder / FILE).write_text(json.dumps(described, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _versions() -> dict[str, str]:
    return {library: importlib.metadata.version(library) for library in LIBRARIES}
