"""Properties of any token store: nothing leaks between splits, is lost, or is used half-built."""

import dataclasses
import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from mixscale.config import Corpus, Embedded, Jsonl, TextFiles, Tokenizer
from mixscale.data import TokenStore, build_store, documents, embedded_names, packing, store
from mixscale.errors import InputError
from mixscale.mixture import Mixture

WORDS = {"north": ["snow", "ice", "wind", "fjord", "elk"], "south": ["sun", "sand", "palm", "reef", "heat"]}


def write_texts(folder, domain, number=120, seed=0):
    """`number` different files of made-up sentences; deterministic."""
    draw = random.Random(f"{domain}{seed}")
    (folder / domain).mkdir(parents=True, exist_ok=True)
    for i in range(number):
        words = draw.choices(WORDS[domain], k=draw.randint(20, 80))
        (folder / domain / f"{i:03}.txt").write_text(" ".join([f"{domain} {i}", *words]) + ".\n", "utf-8")


@pytest.fixture
def corpus(tmp_path):
    for domain in WORDS:
        write_texts(tmp_path, domain)
    return Corpus(
        domains={d: TextFiles(f"{tmp_path}/{d}/*.txt") for d in WORDS},
        tokenizer=Tokenizer(vocab_size=300),
        context=16,
        validation_share=0.2,
        cache=str(tmp_path / "cache"),
    )


def texts_of(built, domain, split):
    """Documents in the rows: overlap removed, split at the ends of documents; the last may be truncated."""
    rows_RxT = built.rows(domain, split)
    tokens_T = np.concatenate([rows_RxT[:1, 0], rows_RxT[:, 1:].reshape(-1)])
    model = built.tokenizer
    ends = np.flatnonzero(tokens_T == model.eod)
    return [model.decode(part) for part in np.split(tokens_T, ends + 1)]


@pytest.mark.parametrize("kind", ["bpe", "bytes"])
def test_rows_hold_every_document_once_in_one_split(corpus, kind):
    built = build_store(dataclasses.replace(corpus, tokenizer=Tokenizer(kind, 300)), progress=False)
    assert built.domains == ("north", "south")
    for domain, source in corpus.domains.items():
        asked = [document.text for document in documents(source)]
        found = {split: texts_of(built, domain, split) for split in ("train", "validation")}
        for texts in found.values():
            cut = texts.pop()
            assert any(text.startswith(cut) for text in asked)
        # The tail that does not fill a row is dropped: at most the last documents of a split are missing.
        together = found["train"] + found["validation"]
        assert len(set(together)) == len(together)
        assert set(together) <= set(asked)
        assert len(together) >= len(asked) - 4
        # 120 documents at 0.2: 24 are expected, and 4.5 standard deviations to either side.
        assert 5 <= built.facts[domain]["held_out_documents"] <= 43


def test_consecutive_rows_share_one_token_and_predict_each_once():
    tokens_T = np.arange(50, dtype=np.uint16)
    assert [packing.row_count(tokens, 7) for tokens in (50, 8, 7, 0)] == [7, 1, 0, 0]
    # For any parts of the stream and any number of rows in a block.
    for parts in ([tokens_T], [tokens_T[:3], tokens_T[3:3], tokens_T[3:40], tokens_T[40:]], list(tokens_T[:, None])):
        blocks = list(packing.pack(parts, 7, 7))
        np.testing.assert_array_equal(np.concatenate(blocks), np.concatenate(list(packing.pack([tokens_T], 7, 7))))
    (rows_RxT,) = blocks
    assert rows_RxT.shape == (7, 8)
    np.testing.assert_array_equal(rows_RxT[:, 1:].reshape(-1), tokens_T[1:50])
    np.testing.assert_array_equal(rows_RxT[1:, 0], rows_RxT[:-1, -1])
    many_T = np.arange(3 * 256 * 7 + 1, dtype=np.uint16)
    assert [len(block) for block in packing.pack([many_T], 700, 7)] == [256, 256, 188]


def test_a_text_in_two_domains_is_in_one_split(corpus, tmp_path):
    shared = tmp_path / "north"
    both = dataclasses.replace(
        corpus, domains={"one": TextFiles(f"{shared}/*.txt"), "two": TextFiles(f"{tmp_path}/*th/*.txt")}
    )
    built = build_store(both, progress=False)
    splits = {(d, s): set(texts_of(built, d, s)[:-1]) for d in both.domains for s in ("train", "validation")}
    assert splits["one", "train"] & splits["two", "train"]
    assert splits["one", "validation"] & splits["two", "validation"]
    for one in both.domains:
        for other in both.domains:
            assert not splits[one, "train"] & splits[other, "validation"]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    """All embedded domains, by bytes."""
    domains = {name: Embedded(name) for name in embedded_names()}
    cache = str(tmp_path_factory.mktemp("cache"))
    return build_store(Corpus(domains, Tokenizer("bytes"), context=128, cache=cache), progress=False)


@pytest.mark.parametrize("domain", ["code", "docs", "fiction", "maths", "speeches"])
def test_works_are_held_out_whole(embedded, domain):
    work_of = {document.text: document.work for document in documents(Embedded(domain))}
    # The last text of a split may be truncated.
    training, held_out = ({work_of[t] for t in texts_of(embedded, domain, s)[:-1]} for s in ("train", "validation"))
    assert not training & held_out
    assert len(training | held_out) >= len(set(work_of.values())) - 2


def test_embedded_domains_hold_out_about_the_validation_share(embedded):
    for domain, facts in embedded.facts.items():
        share = facts["validation_bytes"] / (facts["train_bytes"] + facts["validation_bytes"])
        assert 0.04 < share < 0.14, domain
        # Sixty rows of 128 tokens, even with four bytes per token.
        assert facts["validation_bytes"] > 60 * 128 * 4, domain


def test_a_text_held_out_in_another_work_is_removed_from_training(tmp_path):
    """Parts of addresses, held out by address, and the same texts alone, held out by text."""
    parts = [document.text for document in documents(Embedded("speeches"))]
    (tmp_path / "parts.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in parts))
    domains = {"one": Embedded("speeches"), "two": Jsonl(f"{tmp_path}/parts.jsonl")}
    built = build_store(Corpus(domains, Tokenizer("bytes"), cache=str(tmp_path)), progress=False)
    texts = {(d, s): set(texts_of(built, d, s)[:-1]) for d in domains for s in ("train", "validation")}
    held_out = texts["one", "validation"] | texts["two", "validation"]
    assert texts["one", "validation"] - texts["two", "validation"]
    assert texts["two", "validation"] - texts["one", "validation"]
    for domain in domains:
        assert not texts[domain, "train"] & held_out
        # Texts that are not held out are kept, except the end of the stream, which may be truncated.
        assert len(set(parts) - held_out - texts[domain, "train"]) <= 3


def test_exact_duplicates_are_removed(corpus, tmp_path):
    before = build_store(corpus, progress=False)
    for path in sorted((tmp_path / "north").glob("*.txt")):
        shutil.copy(path, path.with_name(f"copy-{path.name}"))
    after = build_store(corpus, progress=False)
    assert after.facts == before.facts
    assert len(list(documents(corpus.domains["north"]))) == 240


def test_two_builds_give_the_same_bytes(corpus, tmp_path):
    stores = [build_store(dataclasses.replace(corpus, cache=str(tmp_path / c)), progress=False) for c in "ab"]
    assert stores[0].id == stores[1].id
    files = [sorted(p.relative_to(s.path) for p in s.path.rglob("*") if p.is_file()) for s in stores]
    assert files[0] == files[1]
    assert len(files[0]) == 2 + 4 * len(WORDS)
    for file in files[0]:
        assert (stores[0].path / file).read_bytes() == (stores[1].path / file).read_bytes(), file


def test_a_store_is_rebuilt_only_if_text_or_settings_change(corpus, tmp_path):
    first = build_store(corpus, progress=False)
    written = (first.path / store.DESCRIPTION).stat().st_mtime_ns
    assert build_store(corpus, progress=False).id == first.id
    assert (first.path / store.DESCRIPTION).stat().st_mtime_ns == written
    others = [
        dataclasses.replace(corpus, seed=1),
        dataclasses.replace(corpus, context=8),
        dataclasses.replace(corpus, validation_share=0.3),
        dataclasses.replace(corpus, tokenizer=Tokenizer(vocab_size=280)),
    ]
    ids = {first.id, *(build_store(c, progress=False).id for c in others)}
    (tmp_path / "south" / "000.txt").write_text("the same file, another text", "utf-8")
    ids.add(build_store(corpus, progress=False).id)
    assert len(ids) == 6


def test_adding_documents_moves_none_to_the_other_split(corpus, tmp_path):
    before = set(texts_of(build_store(corpus, progress=False), "north", "validation")[:-1])
    write_texts(tmp_path, "north", number=200)
    after = build_store(corpus, progress=False)
    assert before <= set(texts_of(after, "north", "validation"))


def test_any_tfds_reader_opens_the_rows(corpus):
    import tensorflow_datasets as tfds

    built = build_store(corpus, progress=False)
    blocks = tfds.data_source("mixscale_rows/north", split="train", data_dir=str(built.path))
    np.testing.assert_array_equal(np.concatenate([b["rows"] for b in blocks]), built.rows("north", "train"))
    assert "tensorflow" not in sys.modules


def test_facts_agree_with_the_rows(corpus):
    built = build_store(corpus, progress=False)
    rows = {d: built.rows(d, "train") for d in built.domains}
    assert all(r.shape[1] == 17 and r.dtype == np.uint16 and r.max() < built.vocab_size for r in rows.values())
    assert built.unique_tokens == {d: 16 * len(r) for d, r in rows.items()}
    assert built.natural() == Mixture.normalized({d: len(r) for d, r in rows.items()})
    table = built.table().set_index("domain")
    for domain in built.domains:
        held = texts_of(built, domain, "validation")
        tokens = len(built.rows(domain, "validation")) * 16 + 1
        assert built.bytes_per_token[domain] == pytest.approx(sum(len(t.encode()) for t in held) / tokens, rel=0.05)
        assert table.loc[domain, "validation rows"] == len(built.rows(domain, "validation"))
        assert table.loc[domain, "documents"] == 120


def test_a_store_with_another_tokenizer_is_refused(corpus, tmp_path):
    built = build_store(corpus, progress=False)
    other = build_store(dataclasses.replace(corpus, tokenizer=Tokenizer(vocab_size=280)), progress=False)
    shutil.copy(other.path / "tokenizer.json", built.path / "tokenizer.json")
    with pytest.raises(InputError, match=f"built with tokenizer {built.tokenizer_hash}.*{other.tokenizer_hash}"):
        TokenStore.open(built.path)
    with pytest.raises(InputError, match="is not a token store"):
        TokenStore.open(tmp_path / "cache")


def test_a_store_with_another_format_is_refused(corpus):
    built = build_store(corpus, progress=False)
    described = json.loads((built.path / store.DESCRIPTION).read_text())
    for number, named in ((store.FORMAT - 1, f"format {store.FORMAT - 1}"), (None, "no format number")):
        (built.path / store.DESCRIPTION).write_text(json.dumps(described | {"format": number}))
        with pytest.raises(InputError, match=f"{built.id}.*{named}.*format {store.FORMAT}"):
            TokenStore.open(built.path)


def test_a_store_without_its_description_is_built_again(corpus):
    built = build_store(corpus, progress=False)
    before = built.rows("north", "train")
    (built.path / store.DESCRIPTION).unlink()
    np.testing.assert_array_equal(build_store(corpus, progress=False).rows("north", "train"), before)


def test_concurrent_builds_share_one_store(corpus):
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        stores = pool.starmap(build_store, [(corpus, False)] * 3)
    folders = [name for name in os.listdir(corpus.cache) if not name.endswith(".lock")]
    assert [{s.id} for s in stores] == [set(folders)] * 3


def test_a_killed_build_does_not_change_the_store(corpus, tmp_path):
    """Killed with SIGKILL while it packs; the next build removes the remains and gives the same store."""
    killed = dataclasses.replace(corpus, cache=str(tmp_path / "killed"))
    code = (
        "import time; from mixscale.data import build_store, packing; from mixscale.config import *\n"
        "write = packing.write_rows\n"
        "packing.write_rows = lambda *a: (write(*a), print('packed', flush=True), time.sleep(60))\n"
        f"build_store({killed!r}, progress=False)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "packed\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    remains = [p for p in (tmp_path / "killed").iterdir() if p.is_dir()]
    assert len(remains) == 1
    with pytest.raises(InputError, match="is not a token store"):
        TokenStore.open(remains[0])
    started = time.monotonic()
    rebuilt = build_store(killed, progress=False)
    assert time.monotonic() - started < 30
    assert rebuilt.id == build_store(corpus, progress=False).id
    assert [p for p in (tmp_path / "killed").iterdir() if p.is_dir()] == [rebuilt.path]


def test_a_full_disk_is_an_os_error_and_leaves_no_folder(corpus, monkeypatch):
    """The message of array_record for a full disk, from a real one of 3 MB."""

    def full(*_):
        raise RuntimeError("Failed to finalize writing: write() failed: No space left on device; writing rows")

    monkeypatch.setattr(store, "_write_split", full)
    with pytest.raises(OSError, match="No space left") as caught:
        build_store(corpus, progress=False)
    assert caught.value.errno == errno.ENOSPC
    assert not [name for name in os.listdir(corpus.cache) if not name.endswith(".lock")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": 4000}, r"'north' .* held-out text: \d+ tokens .* 120 .*4001"),
        ({"validation_share": 0.9999}, r"'north' has too little training text: 0 tokens in 0 of its 120 documents"),
        ({"validation_share": 1e-9}, r"'north' has too little held-out text: 0 tokens in 0 of its 120.*needs 17"),
        ({"validation_share": 1.0}, r"validation_share is 1"),
        ({"context": 0}, r"context is 0"),
        ({"domains": {}}, r"domains is empty"),
        ({"domains": {"a/b": Embedded("wiki")}}, r"domain 'a/b' cannot name"),
    ],
)
def test_an_unusable_corpus_is_an_error(corpus, change, message):
    with pytest.raises(InputError, match=message):
        build_store(dataclasses.replace(corpus, **change), progress=False)


def test_a_domain_without_text_is_an_error(corpus, tmp_path):
    (tmp_path / "blank.txt").write_text(" \n\n", "utf-8")
    domains = {**corpus.domains, "empty": TextFiles(f"{tmp_path}/blank.txt")}
    with pytest.raises(InputError, match=r"domain 'empty' has no text: all of its records are blank .*blank\.txt"):
        build_store(dataclasses.replace(corpus, domains=domains), progress=False)
    # An empty file has no pieces.
    (tmp_path / "empty.jsonl").touch()
    domains = {**corpus.domains, "empty": Jsonl(f"{tmp_path}/empty.jsonl")}
    with pytest.raises(InputError, match=r"domain 'empty' has no text: .*empty\.jsonl"):
        build_store(dataclasses.replace(corpus, domains=domains), progress=False)


def test_an_unknown_domain_or_split_is_an_error(corpus):
    built = build_store(corpus, progress=False)
    with pytest.raises(InputError, match="no domain 'nroth'.*north, south"):
        built.rows("nroth", "train")
    with pytest.raises(InputError, match="no split 'test'"):
        built.rows("north", "test")


def test_rows_of_a_tiny_corpus(tmp_path):
    """Golden ids: another order, split, packing or tokenizer is another experiment; update them only on purpose."""
    (tmp_path / "tiny.txt").write_text("\n-\n".join(["Où?", "go", "a cat", "ok", "the end", "no", "x"]), "utf-8")
    source = TextFiles(f"{tmp_path}/tiny.txt", separator="-")
    built = build_store(
        Corpus({"tiny": source}, Tokenizer("bytes"), context=4, validation_share=0.5, cache=str(tmp_path)), False
    )
    # "go", "the end" and "no", each with its line's end and 256.
    assert built.rows("tiny", "train").tolist() == [
        [103, 111, 10, 256, 116],
        [116, 104, 101, 32, 101],
        [101, 110, 100, 10, 256],
        [256, 110, 111, 10, 256],
    ]
    # "Où?", "a cat" and "ok"; "x" would fill no row and is dropped.
    assert built.rows("tiny", "validation").tolist() == [
        [79, 195, 185, 63, 10],
        [10, 256, 97, 32, 99],
        [99, 97, 116, 10, 256],
        [256, 111, 107, 10, 256],
    ]


def test_embedded_store_and_its_description(embedded):
    """Golden counts: they change only with the embedded corpus, the split or the packing; update them then."""
    described = json.loads((embedded.path / store.DESCRIPTION).read_text())
    assert {d: (f["documents"], f["held_out_documents"], f["train_rows"]) for d, f in embedded.facts.items()} == {
        "abstracts": (3593, 283, 25900),
        "code": (779, 82, 28522),
        "docs": (590, 42, 17118),
        "fiction": (1007, 106, 23761),
        "maths": (761, 89, 13816),
        "romance": (5111, 422, 17232),
        "speeches": (722, 85, 15158),
        "wiki": (5781, 456, 21627),
    }
    assert described["tokenizer"] == {"kind": "bytes", "vocab_size": 257, "hash": embedded.tokenizer_hash}
