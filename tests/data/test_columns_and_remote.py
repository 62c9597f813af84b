"""Sources beyond plain files: columns, compression, remote files, conditions, caps, shared sources."""

import dataclasses
import gzip
import json
import random

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from mixscale.config import Cap, Corpus, HuggingFace, Jsonl, Parquet, TextFiles, Tokenizer, Where, by_field
from mixscale.data import build_store, documents
from mixscale.data.sources import fingerprint
from mixscale.errors import InputError

ROWS = [
    {
        "text": f"döcument {i} " + "word " * (i % 7),
        "meta": {"source": "web" if i % 3 else "Books (old)"},
        "score": i / 10,
    }
    for i in range(200)
]


def texts_of(source):
    return [document.text for document in documents(source)]


def save_parquet(path, rows, **options):
    parquet.write_table(pa.Table.from_pylist(rows), path, **options)


def save_arrow(folder, parts):
    """A dataset in the layout of Hugging Face's `save_to_disk`: Arrow streams and a list of them."""
    folder.mkdir(parents=True)
    files = []
    for number, rows in enumerate(parts):
        table = pa.Table.from_pylist(rows)
        name = f"data-{number:05}-of-{len(parts):05}.arrow"
        with pa.ipc.new_stream(folder / name, table.schema) as stream:
            stream.write_table(table, max_chunksize=70)
        files.append({"filename": name})
    (folder / "state.json").write_text(json.dumps({"_data_files": files, "_format_columns": None}))


@pytest.fixture
def sources(tmp_path):
    """The same rows as every kind of source."""
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    (tmp_path / "a.jsonl").write_bytes(lines)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines[:5000]) + gzip.compress(lines[5000:]))
    (tmp_path / "a.jsonl.zst").write_bytes(pa.compress(lines, codec="zstd", asbytes=True))
    save_parquet(tmp_path / "a.parquet", ROWS, row_group_size=30, compression="zstd")
    save_arrow(tmp_path / "saved" / "train", [ROWS[:90], ROWS[90:]])
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    fsspec.filesystem("memory").pipe("/lake/part.jsonl", lines)
    return {
        "jsonl": Jsonl(f"{tmp_path}/a.jsonl"),
        "gz": Jsonl(f"{tmp_path}/*.gz"),
        "zst": Jsonl(f"file://{tmp_path}/*.zst"),
        "parquet": Parquet(f"{tmp_path}/*.parquet"),
        "saved": HuggingFace(f"{tmp_path}/saved", split="train"),
        "memory": Jsonl("memory://lake/*.jsonl"),
    }


def test_every_kind_gives_the_same_documents_in_the_same_order(sources):
    assert {kind: texts_of(source) for kind, source in sources.items()} == dict.fromkeys(
        sources, [row["text"] for row in ROWS]
    )


def test_fields_inside_of_fields_and_conditions(sources):
    chosen = Where("meta.source", "==", "web"), Where("score", ">=", 5), Where("text", "contains", "7")
    wanted = [r["text"] for r in ROWS if r["meta"]["source"] == "web" and r["score"] >= 5 and "7" in r["text"]]
    assert len(wanted) > 10
    for source in sources.values():
        assert texts_of(dataclasses.replace(source, where=chosen)) == wanted
        assert set(texts_of(dataclasses.replace(source, field="meta.source"))) == {"web", "Books (old)"}
        # A missing value, or one that cannot be compared, meets no condition.
        assert texts_of(dataclasses.replace(source, where=(Where("score", "<", "5"),))) == []
    assert texts_of(dataclasses.replace(sources["jsonl"], where=(Where("nothing", "!=", 3),))) == []


def test_by_field_makes_one_domain_per_value(sources, tmp_path):
    domains = by_field(sources["parquet"], "meta.source", ("web", "Books (old)"))
    assert list(domains) == ["web", "books-old"]
    built = build_store(Corpus(domains, Tokenizer("bytes"), context=8, cache=str(tmp_path)), progress=False)
    assert {d: built.facts[d]["documents"] for d in domains} == {"web": 133, "books-old": 67}
    with pytest.raises(InputError, match="gives the domain name 'web'"):
        by_field(sources["parquet"], "meta.source", ("web", "Web"))
    with pytest.raises(InputError, match=r"must be a tuple of values, such as \('web',\)"):
        by_field(sources["parquet"], "meta.source", "web")


@pytest.mark.parametrize("cap", [Cap(documents=50), Cap(bytes=1000), Cap(tokens=900)])
def test_caps_keep_whole_documents_from_the_start(sources, tmp_path, cap):
    source = dataclasses.replace(sources["jsonl"], cap=cap)
    corpus = Corpus({"one": source}, Tokenizer("bytes"), context=8, validation_share=0.2, cache=str(tmp_path))
    facts = build_store(corpus, progress=False).facts["one"]
    whole = build_store(dataclasses.replace(corpus, domains={"one": sources["jsonl"]}), progress=False).facts["one"]
    sizes = np.cumsum([len(row["text"].encode()) for row in ROWS])
    documents = cap.documents or (int((sizes <= 1000).sum()) if cap.bytes else facts["documents"])
    assert not cap.tokens or 850 < facts["train_tokens"] <= 900
    assert facts["documents"] == documents < whole["documents"] == 200
    assert facts["train_bytes"] + facts["validation_bytes"] == sizes[documents - 1]


def test_fingerprint_depends_on_condition_and_cap(sources):
    plain = sources["jsonl"]
    others = {"where": (Where("score", ">", 1),)}, {"cap": Cap(documents=3)}, {"cap": Cap(tokens=3)}
    assert len({fingerprint(plain), *(fingerprint(dataclasses.replace(plain, **o)) for o in others)}) == 4
    assert fingerprint(sources["memory"]) == fingerprint(plain)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (lambda f: Parquet(f"{f}/*.parquet", field="body"), r"no column 'body' \(found: meta, score, text\)"),
        (lambda f: HuggingFace(f"{f}/saved", split="test"), r"no split 'test'; .*train"),
        (lambda f: HuggingFace(f"{f}/saved/train", split="train"), r"has no splits"),
        (lambda f: HuggingFace(str(f)), r"not a dataset saved by Hugging Face"),
        (lambda f: Jsonl("memory://nowhere/*.jsonl"), r"no file matches 'memory://nowhere"),
        (lambda f: Jsonl("nonsense://x/*.jsonl"), r"'nonsense://x/\*.jsonl' cannot be reached: .*nonsense"),
        (lambda f: Parquet(f"{f}/a.jsonl"), r"a\.jsonl cannot be read: .*"),
    ],
)
def test_missing_files_columns_and_splits_are_errors(sources, tmp_path, source, message):
    with pytest.raises(InputError, match=message):
        list(documents(source(tmp_path)))


def test_hugging_face_library_agrees(tmp_path):
    """The layout above equals that of the library, if it is installed."""
    datasets = pytest.importorskip("datasets")
    saved = datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS).filter(lambda row: row["score"] > 3)})
    saved.save_to_disk(tmp_path / "saved")
    wanted = [row["text"] for row in ROWS if row["score"] > 3]
    assert texts_of(HuggingFace(str(tmp_path / "saved"), split="train")) == wanted


def test_documents_do_not_depend_on_the_size_of_pieces(tmp_path, monkeypatch):
    """Neither the documents nor their order."""
    from mixscale.data import sources as package

    draw = random.Random(0)
    for name in ("a", "b"):
        rows = [{"text": "x" * draw.randint(1, 400) + str(draw.random())} for _ in range(100)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows).rstrip("\n"))
        save_parquet(tmp_path / f"{name}.parquet", rows, row_group_size=7)
    for source in (Jsonl(f"{tmp_path}/*.jsonl"), Parquet(f"{tmp_path}/*.parquet"), TextFiles(f"{tmp_path}/*.jsonl")):
        whole = texts_of(source)
        for size in (1, 37, 1000, 5000):
            reader = package.reader(source)
            pieces = reader.pieces(size)
            found = [reader.take(f) for p in pieces for f in reader.records(p, 2**20, {"text"})]
            assert [document.text for document in found] == whole
            assert len(pieces) > 1
