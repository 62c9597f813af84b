"""Files as people have them: names with brackets, pointers, other formats, saved selections, fields inside of text."""

import codecs
import dataclasses
import gzip
import json
import shutil
import subprocess

import fsspec
import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from mixscale.config import Corpus, HuggingFace, Jsonl, Parquet, TextFiles, Tokenizer, Where, by_field
from mixscale.data import build_store, documents, sources
from mixscale.errors import InputError

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a1" * 32 + b"\nsize 1048576\n"
RECORDS = [
    {"text": 'a "quote", [1] and {2} \\ ünë', "meta": {"a": [1, {"b": "}"}]}},
    {"text": "two\nlines"},
    {"text": "c"},
]
TEXTS = [record["text"] for record in RECORDS]


def texts_of(source):
    return [document.text for document in documents(source)]


def lines(*records):
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def built(tmp_path, domains, **more):
    domains = domains if isinstance(domains, dict) else {"one": domains}
    corpus = Corpus(
        domains, **{"tokenizer": Tokenizer("bytes"), "cache": str(tmp_path / "cache"), "context": 8, **more}
    )
    return build_store(corpus, progress=False)


# A literal path is not a pattern


@pytest.fixture(params=["local", "remote"])
def lake(request, tmp_path):
    """Where files are whose names are patterns too, and others that these patterns match."""
    files = {
        "part[1]/a.jsonl": "right", "part1/a.jsonl": "wrong", "part[1]/deep/b[2].jsonl": "deep",
        "part1/deep/b2.jsonl": "wrong", "why?.jsonl": "why", "why1.jsonl": "wrong", "all*.jsonl": "star",
        "all1.jsonl": "wrong",
    }  # fmt: skip
    if request.param == "remote":
        for name, text in files.items():
            fsspec.filesystem("memory").pipe(f"/literal/{name}", lines({"text": text}))
        return "memory://literal"
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(lines({"text": text}))
    return str(tmp_path)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("part[1]/a.jsonl", ["right"]),
        ("part[1]/*.jsonl", ["right"]),
        ("part[1]/**/*.jsonl", ["right", "deep"]),
        ("**/part[1]/a.jsonl", ["right"]),
        ("**/b[2].jsonl", ["deep"]),
        ("part[1]/deep/b[2].jsonl", ["deep"]),
        ("why?.jsonl", ["why"]),
        ("all*.jsonl", ["star"]),
        ("p[a]rt1/a.jsonl", ["wrong"]),
        ("why[0-9].jsonl", ["wrong"]),
    ],
)
def test_an_existing_path_wins_over_a_pattern(lake, pattern, found):
    assert texts_of(Jsonl(f"{lake}/{pattern}")) == found


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("part[2]/a.jsonl", r"has no 'part\[2\]'; did you mean 'part\[1\]'"),
        ("part[1]/a*.json", r"has no 'a\*\.json'; did you mean 'a\.jsonl'"),
        ("part[1]", r"part\[1\]' is a folder; give a pattern for its files, such as '.*part\[1\]/\*\*/\*\.jsonl'"),
    ],
)
def test_a_pattern_that_matches_nothing_names_what_is_similar(lake, pattern, hint):
    with pytest.raises(InputError, match=rf"no file matches .*{hint}"):
        texts_of(Jsonl(f"{lake}/{pattern}"))


# Files that are something else


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet", "a.arrow"])
def test_a_pointer_of_git_lfs_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(POINTER)
    kinds = {"txt": TextFiles, "parquet": Parquet, "arrow": Parquet}
    source = kinds.get(name.rpartition(".")[2], Jsonl)(f"{tmp_path}/{name}")
    message = rf"{name} is a Git LFS pointer.*`git lfs pull`"
    with pytest.raises(InputError, match=message):
        texts_of(source)
    with pytest.raises(InputError, match=message):
        built(tmp_path, source)


@pytest.mark.parametrize("kind", ["huggingface", "sentencepiece"])
def test_a_tokenizer_that_is_a_pointer_is_named(tmp_path, kind):
    (tmp_path / "tokenizer.json").write_bytes(POINTER)
    (tmp_path / "a.jsonl").write_bytes(lines({"text": "a"}))
    with pytest.raises(InputError, match=r"tokenizer\.json is a Git LFS pointer.*`git lfs pull`"):
        built(tmp_path, Jsonl(f"{tmp_path}/a.jsonl"), tokenizer=Tokenizer(kind, path=f"{tmp_path}/tokenizer.json"))


@pytest.fixture
def tables(tmp_path):
    """One table as Parquet and in each format of Arrow."""
    table = pa.table({"text": TEXTS, "meta": ['{"source": "web"}', '{"source": "books"}', "no JSON"]})
    parquet.write_table(table, tmp_path / "a.parquet")
    feather.write_feather(table, tmp_path / "a.feather")
    for name, writer in (("stream", pa.ipc.new_stream), ("file", pa.ipc.new_file)):
        with writer(tmp_path / f"{name}.arrow", table.schema) as file:
            file.write_table(table, max_chunksize=2)
    return tmp_path


@pytest.mark.parametrize("name", ["a.parquet", "a.feather", "stream.arrow", "file.arrow"])
def test_arrow_is_read_as_parquet_is_and_named_elsewhere(tables, name):
    path = f"{tables}/{name}"
    assert texts_of(Parquet(path)) == TEXTS
    assert texts_of(Parquet(path, where=Where("meta.source", "==", "web"))) == TEXTS[:1]
    fsspec.filesystem("memory").pipe(f"/tables/{name}", (tables / name).read_bytes())
    assert texts_of(Parquet(f"memory://tables/{name}")) == TEXTS
    for source in (Jsonl(path), TextFiles(path)):
        with pytest.raises(
            InputError, match=rf"contains (Parquet|Arrow).* data, not text; read it with Parquet\('{path}'"
        ):
            texts_of(source)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (lines(*RECORDS), r"looks like JSON; read it with Jsonl\("),
        (gzip.compress(b"PAR1", mtime=0), r"is gzip data; unpack it first"),
        (b"", r"is empty; leave it out"),
        (b"text\n1\n", r"is neither Parquet nor Arrow; write it again as Parquet"),
    ],
)
def test_what_is_not_parquet_is_named(tmp_path, raw, reason):
    (tmp_path / "x.parquet").write_bytes(raw)
    with pytest.raises(InputError, match=rf"x\.parquet cannot be read: it {reason}"):
        texts_of(Parquet(f"{tmp_path}/x.parquet"))


WRITTEN = {
    "array": json.dumps(RECORDS),
    "indented array": json.dumps(RECORDS, indent=2),
    "array with a line for each item": "[\n" + ",\n".join(map(json.dumps, RECORDS)) + "\n]\n",
    "indented objects": "\n".join(json.dumps(r, indent=4) for r in RECORDS),
    "objects on one line": "".join(map(json.dumps, RECORDS)),
    "lines with commas": ",\n".join(map(json.dumps, RECORDS)) + ",",
    "arrays": "\n".join(json.dumps(part) for part in (RECORDS[:2], [], RECORDS[2:])),
    "old ends of lines": "\r".join(map(json.dumps, RECORDS)),
}


@pytest.mark.parametrize("written", WRITTEN)
def test_json_that_is_not_in_lines_is_read(tmp_path, written, monkeypatch):
    text = WRITTEN[written]
    path = tmp_path / "x.json"
    for raw in (text.encode(), codecs.BOM_UTF8 + text.encode(), text.encode("utf-16"), gzip.compress(text.encode())):
        path.write_bytes(raw)
        assert texts_of(Jsonl(str(path))) == TEXTS
    # In any buffers and pieces.
    path.write_text(text)
    monkeypatch.setattr("mixscale.data.sources.text.BUFFER", 1)
    read = sources.reader(Jsonl(str(path)))
    assert [r.fields["text"] for p in read.pieces(20) for r in read.records(p, 2**20, {"text"})] == TEXTS


def test_a_long_item_of_an_array_is_damage_and_does_not_fill_memory(tmp_path):
    records = [{"text": f"text number {i}"} for i in range(200)]
    (tmp_path / "x.json").write_text(json.dumps([*records[:100], {"text": "x" * 5000}, *records[100:]]))
    found = built(tmp_path, Jsonl(f"{tmp_path}/x.json"), max_record_bytes=1000, validation_share=0.2)
    assert (found.statistics["one"]["documents"], found.statistics["one"]["damaged"]) == (200, 1)
    read = sources.reader(Jsonl(f"{tmp_path}/x.json"))
    (damage,) = [r for p in read.pieces(2**24) for r in read.records(p, 1000, {"text"}) if not hasattr(r, "fields")]
    assert "object 101: longer than 1000 bytes" in damage.reason


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps(RECORDS)[:-5], r"object 3: not JSON .*the rest of the file cannot be read"),
        (json.dumps(RECORDS)[:-1], r"object 4: not JSON"),
        ('[{"text": "a"}, {"text": "b" "c"}]', r"object 2: not JSON"),
        ('["a", "b"]', r"object 1: found a str; each item must be one JSON object"),
        (json.dumps({"version": 1, "rows": RECORDS}, indent=1), r"'rows' is a list of records.*jq -c '\.rows\[\]'"),
    ],
)
def test_json_that_cannot_be_read_says_what_to_do(tmp_path, text, message):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=message):
        texts_of(Jsonl(f"{tmp_path}/x.json"))


def test_compressed_files_of_any_name_and_many_members(tmp_path):
    parts = lines(*RECORDS[:1]), lines(*RECORDS[1:])
    (tmp_path / "a").write_bytes(b"".join(map(gzip.compress, parts)))
    (tmp_path / "b.zst").write_bytes(b"".join(pa.compress(part, codec="zstd", asbytes=True) for part in parts))
    for name in ("a", "b.zst"):
        assert texts_of(Jsonl(f"{tmp_path}/{name}")) == TEXTS
    (tmp_path / "c.jsonl.gz").write_bytes(parts[0])
    with pytest.raises(InputError, match=r"c\.jsonl\.gz is not a gzip file: it is not compressed; rename it"):
        texts_of(Jsonl(f"{tmp_path}/c.jsonl.gz"))


@pytest.mark.skipif(not shutil.which("zstd"), reason="needs the command zstd")
def test_zstd_with_a_long_window_names_the_reason_and_the_remedy_works(tmp_path):
    for window in (27, 31):
        packed = subprocess.run(["zstd", f"--long={window}"], input=lines(*RECORDS), capture_output=True, check=True)
        (tmp_path / f"{window}.zst").write_bytes(packed.stdout)
    assert texts_of(Jsonl(f"{tmp_path}/27.zst")) == TEXTS
    with pytest.raises(InputError, match=r"window of more than 128 MB .*; compress it again: (.*)") as caught:
        texts_of(Jsonl(f"{tmp_path}/31.zst"))
    subprocess.run(str(caught.value).partition("again: ")[2], shell=True, cwd=tmp_path, check=True)
    assert texts_of(Jsonl(f"{tmp_path}/NEW.zst")) == TEXTS


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_a_byte_order_mark_decides_the_encoding(tmp_path, encoding):
    mark = codecs.BOM_UTF16_BE if encoding == "utf-16-be" else b""
    (tmp_path / "a.txt").write_bytes(mark + "één\r\n---\r\n世界 🙂".encode(encoding))
    assert texts_of(TextFiles(f"{tmp_path}/a.txt", separator="---")) == ["één\n", "世界 🙂"]


# Saved selections


def saved(folder, parts, **state):
    """A dataset as `save_to_disk` of `datasets` 1 wrote it: the numbers of selected rows are in their own file."""
    folder.mkdir(parents=True)
    for name, columns in parts.items():
        table = pa.table(columns)
        with pa.ipc.new_stream(folder / f"{name}.arrow", table.schema) as stream:
            stream.write_table(table, max_chunksize=7)
    names = {
        "_data_files": [n for n in parts if n != "indices"],
        "_indices_data_files": [n for n in parts if n == "indices"],
    }
    named = {key: [{"filename": f"{name}.arrow"} for name in of_key] for key, of_key in names.items()}
    (folder / "state.json").write_text(json.dumps({**named, **state}))
    return HuggingFace(str(folder))


def test_a_saved_selection_is_honoured_in_its_order(tmp_path):
    rows = [f"this is row number {i}" for i in range(200)]
    chosen = [150, *range(199, 0, -2), 3]
    parts = {"a": {"text": rows[:90]}, "b": {"text": rows[90:]}}
    source = saved(tmp_path / "x", {**parts, "indices": {"indices": pa.array(chosen, pa.uint64())}})
    assert texts_of(source) == [rows[i] for i in chosen]
    read = sources.reader(source)
    pieces = read.pieces(500)
    assert len(pieces) > 3
    assert [r.fields["text"] for p in pieces for r in read.records(p, 99, {"text"})] == [rows[i] for i in chosen]
    assert built(tmp_path, source, validation_share=0.2).statistics["one"]["documents"] == len(chosen)
    others = [saved(tmp_path / "y", parts, _indices_data_files=None), saved(tmp_path / "z", parts)]
    assert [texts_of(other) for other in others] == [rows, rows]
    assert len({sources.fingerprint(each) for each in (source, *others)}) == 2
    # Any row but those of the dataset, and parts of files.
    beyond = saved(tmp_path / "beyond", {**parts, "indices": {"indices": pa.array([3, 200], pa.uint64())}})
    with pytest.raises(InputError, match="selects row 200, but has 200 rows"):
        texts_of(beyond)
    with pytest.raises(InputError, match="takes parts of its files"):
        texts_of(saved(tmp_path / "skip", parts, _data_files=[{"filename": "a.arrow", "skip": 1, "take": 2}]))


def test_the_library_saves_selections_so_that_they_are_honoured(tmp_path):
    datasets = pytest.importorskip("datasets")
    shuffled = datasets.Dataset.from_dict({"text": TEXTS}).shuffle(seed=3).select([2, 0])
    datasets.DatasetDict({"train": shuffled, "test": shuffled}).save_to_disk(tmp_path / "x")
    assert texts_of(HuggingFace(f"{tmp_path}/x", "train")) == shuffled["text"][:]
    with pytest.raises(InputError, match=r"is divided into splits; set split to one of test, train"):
        texts_of(HuggingFace(f"{tmp_path}/x"))
    (tmp_path / "x" / "dataset_dict.json").unlink()
    with pytest.raises(InputError, match=r"has no state\.json; datasets are in its folders test, train; add one"):
        texts_of(HuggingFace(f"{tmp_path}/x"))


def test_a_folder_of_the_hub_names_the_source_that_reads_it(tables):
    with pytest.raises(InputError, match=rf"read it with Parquet\('{tables}/\*\*/\*\.parquet'\)"):
        texts_of(HuggingFace(str(tables)))


# Fields


@pytest.fixture
def web(tmp_path):
    """Records with metadata as the JSON text of an object, and as what Python prints for one."""
    sources_of = ["web", "Books (old)"]
    records = [
        {"text": f"text number {i} of some", "meta": json.dumps({"source": sources_of[i % 2]}), "score": i / 10,
         "printed": "{'source': 'web'}", "tags": ["x"]} for i in range(200)
    ]  # fmt: skip
    (tmp_path / "web.jsonl").write_bytes(lines(*records))
    return Jsonl(f"{tmp_path}/web.jsonl")


def test_json_text_inside_of_a_field_is_followed(web, tmp_path):
    found = built(tmp_path, by_field(web, "meta.source", ("web", "Books (old)")), validation_share=0.2)
    assert {d: found.statistics[d]["documents"] for d in found.domains} == {"web": 100, "books-old": 100}
    assert set(texts_of(dataclasses.replace(web, field="meta.source"))) == {"web", "Books (old)"}


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            ("meta.sorce", "==", "web"),
            r"has the field 'meta\.sorce'; did you mean 'meta\.source'\? It is text \('web'\)",
        ),
        (("scor", ">", 1), r"has the field 'scor'; did you mean 'score'\? It is a number \(0\.0\)"),
        (("printed.source", "==", "web"), r"'printed' is text \(.*\), not an object or the JSON text of one"),
        (("meta.source", "==", "Web"), r"'meta\.source' is text \('web', 'Books \(old\)'\); did you mean 'web'"),
        (("score", "==", "5"), r"has score == '5'; 'score' is a number \(0\.0, 0\.1"),
        (("tags", "==", "x"), r"has tags == 'x'; 'tags' is a list"),
    ],
)
def test_a_condition_that_nothing_meets_says_what_was_found(web, tmp_path, where, message):
    with pytest.raises(
        InputError, match=rf"domain 'one' has no text: none of the first 200 records .*{message}"
    ) as caught:
        built(tmp_path, dataclasses.replace(web, where=Where(*where)))
    assert "Where(" not in str(caught.value)
    with pytest.raises(InputError, match=r"no record meets score > 15 and score < 10 at once"):
        built(tmp_path, dataclasses.replace(web, where=(Where("score", ">", 15), Where("score", "<", 10))))


def test_a_misspelt_column_names_the_nearest_and_its_type(tables):
    for name in ("a.parquet", "stream.arrow"):
        with pytest.raises(InputError, match=r"no column 'txt'; did you mean 'text'\? It is string"):
            texts_of(Parquet(f"{tables}/{name}", field="txt"))


@pytest.mark.parametrize(("op", "value"), [("in", "en"), ("not in", 3), ("==", ("en",)), ("contains", ("a", "b"))])
def test_a_condition_takes_one_value_or_several(op, value):
    with pytest.raises(InputError, match=rf"where\.value of 'lang {op}' .*must be (one value|a tuple of values)"):
        Where("lang", op, value)
