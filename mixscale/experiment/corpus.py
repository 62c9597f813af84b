"""Where the text comes from, and how it becomes rows of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Embedded:
    """A domain that ships with mixscale."""

    name: str
    """one of: abstracts, code, docs, fiction, maths, romance, speeches, wiki"""


@dataclass(frozen=True)
class TextFiles:
    """Plain text files; each file is a document."""

    glob: str
    """files to read, for example `data/books/**/*.txt`"""
    separator: str = ""
    """where set, each file is split into documents at lines that equal this"""


@dataclass(frozen=True)
class Jsonl:
    """One JSON object a line (plain or .gz); each object is a document."""

    glob: str
    """files to read, for example `data/web-*.jsonl.gz`"""
    field: str = "text"
    """key of the text in each object"""


@dataclass(frozen=True)
class Tfds:
    """A TensorFlow Datasets name, read through `tfds.data_source` without TensorFlow."""

    name: str
    """for example `wikipedia/20230601.en`; must be prepared, or preparable, in the array_record format"""
    split: str = "train"
    field: str = "text"
    data_dir: str | None = None


Source = Embedded | TextFiles | Jsonl | Tfds


@dataclass(frozen=True)
class Tokenizer:
    kind: Literal["bpe", "bytes"] = "bpe"
    """`bpe` is trained on an equal share of every domain's training text; `bytes` has one token a byte"""
    vocab_size: int = 2048
    """size of the BPE vocabulary, end-of-document token included; `bytes` always has 257"""


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
    cache: str = ".cache/mixscale"
    """where token stores are kept, one folder per content hash"""
