"""A build gives one store: alone or with many processes, at once or killed many times."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mixscale.config import Cap, Cleaning, Corpus, Embedded, Jsonl, Tokenizer, by_field
from mixscale.data import build_store, documents, packing, sources, splits


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Four domains, two of them of one source, with all cleaning turned on."""
    folder = tmp_path_factory.mktemp("texts")
    texts = {name: [d.text for d in documents(Embedded(name))][:500] for name in ("wiki", "romance")}
    draw = random.Random(1)
    with open(folder / "both.jsonl", "w") as file:
        for name, text in draw.sample([(n, t) for n in texts for t in texts[n]] * 2, 1200):
            text += " So it is." * (draw.random() < 0.2)
            file.write(json.dumps({"text": text, "meta": {"source": name}}) + "\n")
            if draw.random() < 0.005:
                file.write("{broken\n")
    with open(folder / "more.jsonl", "w") as file:
        file.writelines(json.dumps({"text": f"{text} {i}"}) + "\n" for i, text in enumerate(texts["wiki"]))
    domains = by_field(Jsonl(f"{folder}/both.jsonl"), "meta.source", ("wiki", "romance"))
    domains["more"] = Jsonl(f"{folder}/more.jsonl")
    domains["capped"] = Jsonl(f"{folder}/more.jsonl", cap=Cap(documents=200))
    cleaning = Cleaning(
        normalize=True, min_characters=20, duplicates="domain", near_duplicates="domain", decontaminate=13
    )
    cache = str(tmp_path_factory.mktemp("cache"))
    return Corpus(domains, Tokenizer("bpe", 400), 32, 0.1, cleaning=cleaning, cache=cache)


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


PIECE = 30_000


@pytest.fixture(scope="module")
def whole(corpus):
    """The store, built without interruption by this process in about fifty pieces."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "PIECE", PIECE)
        return build_store(corpus, progress=False)


def started(corpus):
    """A build in another process."""
    code = (
        "from mixscale.data import build_store, sources; from mixscale.config import *\n"
        f"sources.PIECE = {PIECE}\n"
        f"if __name__ == '__main__': build_store({corpus!r}, progress=False)"
    )
    return subprocess.Popen([sys.executable, "-c", code], start_new_session=True)


def test_the_store_does_not_depend_on_processes_and_pieces(corpus, whole, tmp_path, monkeypatch):
    at_once = build_store(dataclasses.replace(corpus, cache=str(tmp_path / "a")), progress=False)
    monkeypatch.setattr(sources, "PIECE", PIECE)
    on_two = build_store(dataclasses.replace(corpus, cache=str(tmp_path / "b"), workers=2), progress=False)
    assert contents(on_two.path) == contents(at_once.path) == contents(whole.path)
    # The corpus has something to remove.
    reasons = {reason for counts in whole.statistics.values() for reason in counts["removed"]}
    assert {"duplicate", "near-duplicate", "overlaps held-out text", "above the cap"} <= reasons


def test_work_is_linear_in_the_number_of_pieces(tmp_path, monkeypatch):
    """Counts documents compared with a cap, and pieces searched for one."""
    (tmp_path / "lines.jsonl").write_text(
        "".join(json.dumps({"text": f"line {i} of text"}) + "\n" for i in range(400))
    )
    source = Jsonl(f"{tmp_path}/lines.jsonl", cap=Cap(documents=390))
    corpus = Corpus({"one": source}, Tokenizer("bytes"), 8, 0.2, cache=str(tmp_path / "cache"))
    looked = []

    class Pieces(list):
        def __contains__(self, piece):
            looked.append(len(self))
            return super().__contains__(piece)

    def counted(array, *more, **options):
        looked.append(len(array))
        return cumulated(array, *more, **options)

    cumulated = np.cumsum
    decide = splits.decide
    monkeypatch.setattr(splits.np, "cumsum", counted)
    monkeypatch.setattr(splits, "decide", lambda job, read: decide(job, Pieces(read)))
    monkeypatch.setattr(sources, "PIECE", 100)
    found = build_store(corpus, progress=False)
    assert found.facts["one"]["documents"] == 390
    # Over a hundred pieces of four documents: each is read about four times, not once per later piece.
    assert sum(looked) < 10 * 400


def test_a_killed_build_resumes_and_gives_the_same_store(corpus, whole, tmp_path):
    again = dataclasses.replace(corpus, cache=str(tmp_path))
    unfinished = tmp_path / f"{whole.id}.unfinished"
    for moment, workers in (("survey/3.json", 1), ("survey/2*.json", 2), ("tokens/1.json", 1), ("*packed*", 1)):
        process = started(dataclasses.replace(again, workers=workers))
        while process.poll() is None and not list(unfinished.glob(f"work/{moment}")):
            time.sleep(0.005)
        assert process.poll() is None, process.communicate()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not (tmp_path / whole.id).exists()
    assert started(again).wait() == 0
    assert contents(tmp_path / whole.id) == contents(whole.path)
    assert not unfinished.exists()


def test_a_resumed_build_does_not_read_pieces_again(corpus, whole, tmp_path, monkeypatch):
    again = dataclasses.replace(corpus, cache=str(tmp_path))

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sources, "PIECE", PIECE)
        patch.setattr(packing, "encode", killed)
        with pytest.raises(KeyboardInterrupt):
            build_store(again, progress=False)
    surveyed = []
    monkeypatch.setattr(sources, "PIECE", PIECE)
    monkeypatch.setattr(splits, "is_held_out", lambda *document: surveyed.append(document))
    build_store(again, progress=False)
    assert surveyed == []
    assert contents(tmp_path / whole.id) == contents(whole.path)
