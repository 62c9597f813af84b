"""Builds the token store of a corpus, once for each content.

The documents are read three times, in pieces and on all cores: to survey them, to train the tokenizer and to encode
them. The results of every piece are files, so a killed build resumes, and the store is the same. The folder gets its
name when it is complete. If the store exists already, only the bytes of the sources are hashed.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from rich import progress as rich
from rich.console import Console

from mixscale.config import Cap, Corpus, content_hash
from mixscale.data import packing, splits, tokenizer
from mixscale.data.sources import fingerprint
from mixscale.data.splits import HELD_OUT, OVERLAP, REASONS, Decision
from mixscale.data.store import DESCRIPTION, FORMAT, SPLITS, TokenStore
from mixscale.data.worker_pool import Job, Map, worker_pool
from mixscale.errors import InputError
from mixscale.io import atomic_write

TOKENIZER_CHARACTERS = 2_000_000  # training text of each domain for the tokenizer, at most
WORK = "work"  # folder of intermediate files in an unfinished store
LIBRARIES = ("tokenizers", "tensorflow-datasets", "array_record")
Advance = Callable[[int, str], None]  # moves a progress bar by some bytes, with the domain that is read
REDRAW = 0.1  # least seconds between two drawings of a progress bar, each of which takes longer than many documents


def build_store(corpus: Corpus, progress: bool = True) -> TokenStore:
    """The token store of `corpus` in `<corpus.cache>/<content hash>/`, built if it does not exist yet.

    Several processes may call this at once: one builds, the others wait. A work is held out if a hash of the seed and
    its name (or its text, without one) is below `validation_share`, so adding documents moves none to the other split.
    A text that is held out in any domain is removed from training in all.

    Raises:
        InputError: a source cannot be read, too many records are damaged, or a domain cannot fill a row of each split.
        Unfinished: a reading process was killed; progress is saved.
        OSError: the disk is full; nothing half-built is left behind.
    """
    if corpus.tokenizer.kind not in ("bpe", "bytes"):
        tokenizer.from_file(corpus.tokenizer)
    cache = Path(corpus.cache)
    final = cache / _identity(corpus)
    if not (final / DESCRIPTION).is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{final.name}.lock"):
            if not (final / DESCRIPTION).is_file():
                with Bars(progress) as bars:
                    _build(corpus, final, bars)
    store = TokenStore.open(final)
    for domain, counts in store.statistics.items():
        # An earlier build may have allowed more damage.
        _check_damage(corpus, domain, counts["records"], counts["damaged"], "damaged records")
        _check_lost(corpus, domain, counts.get("lost", 0.0), counts.get("lost_characters", ""))
    return store


def _identity(corpus: Corpus) -> str:
    """Hash of everything that decides the store's bytes: settings and the content of files, not their names."""
    contents = [[domain, fingerprint(source)] for domain, source in corpus.domains.items()]
    settings = [corpus.context, corpus.validation_share, corpus.seed, corpus.cleaning, corpus.max_record_bytes]
    return content_hash(FORMAT, contents, tokenizer.identity(corpus.tokenizer), *settings)


def _build(corpus: Corpus, final: Path, bars: Bars) -> None:
    unfinished = final.with_name(f"{final.name}.unfinished")
    try:
        job = Job.plan(corpus, unfinished / WORK)
        _resume_or_start(job)
        with worker_pool(job) as map_pieces:
            surveyed = _survey(job, map_pieces, bars)
            decision = splits.decide(job, surveyed)
            model = _tokenizer(job, decision, bars)
            _encode(job, decision, map_pieces, bars)
        facts = {domain: _pack(job, decision, domain, model) for domain in corpus.domains}
        model.save(unfinished)
        about = {"kind": corpus.tokenizer.kind, "vocab_size": model.vocab_size}
        about["hash"] = tokenizer.file_hash(unfinished)
        described = {
            "format": FORMAT,
            "id": final.name,
            "context": corpus.context,
            "tokenizer": about,
            "seed": corpus.seed,
            "validation_share": corpus.validation_share,
            "domains": facts,
            "statistics": {domain: _statistics(job, decision, domain) for domain in corpus.domains},
            "versions": _versions(),
        }
        (unfinished / DESCRIPTION).write_text(json.dumps(described, indent=1, ensure_ascii=False) + "\n", "utf-8")
        shutil.rmtree(job.folder)
        # A folder without the description was damaged from outside.
        shutil.rmtree(final, ignore_errors=True)
        os.rename(unfinished, final)
    except (InputError, OSError) as error:
        # Corrected input is another store, and a full disk needs the space.
        if isinstance(error, InputError) or error.errno == errno.ENOSPC:
            shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _resume_or_start(job: Job) -> None:
    """Keeps the files of a killed build if it had the same pieces and versions."""
    plan = job.folder / "plan.json"
    wanted = json.dumps([FORMAT, version("mixscale"), _versions(), [[group, *piece] for group, piece in job.pieces]])
    if not plan.is_file() or plan.read_text("utf-8") != wanted:
        shutil.rmtree(job.folder.parent, ignore_errors=True)
        job.folder.mkdir(parents=True)
        with atomic_write(plan) as temporary:
            temporary.write_text(wanted, "utf-8")


def _survey(job: Job, map_pieces: Map, bars: Bars) -> list[int]:
    """Reads the pieces once; returns the numbers of those that contain documents within the caps."""
    read: list[int] = []
    found: dict[int, list[dict[str, Any]]] = {}
    full: set[int] = set()
    capped = {domain for domain, source in job.corpus.domains.items() if source.cap != Cap()}
    taken = dict.fromkeys(capped, np.zeros(2, np.int64))
    with bars.step("reading", sum(piece.size for _, piece in job.pieces)) as advance:
        numbers = (n for n, (group, _) in enumerate(job.pieces) if group not in full)
        for number, counts in map_pieces(splits.survey, numbers):
            group, piece = job.pieces[number]
            advance(piece.size, job.domains(number)[0])
            if group in full:
                continue
            read.append(number)
            found.setdefault(group, []).append(counts)
            for domain in capped.intersection(job.groups[group]):
                taken[domain] = taken[domain] + splits.cap_counts(splits.surveyed(job, number, domain)).sum(0)
            caps = {domain: job.corpus.domains[domain].cap for domain in job.groups[group]}
            if not any(domain not in capped or splits.within_cap(cap, taken[domain]) for domain, cap in caps.items()):
                full.add(group)
    for group, of_group in found.items():
        examples = [example for counts in of_group for example in counts["examples"]]
        records, damaged = (sum(counts[key] for counts in of_group) for key in ("records", "damaged"))
        _check_damage(job.corpus, job.groups[group][0], records, damaged, "".join(examples[:1]))
    return read


def _check_damage(corpus: Corpus, domain: str, records: int, damaged: int, example: str) -> None:
    if damaged > corpus.max_damaged * records:
        found = f"{damaged} of the {records} records in the source of domain '{domain}' cannot be used"
        raise InputError(f"{example} ({found}; corpus.max_damaged allows {corpus.max_damaged:.2%})")


def _check_lost(corpus: Corpus, domain: str, share: float, examples: str) -> None:
    if share > corpus.max_lost_text:
        names = ", ".join(f"{c!r} (U+{ord(c):04X})" for c in examples)
        raise InputError(
            f"the tokenizer '{corpus.tokenizer.path}' drops {share:.1%} of the characters of domain '{domain}', or "
            f"replaces them by its unknown token; the most frequent are {names}. Use a tokenizer that knows them (the "
            f"byte-level default, Tokenizer(), knows all), leave the domain out, or raise corpus.max_lost_text (now "
            f"{corpus.max_lost_text:.2%})"
        )


def _tokenizer(job: Job, decision: Decision, bars: Bars) -> tokenizer.Tokenizer:
    folder = job.folder / packing.TOKENIZER
    if not (folder / "done").exists():
        folder.mkdir(exist_ok=True)
        kind = job.corpus.tokenizer.kind
        if kind == "bpe":
            share = min(TOKENIZER_CHARACTERS, decision.train_characters)
            with bars.step("tokenizer", share * len(job.corpus.domains)) as advance:
                model = tokenizer.Bpe.train(_sample(job, decision, share, advance), job.corpus.tokenizer.vocab_size)
        else:
            model = tokenizer.Bytes() if kind == "bytes" else tokenizer.from_file(job.corpus.tokenizer)
        model.save(folder)
        (folder / "done").touch()
    return tokenizer.load(folder)


def _sample(job: Job, decision: Decision, share: int, advance: Advance) -> Iterator[str]:
    """The first `share` characters of training text of each domain."""
    for domain in job.corpus.domains:
        left, texts = share, _train_texts(job, decision, domain)
        while left > 0 and (text := next(texts, None)) is not None:
            yield text[:left]
            advance(min(left, len(text)), domain)
            left -= len(text)


def _train_texts(job: Job, decision: Decision, domain: str) -> Iterator[str]:
    for number in decision.place[domain]:
        reason = {domain: decision.of(domain, number).copy()}
        for text, _, split in packing.kept_documents(job, number, (domain,), reason):
            if split == "train":
                yield text


def _encode(job: Job, decision: Decision, map_pieces: Map, bars: Bars) -> None:
    (job.folder / packing.REASON).mkdir(exist_ok=True)
    for number in decision.pieces:
        for domain in job.domains(number):
            job.path(packing.REASON, number, domain, "u1").write_bytes(decision.of(domain, number).tobytes())
    with bars.step("encoding", sum(job.pieces[n][1].size for n in decision.pieces)) as advance:
        total = {domain: splits.kept_characters(job, decision, domain) for domain in job.corpus.domains}
        pieces: dict[str, list[dict[str, Any]]] = {domain: [] for domain in job.corpus.domains}
        lost = dict.fromkeys(job.corpus.domains, 0.0)
        for number, found in map_pieces(packing.encode, decision.pieces):
            for domain, counts in found.items():
                pieces[domain].append(counts)
                lost[domain] += packing.lost_text([counts])[0]
                # What other pieces contain cannot lower this share of the whole.
                share = lost[domain] / max(1, total[domain])
                if share > job.corpus.max_lost_text:
                    _check_lost(job.corpus, domain, share, packing.lost_text(pieces[domain])[1])
            advance(job.pieces[number][1].size, job.domains(number)[0])


def _pack(job: Job, decision: Decision, domain: str, model: tokenizer.Tokenizer) -> dict[str, int]:
    folder = job.folder.parent
    facts = job.once(f"{domain}.packed", lambda: packing.pack_domain(job, decision, domain, model, folder))
    for number, split in itertools.product(decision.place[domain], SPLITS):
        job.path(packing.STEP, number, domain, split).unlink(missing_ok=True)
    return facts


def _versions() -> dict[str, str]:
    return {library: version(library) for library in LIBRARIES}


def _statistics(job: Job, decision: Decision, domain: str) -> dict[str, Any]:
    numbers = list(decision.place[domain])
    surveyed = [splits.survey(job, number) for number in numbers]
    documents = np.bincount(decision.reason[domain] & ~np.uint8(HELD_OUT), minlength=len(REASONS))
    encoded = [packing.encode(job, number)[domain] for number in numbers]
    documents[OVERLAP] = sum(counts["overlaps"] for counts in encoded)
    lost, examples = packing.lost_text(encoded)
    return {
        "records": sum(counts["records"] for counts in surveyed),
        "damaged": sum(counts["damaged"] for counts in surveyed),
        "documents": len(decision.reason[domain]),
        "removed": {REASONS[number]: int(count) for number, count in enumerate(documents) if number and count},
        "lost": lost / max(1, sum(counts.get("characters", 0) for counts in encoded)),
        "lost_characters": examples,
        "duplication": decision.duplication[domain],
        "shared": decision.shared[domain],
    }


class Bars(rich.Progress):
    """Progress bars of a build, drawn when they advance: rich's thread fails while another thread imports TFDS."""

    def __init__(self, shown: bool):
        super().__init__(
            rich.TextColumn("{task.description:10}"),
            rich.BarColumn(),
            rich.DownloadColumn(),
            rich.TransferSpeedColumn(),
            rich.TimeRemainingColumn(elapsed_when_finished=True),
            rich.TextColumn("{task.fields[domain]}"),
            console=Console(stderr=True),
            auto_refresh=False,
            disable=not shown,
        )

    @contextmanager
    def step(self, name: str, total: int) -> Iterator[Advance]:
        """A bar for one step; `total` in bytes of files or text."""
        drawn = 0.0

        def advance(done: int, domain: str) -> None:
            nonlocal drawn
            self.update(task, advance=done, domain=domain)
            if time.monotonic() - drawn > REDRAW:
                self.refresh()
                drawn = time.monotonic()

        task = self.add_task(name, total=total, domain="")
        self.refresh()
        yield advance
        # Caps leave a part unread.
        self.update(task, total=self.tasks[task].completed, domain="", refresh=True)
