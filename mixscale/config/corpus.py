"""Where the text comes from, what is kept of it, and how it becomes rows of tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mixscale.errors import InputError

Value = str | int | float | bool
"""what a field is compared with"""


@dataclass(frozen=True)
class Where:
    """A condition on a field of a record; a record without the field does not meet it."""

    field: str
    """key of the field; `meta.source` is `source` inside of `meta`"""
    op: Literal["==", "!=", "<", "<=", ">", ">=", "in", "not in", "contains"]
    value: Value | tuple[Value, ...]
    """several of them for `in` and `not in`; for `contains`, a part of a string or a member of a list"""


@dataclass(frozen=True)
class Cap:
    """How much of a domain is taken at most, in whole documents from its beginning; what is not set has no limit."""

    documents: int | None = None
    """counted as they are read, before cleaning, empty ones left out; what lies beyond is not read"""
    bytes: int | None = None
    """UTF-8 bytes of text, counted likewise"""
    tokens: int | None = None
    """training tokens, each document's end included; counted after cleaning"""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What is taken of a source."""

    where: tuple[Where, ...] = ()
    """conditions that a record must meet, all of them; others are no part of the domain"""
    cap: Cap = Cap()


@dataclass(frozen=True)
class Embedded:
    """A domain that ships with mixscale."""

    name: str
    """one of: abstracts, code, docs, fiction, maths, romance, speeches, wiki"""


@dataclass(frozen=True)
class TextFiles:
    """Plain text files; each file is a document."""

    glob: str
    """files to read, for example `data/books/**/*.txt` or `s3://bucket/books/*.txt`"""
    separator: str = ""
    """where set, each file is split into documents at lines that equal this"""
    cap: Cap = Cap()


@dataclass(frozen=True)
class Jsonl(Selection):
    """One JSON object a line (plain, .gz or .zst); each object is a document."""

    glob: str
    """files to read, for example `data/web-*.jsonl.gz` or `gs://bucket/web/*.jsonl.zst`"""
    field: str = "text"
    """key of the text in each object; `data.text` is `text` inside of `data`"""


@dataclass(frozen=True)
class Parquet(Selection):
    """Parquet files, as the Hugging Face hub serves them; each row is a document."""

    glob: str
    """files to read, for example `data/train-*.parquet`"""
    field: str = "text"
    """column of the text; `data.text` is `text` inside of the struct `data`"""


@dataclass(frozen=True)
class HuggingFace(Selection):
    """A dataset that Hugging Face `datasets` saved with `save_to_disk`; the library itself is not needed."""

    path: str
    """folder of a dataset, or of several splits"""
    split: str = ""
    """which of them, where the folder holds several"""
    field: str = "text"


@dataclass(frozen=True)
class Tfds(Selection):
    """A TensorFlow Datasets name, read by TFDS without TensorFlow; nothing is downloaded."""

    name: str
    """for example `wikipedia/20230601.en` or `imdb_reviews:1.0.0`; must be prepared in the array_record format"""
    split: str = "train"
    field: str = "text"
    data_dir: str | None = None


Source = Embedded | TextFiles | Jsonl | Parquet | HuggingFace | Tfds
WithFields = Jsonl | Parquet | HuggingFace | Tfds


def by_field(source: WithFields, field: str, values: Sequence[Value] | Mapping[str, Value]) -> dict[str, Source]:
    """A domain for each value of a field of one source, which is read once for all of them.

    Args:
        source: the whole; its own conditions and cap hold for every domain.
        field: for example `meta.source`.
        values: those to take; a mapping gives the domains' names, otherwise they are the values, with what cannot
            stand in a name replaced by `-`.

    Raises:
        InputError: two values make the same name.
    """
    named: dict[str, Value] = dict(values) if isinstance(values, Mapping) else {}
    for value in () if isinstance(values, Mapping) else values:
        name = re.sub(r"[^\w.-]+", "-", str(value)).strip("-.").lower()
        if not name or name in named:
            raise InputError(
                f"value {value!r} of '{field}' makes the domain name '{name}', which is empty or taken; give names "
                f"of your own, as in by_field(source, '{field}', {{'web': {value!r}}})"
            )
        named[name] = value
    return {name: replace(source, where=(*source.where, Where(field, "==", v))) for name, v in named.items()}


@dataclass(frozen=True)
class Tokenizer:
    kind: Literal["bpe", "bytes", "huggingface", "sentencepiece"] = "bpe"
    """`bpe` is trained on an equal share of every domain's training text; `bytes` has one token a byte; the others
    are read from `path`"""
    vocab_size: int = 2048
    """size of the BPE vocabulary, end-of-document token included; `bytes` always has 257, a file what it has"""
    path: str = ""
    """tokenizer.json or a folder that holds one (`huggingface`), or a .model file (`sentencepiece`)"""
    end: str = ""
    """token of the file that ends a document; where not set, the one it names as its end of sequence"""


@dataclass(frozen=True)
class Cleaning:
    """What is left out of the text, and says so: `mixscale corpus` prints what each of these removed."""

    normalize: bool = False
    """Unicode NFC: one way to write each accented letter"""
    shortest: int = 0
    """characters a document has at least"""
    longest: int = 0
    """characters a document has at most; 0 for no limit"""
    quality: tuple[str, ...] = ()
    """domains of English prose whose documents must pass Gopher's rules (arXiv:2112.11446, table A1); `*` for all"""
    copies: Literal["keep", "domain", "corpus"] = "domain"
    """where a text may stand once only: anywhere, in each domain, or in all domains together (the first keeps it)"""
    near_copies: Literal["keep", "domain", "corpus"] = "keep"
    """the same for texts that are nearly the same"""
    similarity: float = 0.7
    """share of their three-word sequences, of all that either has, in which near copies agree (Jaccard), estimated"""
    overlap: int = 0
    """words in a row that training text may not share with held-out text (13 is usual); 0 to allow it"""


@dataclass(frozen=True)
class Corpus:
    domains: dict[str, Source]
    """source of each domain, by the name that mixtures and tables will use"""
    tokenizer: Tokenizer = Tokenizer()
    context: int = 128
    """tokens a sequence is trained on; stored rows hold one more"""
    validation_share: float = 0.08
    """share of each domain's documents held out for validation"""
    seed: int = 0
    """decides which documents are held out"""
    cleaning: Cleaning = Cleaning()
    damaged: float = 0.01
    """share of a source's records that may be unreadable; they are counted and left out, and more of them stop it"""
    record_bytes: int = 2**25
    """largest record (line, row, text file) that is read; a larger one counts as damaged"""
    workers: int = 0
    """processes that read and encode; 0 for one a core where the corpus is large, else this process alone"""
    cache: str = ".cache/mixscale"
    """where token stores are kept, one folder per content hash"""
