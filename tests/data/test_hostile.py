"""Broken or malicious input: handled or refused with a clear error, in bounded memory and time."""

import dataclasses
import gzip
import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import tensorflow_datasets as tfds
from pyarrow import parquet

from mixscale.config import Corpus, HuggingFace, Jsonl, Parquet, TextFiles, Tfds, Tokenizer, by_field
from mixscale.data import build_store, documents
from mixscale.data.sources.files import find
from mixscale.errors import InputError

GOOD = [json.dumps({"text": f"line {i} of good text"}).encode() for i in range(300)]


def corpus_of(tmp_path, source, **more):
    return Corpus({"one": source}, Tokenizer("bytes"), 8, 0.2, **{"cache": str(tmp_path / "cache"), **more})


def built(tmp_path, source, **more):
    return build_store(corpus_of(tmp_path, source, **more), progress=False)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "\xff\xfe"}', r"is not UTF-8: byte 10 is 0xff"),
        (b"\0" * 5000, r"not JSON"),
        (b'{"text": ' + b"[" * 120_000 + b"]" * 120_000 + b"}", r"nested too deep"),
        (b'{"a": ' + b"[" * 1500 + b"]" * 1500 + b', "text": "b"}', r"nested too deep|none"),
        (b'{"text": 1' + b"0" * 10_000 + b"}", r"not JSON|type int"),
        (b'{"text": null}', r"is null"),
        (b'{"text": "' + b"x" * 300_000 + b'"}', r"longer than 262144 bytes; raise corpus\.max_record_bytes"),
        (b'{"text": "' + b"x" * 9_000_000 + b'"}', r"longer than 262144 bytes"),
    ],
    ids=["encoding", "nul", "deep", "deepish", "digits", "null", "long", "longer than a buffer"],
)
def test_damaged_lines_are_skipped_and_counted_up_to_a_limit(tmp_path, line, reason):
    (tmp_path / "lines.jsonl").write_bytes(b"\n".join([*GOOD[:150], line, b"", *GOOD[150:]]))
    limits = {"max_record_bytes": 2**18}
    if reason.endswith("none"):
        # The depth that Python reads differs between versions; either way the other lines are read.
        assert built(tmp_path, Jsonl(f"{tmp_path}/*.jsonl"), **limits).facts["one"]["documents"] >= 300
        return
    found = built(tmp_path, Jsonl(f"{tmp_path}/*.jsonl"), **limits)
    assert found.facts["one"]["documents"] == 300
    assert found.statistics["one"]["damaged"] == 1
    told = rf"lines\.jsonl, line 151.*({reason}).*1 of the 301 records .* allows 0\.10%"
    with pytest.raises(InputError, match=told):
        built(tmp_path, Jsonl(f"{tmp_path}/*.jsonl"), max_damaged=0.001, cache=str(tmp_path / "other"), **limits)
    # This also applies to a store that was built with a larger limit.
    with pytest.raises(InputError, match=r"1 of the 301 records .* allows 0\.10%"):
        built(tmp_path, Jsonl(f"{tmp_path}/*.jsonl"), max_damaged=0.001, **limits)


def test_an_unreadable_source_is_given_up_early(tmp_path):
    (tmp_path / "lines.jsonl").write_bytes(b'{"body": "a"}\n' * 5000)
    with pytest.raises(InputError, match=r"first 1000 records.*no key 'text' \(found: body\)"):
        built(tmp_path, Jsonl(f"{tmp_path}/*.jsonl"))


def test_an_unreadable_file_of_a_source_is_counted(tmp_path):
    """Only at the start of a source; later, its share of damage decides."""
    for name, lines in (("a", GOOD), ("b", [b"no JSON"] * 1100), ("c", GOOD[:5])):
        (tmp_path / f"{name}.jsonl").write_bytes(b"\n".join(lines))
    found = built(tmp_path, Jsonl(f"{tmp_path}/*.jsonl"), max_damaged=0.9)
    assert (found.facts["one"]["documents"], found.statistics["one"]["damaged"]) == (300, 1100)
    with pytest.raises(InputError, match=r"b\.jsonl, line 1: not JSON.*1100 of the 1405 records"):
        built(tmp_path, Jsonl(f"{tmp_path}/*.jsonl"), max_damaged=0.5, cache=str(tmp_path / "other"))


def test_empty_documents_and_files_are_skipped(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([*GOOD, b'{"text": ""}', b'{"text": " \\n\\t"}']))
    (tmp_path / "b.jsonl").write_bytes(b"")
    (tmp_path / "c.jsonl").write_bytes(b"\n\n\n")
    found = built(tmp_path, Jsonl(f"{tmp_path}/*.jsonl"))
    assert found.facts["one"]["documents"] == 300
    assert found.statistics["one"]["removed"] == {"empty": 2}


@pytest.mark.parametrize(
    "raw",
    [b"t\0e\0x\0t\0" * 50, b"\0" * 100, b"\x89PNG\r\n\x1a\n"],
    ids=["utf-16", "nul", "image"],
)
def test_binary_files_are_counted_as_damaged(tmp_path, raw):
    for number in range(120):
        (tmp_path / f"{number:03}.txt").write_text(f"text file number {number} is here\n")
    (tmp_path / "binary.txt").write_bytes(raw)
    found = built(tmp_path, TextFiles(f"{tmp_path}/*.txt"))
    assert (found.facts["one"]["documents"], found.statistics["one"]["damaged"]) == (120, 1)


def test_circular_links_are_followed_once(tmp_path):
    deep = tmp_path / "tree" / "deep"
    deep.mkdir(parents=True)
    (deep / "a.txt").write_text("one text")
    # Two loops: following both to every depth would take forever.
    (deep / "up").symlink_to(tmp_path / "tree")
    (deep / "again").symlink_to(deep)
    (deep / "itself.txt").symlink_to(deep / "itself.txt")
    (deep / "nowhere.txt").symlink_to(tmp_path / "missing.txt")
    os.mkfifo(deep / "pipe.txt")
    assert [d.text for d in documents(TextFiles(f"{tmp_path}/tree/**/*.txt"))] == ["one text"]
    assert [f.path for f in find(f"{tmp_path}/tree/**")] == [str(deep / "a.txt")]


@pytest.mark.parametrize("name", ["../out", "a/b", "..", ".hidden", "a\0b", "", "x" * 300, "/etc/x"])
def test_names_of_domains_cannot_leave_the_folder(tmp_path, name):
    (tmp_path / "lines.jsonl").write_bytes(b"\n".join(GOOD))
    source = Jsonl(f"{tmp_path}/lines.jsonl")
    with pytest.raises(InputError, match="cannot name a folder"):
        dataclasses.replace(corpus_of(tmp_path, source), domains={name: source})


def test_names_made_from_values_cannot_leave_the_folder(tmp_path):
    values = ("../../etc", "a/b", "C:\\x")
    assert list(by_field(Jsonl("x"), "meta", values)) == ["etc", "a-b", "c-x"]


def test_a_saved_dataset_cannot_refer_to_other_folders(tmp_path):
    secret = tmp_path / "secret.arrow"
    secret.write_bytes(b"not yours")
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../secret.arrow"}]}))
    with pytest.raises(InputError, match=r"lacks its files .*saved/secret\.arrow"):
        list(documents(HuggingFace(str(folder))))


@pytest.mark.parametrize(
    ("name", "told", "message"),
    [
        ("state.json", [], r"state\.json .* '_data_files'"),
        ("state.json", {"_data_files": {"a": "b"}}, r"state\.json .* '_data_files'"),
        ("state.json", {"_data_files": [3, {}, {"filename": 3}]}, r"lacks its files .*saved/None, .*saved/3"),
        ("dataset_dict.json", "train", r"dataset_dict\.json .* 'splits'"),
        ("dataset_dict.json", {"splits": "train"}, r"dataset_dict\.json .* 'splits'"),
        ("dataset_dict.json", {"splits": [{}, 3, "train"]}, r"divided into splits; .*train"),
    ],
)
def test_a_malformed_description_of_a_saved_dataset_is_refused(tmp_path, name, told, message):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / name).write_text(json.dumps(told))
    with pytest.raises(InputError, match=message):
        list(documents(HuggingFace(str(tmp_path / "saved"))))


def save_arrow(folder, *batches):
    folder.mkdir()
    with pa.ipc.new_stream(folder / "data.arrow", batches[0].schema) as stream:
        for batch in batches:
            stream.write(batch)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    return HuggingFace(str(folder), field="data.text")


def test_nested_text_has_the_same_limits(tmp_path):
    def rows(*texts):
        return pa.RecordBatch.from_pylist([{"data": {"text": text}} for text in texts])

    good = [json.loads(line)["text"] for line in GOOD]
    parquet.write_table(pa.table(rows(*good, "x" * 300_000)), tmp_path / "good.parquet")
    packed = Parquet(f"{tmp_path}/good.parquet", field="data.text")
    for source in (packed, save_arrow(tmp_path / "saved", rows(*good), rows("x" * 300_000))):
        found = built(tmp_path, source, max_record_bytes=2**18)
        assert (found.facts["one"]["documents"], found.statistics["one"]["damaged"]) == (300, 1)
    parquet.write_table(pa.table(rows(*["0" * 1_000_000] * 80)), tmp_path / "bomb.parquet")
    with pytest.raises(InputError, match=r"bomb\.parquet unpacks to more than 200 times its size"):
        list(documents(Parquet(f"{tmp_path}/bomb.parquet", field="data.text")))


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_text_shared_by_many_rows_is_in_memory_once(tmp_path, kind):
    """A dictionary of one text, to which each row points with one byte."""
    text = os.urandom(2**22).hex()
    table = pa.table({"text": pa.DictionaryArray.from_arrays(pa.array([0] * 200, pa.int8()), [text])})
    parquet.write_table(table, tmp_path / "shared.parquet")
    source = Parquet(f"{tmp_path}/shared.parquet")
    if kind == "arrow":
        source = dataclasses.replace(save_arrow(tmp_path / "saved", *table.to_batches()), field="text")
    code = (
        "from mixscale.data import documents; from mixscale.config import *; import tensorflow_datasets\n"
        "from pyarrow import parquet\n"
        "def held(): return next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('VmHWM'))\n"
        f"before = held(); print(len(next(documents({source!r})).text), held() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    length, kilobytes = map(int, done.stdout.split())
    assert length == 2**23
    # One text of 8 MB and a few copies; sixty-four of them take more than 500 MB.
    assert kilobytes < 200_000


def test_rows_that_point_outside_their_file_or_are_not_text_are_refused(tmp_path):
    offsets = pa.py_buffer(np.array([0, 3000, 4], np.int32).tobytes())
    beyond = pa.StringArray.from_buffers(2, offsets, pa.py_buffer(b"text"))
    source = save_arrow(tmp_path / "saved", pa.record_batch({"text": beyond}))
    with pytest.raises(InputError, match=r"data\.arrow cannot be read"):
        list(documents(dataclasses.replace(source, field="text")))
    latin = pa.array([line + b"caf\xe9" * (i == 7) for i, line in enumerate(GOOD)]).view(pa.string())
    parquet.write_table(pa.table({"text": latin}), tmp_path / "latin.parquet")
    found = built(tmp_path, Parquet(f"{tmp_path}/latin.parquet"))
    assert (found.facts["one"]["documents"], found.statistics["one"]["damaged"]) == (299, 1)
    twice = pa.table([["a"], ["b"]], names=["text", "text"])
    parquet.write_table(twice, tmp_path / "twice.parquet")
    with pytest.raises(InputError, match=r"more than one column 'text'; the columns are text, text"):
        list(documents(Parquet(f"{tmp_path}/twice.parquet")))


def test_files_that_expand_a_thousandfold_are_refused(tmp_path):
    zeros = b'{"text": "' + b"0" * 1_000_000 + b'"}\n'
    (tmp_path / "bomb.jsonl.gz").write_bytes(gzip.compress(zeros * 80))
    (tmp_path / "bomb.jsonl.zst").write_bytes(pa.compress(zeros * 80, codec="zstd", asbytes=True))
    (tmp_path / "one-line.jsonl.gz").write_bytes(gzip.compress(b"0" * 80_000_000))
    assert max(path.stat().st_size for path in tmp_path.iterdir()) < 300_000
    for name in ("bomb.jsonl.gz", "bomb.jsonl.zst", "one-line.jsonl.gz"):
        with pytest.raises(InputError, match=f"{name} unpacks to more than 200 times its size"):
            built(tmp_path, Jsonl(f"{tmp_path}/{name}"), max_damaged=1.0)
    table = pa.table({"text": ["0" * 1_000_000] * 80})
    parquet.write_table(table, tmp_path / "bomb.parquet")
    parquet.write_table(table, tmp_path / "plain.parquet", use_dictionary=False, compression="zstd")
    for name in ("bomb", "plain"):
        with pytest.raises(InputError, match=rf"{name}\.parquet.* unpacks to .* times its size"):
            list(documents(Parquet(f"{tmp_path}/{name}.parquet")))


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.pkl", "x.jsonl.bz2", "x.npy"])
def test_archives_and_pickles_are_not_opened(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(InputError, match=rf"{name} .*\.gz or \.zst"):
        list(documents(Jsonl(str(tmp_path / name))))


def test_truncated_files_are_errors(tmp_path):
    lines = b"".join(json.dumps({"text": os.urandom(300).hex()}).encode() + b"\n" for _ in range(2000))
    (tmp_path / "cut.jsonl.zst").write_bytes(pa.compress(lines, codec="zstd", asbytes=True)[:-900])
    with pytest.raises(InputError, match=r"cut\.jsonl\.zst .* zstd"):
        list(documents(Jsonl(f"{tmp_path}/cut.jsonl.zst")))
    parquet.write_table(pa.table({"text": [os.urandom(300).hex()] * 1000}), tmp_path / "cut.parquet")
    whole = (tmp_path / "cut.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[:-100])
    with pytest.raises(InputError, match=r"cut\.parquet cannot be read"):
        list(documents(Parquet(f"{tmp_path}/cut.parquet")))


def test_a_dataset_cannot_load_code(tmp_path):
    with pytest.raises(InputError, match="'huggingface:someone/something' is in a namespace"):
        list(documents(Tfds("huggingface:someone/something", data_dir=str(tmp_path))))


DICT = "tensorflow_datasets.core.features.features_dict.FeaturesDict"
PLANTED = {
    "proto": {"pythonClassName": "planted.Feature", "text": {}},
    "proto, other spelling": {"python_class_name": "planted.Feature", "text": {}},
    "legacy": {"type": "planted.Feature", "content": {}},
    "inside": {"pythonClassName": DICT, "featuresDict": {"features": {"a": {"python_class_name": "planted.Feature"}}}},
    "as a string": {
        "pythonClassName": DICT,
        "jsonFeature": {"json": json.dumps({"a": {"type": "planted.Feature", "content": {}}})},
    },
    "content as a string": {
        "type": DICT,
        "proto_cls": "tensorflow_datasets.FeaturesDict",
        "content": json.dumps({"features": {"a": {"pythonClassName": "planted.Feature", "text": {}}}}),
    },
}


@pytest.mark.parametrize(
    ("how", "where"),
    # The description of the features is in the new form.
    [*((how, "features") for how in PLANTED), ("proto", "info"), ("inside", "info"), ("as a string", "info")],
)
def test_no_module_that_a_dataset_names_is_imported(tmp_path, monkeypatch, how, where):
    description = PLANTED[how]
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "planted.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    folder = tmp_path / "data" / "poems" / "1.0.0"
    folder.mkdir(parents=True)
    about = {"name": "poems", "version": "1.0.0", **({"features": description} if where == "info" else {})}
    (folder / "dataset_info.json").write_text(json.dumps(about))
    (folder / "features.json").write_text(json.dumps(description))
    theirs = tfds.features.FeatureConnector.__dict__["cls_from_name"]
    with pytest.raises(InputError, match=r"TFDS 'poems' has a feature of class 'planted\.Feature'"):
        list(documents(Tfds("poems", data_dir=str(tmp_path / "data"))))
    assert not (tmp_path / "ran").exists()
    assert tfds.features.FeatureConnector.__dict__["cls_from_name"] is theirs


def test_no_module_that_a_token_store_names_is_imported(tmp_path, monkeypatch):
    (tmp_path / "lines.jsonl").write_bytes(b"\n".join(GOOD))
    found = built(tmp_path, Jsonl(f"{tmp_path}/lines.jsonl"))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "planted.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (described,) = found.path.glob("**/features.json")
    described.write_text(json.dumps(PLANTED["inside"]))
    with pytest.raises(InputError, match=r"token store .* has a feature of class 'planted\.Feature'"):
        found.rows("one", "train")
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_a_line_of_a_gigabyte_is_skipped_in_little_memory(tmp_path):
    path = tmp_path / "giant.jsonl"
    with open(path, "wb") as file:
        file.write(b"\n".join(GOOD) + b'\n{"text": "')
        for _ in range(1024):
            file.write(b"x" * 2**20)
        file.write(b'"}\n' + b"\n".join(GOOD[::-1]))
    code = (
        "from mixscale.data import build_store; from mixscale.config import *\n"
        f"corpus = {corpus_of(tmp_path, Jsonl(str(path)), workers=1)!r}\n"
        "s = build_store(corpus, progress=False); print(s.statistics['one']['damaged'], s.facts['one']['documents'])\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    damaged, number, kilobytes = map(int, done.stdout.split())
    assert (damaged, number) == (1, 300)
    assert kilobytes < 700_000
    path.unlink()
