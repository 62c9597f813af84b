"""Each kind of source reads real files, and errors name what it cannot read."""

import dataclasses
import gzip
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from mixscale.config import Embedded, Jsonl, TextFiles, Tfds
from mixscale.data import documents, embedded_names
from mixscale.data.sources import fingerprint, reader
from mixscale.errors import InputError

NAMES = ("abstracts", "code", "docs", "fiction", "maths", "romance", "speeches", "wiki")


def texts_of(source):
    return [document.text for document in documents(source)]


def test_embedded_domains_are_complete_clean_and_without_duplicates():
    assert embedded_names() == NAMES
    # Hosts are written in parts, as in the script that removes them.
    unwanted = re.compile(r"[\w.+-]+@[\w-]+\.[a-z]{2}|pypi\.o|npm" + r"js\.|python" + r"hosted", re.IGNORECASE)
    for name in NAMES:
        texts = texts_of(Embedded(name))
        size = sum(len(t.encode()) for t in texts)
        assert 1.9e6 < size < 4.1e6, name
        assert len(texts) > 500, name
        assert len(set(texts)) == len(texts), name
        assert not [t for t in texts if unwanted.search(t)], name


def test_embedded_parts_name_their_work_and_other_documents_have_none(tmp_path):
    works = {name: [document.work for document in documents(Embedded(name))] for name in NAMES}
    for name in ("abstracts", "romance", "wiki"):
        assert set(works[name]) == {""}, name
    for name in ("code", "docs", "fiction", "maths", "speeches"):
        assert "" not in works[name], name
        # Enough works that 8 % of them are about 8 % of the text.
        assert len(set(works[name])) > 150, name
    assert {w for w in works["code"] if not w.endswith(".py")} == set()
    assert "1981_jimmy_carter_d" in works["speeches"]
    (tmp_path / "two.txt").write_text("one\n---\ntwo\n")
    assert [d.work for d in documents(TextFiles(f"{tmp_path}/two.txt", separator="---"))] == ["", ""]


def test_an_unknown_embedded_name_suggests_the_nearest():
    with pytest.raises(InputError, match=r"'fictoin'; did you mean 'fiction'"):
        list(documents(Embedded("fictoin")))


def test_text_files_are_read_whole_or_split_in_the_order_of_their_paths(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.txt").write_bytes("één\r\n---\r\ntwo --- two\n---\n\n".encode())
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbffirst\n")
    (tmp_path / "c.md").write_text("another kind")
    pattern = f"{tmp_path}/**/*.txt"
    assert texts_of(TextFiles(pattern)) == ["first\n", "één\n---\ntwo --- two\n---\n\n"]
    assert texts_of(TextFiles(pattern, separator="---")) == ["first\n", "één\n", "two --- two\n"]


def test_a_glob_without_files_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"no file matches .*\*\.txt"):
        list(documents(TextFiles(f"{tmp_path}/*.txt")))


def test_a_file_that_is_not_utf8_is_an_error(tmp_path):
    (tmp_path / "latin.txt").write_bytes("caf\u00e9".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.txt is not UTF-8: byte 3 is 0xe9"):
        list(documents(TextFiles(f"{tmp_path}/*.txt")))


@pytest.mark.parametrize("packed", [False, True])
def test_jsonl_plain_and_gzipped(tmp_path, packed):
    lines = "".join(json.dumps({"body": t, "n": 1}) + "\n" for t in ("ünë", " ", "two\nlines")) + "\n"
    if packed:
        (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    else:
        (tmp_path / "x.jsonl").write_text(lines, "utf-8")
    assert texts_of(Jsonl(f"{tmp_path}/x.*", field="body")) == ["ünë", "two\nlines"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"txt": "a", "id": 1}', r"bad\.jsonl, line 2: no key 'text'; did you mean 'txt'"),
        ('{"text": 3}', r"bad\.jsonl, line 2: 'text' is a number \(3\)"),
        ("[1]", r"bad\.jsonl, line 2: .*list"),
        ('{"text": "a', r"bad\.jsonl, line 2: not JSON"),
        ('{"text": "\\ud800"}', r"bad\.jsonl, line 2: .*surrogate"),
    ],
)
def test_a_bad_jsonl_line_is_an_error_with_its_number(tmp_path, line, message):
    (tmp_path / "bad.jsonl").write_text('{"text": "good"}\n' + line + "\n", "utf-8")
    with pytest.raises(InputError, match=message):
        list(documents(Jsonl(f"{tmp_path}/*.jsonl")))


def test_a_truncated_gzip_is_an_error(tmp_path):
    whole = gzip.compress(b'{"text": "good"}\n' * 1000)
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.jsonl\.gz .* gzip"):
        list(documents(Jsonl(f"{tmp_path}/*.gz")))


@pytest.fixture(scope="module")
def poems(tmp_path_factory):
    """Folder of a real TFDS dataset `poems` of two texts, prepared as array_record."""
    import tensorflow_datasets as tfds

    class Poems(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = "poems"
        VERSION = tfds.core.Version("1.0.0")
        code_path = None

        def _info(self):
            features = tfds.features.FeaturesDict({"verse": tfds.features.Text(), "year": np.int64})
            return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            yield from enumerate([{"verse": "Ô rage\n", "year": 1637}, {"verse": "Ô désespoir", "year": 1637}])

    folder = tmp_path_factory.mktemp("tfds")
    Poems(data_dir=str(folder), file_format="array_record").download_and_prepare()
    return str(folder)


def test_tfds_reads_a_prepared_dataset(poems):
    for name in ("poems", "poems:1.0.0", "poems:1.*.*"):
        assert texts_of(Tfds(name, field="verse", data_dir=poems)) == ["Ô rage\n", "Ô désespoir"]


def test_tfds_downloads_and_prepares_nothing(tmp_path):
    """Not even a dataset that TFDS can make."""
    import tensorflow_datasets as tfds

    began = []

    class UnpreparedVerses(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        code_path = None

        def _info(self):
            features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            began.append(dl_manager)
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            yield 0, {"text": "a verse"}

    with pytest.raises(InputError, match=r"TFDS 'unprepared_verses'.*array_record"):
        list(documents(Tfds("unprepared_verses", data_dir=str(tmp_path))))
    assert began == []
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_a_tfds_split_is_divided_like_the_whole(poems):
    whole, *parts = (
        reader(Tfds("poems", split, "verse", poems)).pieces(30)
        for split in ("train", "train[:100%]", "train[0:2]", "train[1:]")
    )
    assert parts[:2] == [whole, whole]
    assert [(p.start, p.stop) for p in whole] == [(0, 1), (1, 2)]
    assert [(p.start, p.stop) for p in parts[2]] == [(0, 1)]
    assert 0 < parts[2][0].size <= whole[0].size


def test_fingerprint_depends_on_content_and_not_on_names(tmp_path):
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    one.write_text('{"text": "a", "body": "b"}\n')
    two.write_text('{"text": "c", "body": "d"}\n')
    both = Jsonl(f"{tmp_path}/*.jsonl")
    seen = [fingerprint(both), fingerprint(Jsonl(both.glob, field="body")), fingerprint(TextFiles(both.glob))]
    seen += [fingerprint(TextFiles(both.glob, separator="-")), fingerprint(Jsonl(str(one)))]
    one.rename(tmp_path / "a.jsonl")
    assert fingerprint(both) == seen[0]
    # The same size and time: only the content differs.
    times = two.stat()
    two.write_text('{"text": "C", "body": "d"}\n')
    os.utime(two, ns=(times.st_atime_ns, times.st_mtime_ns))
    seen.append(fingerprint(both))
    two.write_text("")
    seen.append(fingerprint(both))
    seen += [fingerprint(Embedded("code")), fingerprint(Embedded("docs"))]
    assert len(set(seen)) == 9


def test_fingerprint_of_tfds_depends_on_split_and_field(poems):
    whole = Tfds("poems", field="verse", data_dir=poems)
    others = {"split": "train[:1]"}, {"split": "train[1:]"}, {"field": "year"}
    seen = {fingerprint(whole), *(fingerprint(dataclasses.replace(whole, **other)) for other in others)}
    assert len(seen) == 4
    assert fingerprint(dataclasses.replace(whole)) in seen
    with pytest.raises(InputError, match="Unknown split"):
        fingerprint(dataclasses.replace(whole, split="tset"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"name": "poems"}, r"TFDS 'poems' has no feature 'text' \(found: verse, year\)"),
        ({"name": "poems", "field": "vers"}, r"TFDS 'poems' has no feature 'vers'; did you mean 'verse'\? It is text"),
        ({"name": "poems", "field": "year"}, r"feature 'year' of TFDS 'poems' is .*text"),
        ({"name": "poems", "split": "tset"}, r"TFDS 'poems', split 'tset', .*Unknown split"),
        ({"name": "pomes"}, r"TFDS 'pomes'.*Could not find dataset files.*array_record"),
    ],
)
def test_tfds_errors_name_the_cause(poems, source, message):
    with pytest.raises(InputError, match=message):
        list(documents(Tfds(data_dir=poems, **source)))


@pytest.mark.parametrize("file", ["*.array_record*", "dataset_info.json"])
def test_a_pointer_of_git_lfs_in_a_tfds_dataset_is_named(poems, tmp_path, file):
    # Brackets in the folder's name are no pattern.
    folder = shutil.copytree(poems, tmp_path / "data[1]")
    source = Tfds("poems", field="verse", data_dir=str(folder))
    assert len(texts_of(source)) == 2
    (path,) = folder.rglob(file)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    with pytest.raises(InputError, match=rf"{path.name} is a Git LFS pointer.*`git lfs pull`"):
        texts_of(source)


def test_importing_mixscale_data_is_cheap():
    heavy = "[m for m in ('tensorflow_datasets', 'tokenizers', 'pandas', 'jax') if m in sys.modules]"
    code = f"import sys, mixscale.data; sys.exit(str({heavy}) if {heavy} else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
