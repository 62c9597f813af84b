"""Speed and memory of building the store of a large corpus, and whether a build that is killed gives the same store.

    python analysis/corpus_benchmark.py --megabytes 2000 --folder runs/corpus-benchmark --docs docs/data.md

The text is made from the embedded corpus: ten domains in JSON Lines (plain, gzip, zstd) and Parquet. Each document is
an embedded one with its sentences in another order and some of its words exchanged. The yardstick is the tokenizer
library's own `encode_batch` on the same text. It is timed before and after the builds, so that other work on the
machine affects both.
"""

from __future__ import annotations

import dataclasses
import filecmp
import gzip
import json
import os
import random
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import tyro
from pyarrow import parquet

from mixscale.config import Cleaning, Corpus, Embedded, Jsonl, Parquet, Source, Tokenizer
from mixscale.data import TokenStore, build_store, documents, embedded_names
from mixscale.data.build import WORK
from mixscale.data.packing import REASON

FILE_BYTES = 50_000_000
KINDS = ("jsonl", "jsonl.gz", "jsonl.zst", "parquet")
CLEANED = Cleaning(True, min_characters=20, duplicates="corpus", near_duplicates="corpus", decontaminate=13)
BEGIN, END = "<!-- corpus benchmark -->", "<!-- end of corpus benchmark -->"


def main(megabytes: int, folder: Path, docs: Path | None = None, vocab_size: int = 8192, workers: int = 2) -> None:
    """Makes the text if it is missing, and builds its store with default cleaning, with all cleaning, and with kills.

    Args:
        megabytes: of text, in all domains together.
        folder: for text and stores; needs about 2.5 times the space of the text.
        docs: file in which the table of this benchmark is replaced.
        vocab_size: of the BPE.
        workers: processes that read and encode.
    """
    domains = make_text(folder / "text", megabytes * 1_000_000)
    corpus = Corpus(domains, Tokenizer(vocab_size=vocab_size), 1024, 0.01, workers=workers)
    corpus = dataclasses.replace(corpus, cache=str(folder / "plain"))
    shutil.rmtree(folder / "plain", ignore_errors=True)
    plain = measured(corpus)
    sample = sample_of(domains, max(4, megabytes // 40) * 1_000_000)
    alone = [library_speed(plain.store, sample) for _ in range(3)]
    cleaned = dataclasses.replace(corpus, cleaning=CLEANED, cache=str(folder / "cleaned"))
    shutil.rmtree(folder / "cleaned", ignore_errors=True)
    with_cleaning = measured(cleaned)
    alone += [library_speed(plain.store, sample) for _ in range(3)]
    library = Speed(*(statistics.median(each) for each in zip(*alone, strict=True)))
    same = killed_and_continued(dataclasses.replace(corpus, cache=str(folder / "killed")), plain)
    size = sum(f["train_bytes"] + f["validation_bytes"] for f in plain.store.facts.values())
    lines = [
        f"{size / 1e9:.2f} GB of text in {len(domains)} domains, {workers} processes, a vocabulary of "
        f"{plain.store.vocab_size}. The tokenizer library alone, on {len(sample)} of these texts: "
        f"{library.wall:.2f} MB/s ({min(a.wall for a in alone):.2f} to {max(a.wall for a in alone):.2f} in "
        f"{len(alone)} timings), {library.cpu:.2f} MB per second of processor time.",
        "",
        "| cleaning | seconds | MB/s | share of the library's speed | encoding step only | per processor second "
        "| peak memory |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {name} | {m.seconds:.0f} | {size / 1e6 / m.seconds:.2f} | {size / 1e6 / m.seconds / library.wall:.0%} "
            f"| {size / 1e6 / m.encoding / library.wall:.0%} | {size / 1e6 / m.cpu / library.cpu:.0%} "
            f"| {m.memory / 1e9:.2f} GB |"
            for name, m in (("default", plain), ("everything on", with_cleaning))
        ),
        "",
        f"Killed with SIGKILL {'twice' if len(same) == 2 else f'{len(same)} times'} and resumed, the store is "
        f"{'the same, byte for byte' if all(same) else 'DIFFERENT'}.",
    ]
    print("\n".join(lines), flush=True)
    if docs:
        before, _, rest = docs.read_text("utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        docs.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{after}", "utf-8")


# ------------------------------------------------------------------ the text


def make_text(folder: Path, size: int) -> dict[str, Source]:
    """Ten domains of `size` bytes together, in files of several kinds; what is there already is kept."""
    names = [*embedded_names(), "papers", "stories"]
    parts = {"papers": ("abstracts", "maths"), "stories": ("fiction", "romance")}
    domains: dict[str, Source] = {}
    for number, name in enumerate(names):
        kind = KINDS[number % len(KINDS)]
        done = folder / name / "done"
        if not done.exists():
            done.parent.mkdir(parents=True, exist_ok=True)
            texts = [d.text for part in parts.get(name, (name,)) for d in documents(Embedded(part))]
            write_files(done.parent, kind, varied(texts, size // len(names), random.Random(name)))
            done.touch()
        pattern = f"{folder}/{name}/*.{kind}"
        domains[name] = Parquet(pattern) if kind == "parquet" else Jsonl(pattern)
    return domains


def varied(texts: list[str], size: int, draw: random.Random) -> Iterator[str]:
    """Texts until they have `size` bytes, no two the same."""
    while size > 0:
        sentences = re.split(r"(?<=[.\n]) ", draw.choice(texts))
        draw.shuffle(sentences)
        words = " ".join(sentences).split(" ")
        for _ in range(len(words) // 10):
            a, b = draw.randrange(len(words)), draw.randrange(len(words))
            words[a], words[b] = words[b], words[a]
        text = " ".join(words)
        size -= len(text.encode())
        yield text


def write_files(folder: Path, kind: str, texts: Iterator[str]) -> None:
    held: list[str] = []
    size = number = 0
    for text in texts:
        held.append(text)
        size += len(text)
        if size >= FILE_BYTES:
            write_file(folder / f"{number:04}.{kind}", kind, held)
            held, size, number = [], 0, number + 1
    write_file(folder / f"{number:04}.{kind}", kind, held)


def write_file(path: Path, kind: str, texts: list[str]) -> None:
    if kind == "parquet":
        parquet.write_table(pa.table({"text": texts}), path, row_group_size=2000)
        return
    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts).encode()
    packed = {"jsonl": bytes, "jsonl.gz": gzip.compress, "jsonl.zst": lambda b: pa.compress(b, "zstd", asbytes=True)}
    path.write_bytes(packed[kind](lines))


# ------------------------------------------------------------------ the measures


class Speed(NamedTuple):
    """MB a second."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Measured:
    store: TokenStore
    seconds: float
    """of the whole build, from nothing"""
    encoding: float
    """of the encoding step"""
    cpu: float
    """seconds of processor time of all its processes"""
    memory: float
    """largest memory of all its processes together, in bytes"""


def measured(corpus: Corpus) -> Measured:
    process, begin, used = started(corpus), time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    peak, first = 0.0, 0.0
    while process.poll() is None:
        peak = max(peak, held_by(process.pid))
        if not first and list(Path(corpus.cache).glob(f"*.unfinished/{WORK}/{REASON}")):
            first = time.monotonic()
        time.sleep(0.2)
    ended = time.monotonic()
    if process.returncode:
        raise SystemExit(f"the build ended with status {process.returncode}")
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    return Measured(build_store(corpus, progress=False), ended - begin, ended - first, cpu, peak)


def started(corpus: Corpus) -> subprocess.Popen[bytes]:
    """A build in a process of its own."""
    code = f"from mixscale.data import build_store; from mixscale.config import *; build_store({corpus!r})"
    return subprocess.Popen([sys.executable, "-c", code], start_new_session=True)


def held_by(pid: int) -> float:
    """Memory of a process and its children in bytes; shared pages are counted once."""
    total = 0.0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(folder.name)) == pid:
                told = (folder / "smaps_rollup").read_text()
                total += 1024 * int(re.search(r"^Pss: +(\d+)", told, re.MULTILINE)[1])
        except (OSError, TypeError):
            # The process has ended.
            continue
    return total


def sample_of(domains: dict[str, Source], size: int) -> list[str]:
    """The first texts of every domain, `size` bytes in all."""
    found = []
    for source in domains.values():
        left = size / len(domains)
        for document in documents(source):
            found.append(document.text)
            left -= len(document.text.encode())
            if left <= 0:
                break
    return found


def library_speed(store: TokenStore, texts: list[str]) -> Speed:
    """Speed of the tokenizer library on all cores, with the batch size that is fastest."""
    from tokenizers import Tokenizer as Model

    model = Model.from_file(str(store.path / "tokenizer.json"))
    batches = [texts[i : i + 1000] for i in range(0, len(texts), 1000)]
    started, used = time.monotonic(), time.process_time()
    for batch in batches:
        model.encode_batch_fast(batch)
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    return Speed(megabytes / (time.monotonic() - started), megabytes / (time.process_time() - used))


def killed_and_continued(corpus: Corpus, whole: Measured) -> list[bool]:
    """Kills a build after one and after two thirds of its time; returns whether the final store is the same."""
    shutil.rmtree(corpus.cache, ignore_errors=True)
    for _ in range(2):
        process = started(corpus)
        killer = threading.Timer(whole.seconds / 3, os.killpg, (process.pid, signal.SIGKILL))
        killer.start()
        process.wait()
        killer.cancel()
    if started(corpus).wait():
        raise SystemExit("the killed build did not resume")
    mine, its = whole.store.path, Path(corpus.cache) / whole.store.path.name
    files = [p.relative_to(mine) for p in mine.rglob("*") if p.is_file()]
    same = sorted(files) == sorted(p.relative_to(its) for p in its.rglob("*") if p.is_file())
    return [same and all(filecmp.cmp(mine / f, its / f, shallow=False) for f in files)] * 2


if __name__ == "__main__":
    tyro.cli(main)
