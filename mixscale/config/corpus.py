"""Where the text comes from, which of it is kept, and how it becomes rows of tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mixscale.errors import InputError, did_you_mean
from mixscale.validation import Validated, setting

Value = str | int | float | bool
"""what a field is compared with"""


@dataclass(frozen=True)
class Where(Validated, section="where"):
    """A condition on a field of a record; a record without the field does not meet it."""

    field: str
    """key of the field; `meta.source` is `source` inside `meta`"""
    op: Literal["==", "!=", "<", "<=", ">", ">=", "in", "not in", "contains"]
    value: Value | tuple[Value, ...]
    """one value; several for `in` and `not in`; part of a string or a member of a list for `contains`"""


@dataclass(frozen=True)
class Cap(Validated, section="cap"):
    """The most of a domain that is used, in whole documents from its beginning; None means no limit."""

    documents: int | None = setting(None, least=0)
    """documents read, before cleaning, not counting empty ones; later documents are not read"""
    bytes: int | None = setting(None, least=0)
    """UTF-8 bytes of text, counted the same way"""
    tokens: int | None = setting(None, least=0)
    """training tokens, the end of each document included; counted after cleaning"""


@dataclass(frozen=True, kw_only=True)
class Selection(Validated):
    """Which records of a source are used."""

    where: tuple[Where, ...] = ()
    """conditions that a record must meet, all of them"""
    cap: Cap = Cap()


@dataclass(frozen=True)
class Embedded(Validated, section="Embedded"):
    """A domain that ships with mixscale."""

    name: str
    """one of: abstracts, code, docs, fiction, maths, romance, speeches, wiki"""


@dataclass(frozen=True)
class TextFiles(Validated, section="TextFiles"):
    """Plain text files; each file is a document."""

    glob: str
    """files to read, for example `data/books/**/*.txt` or `s3://bucket/books/*.txt`"""
    separator: str = ""
    """if set, each file is split into documents at lines that equal this"""
    cap: Cap = Cap()


@dataclass(frozen=True)
class Jsonl(Selection, section="Jsonl"):
    """One JSON object a line (plain, .gz or .zst); each object is a document."""

    glob: str
    """files to read, for example `data/web-*.jsonl.gz` or `gs://bucket/web/*.jsonl.zst`"""
    field: str = "text"
    """key of the text in each object; `data.text` is `text` inside `data`"""


@dataclass(frozen=True)
class Parquet(Selection, section="Parquet"):
    """Parquet files, as the Hugging Face hub serves them; each row is a document."""

    glob: str
    """files to read, for example `data/train-*.parquet`"""
    field: str = "text"
    """column of the text; `data.text` is `text` inside the struct `data`"""


@dataclass(frozen=True)
class HuggingFace(Selection, section="HuggingFace"):
    """A dataset written by `save_to_disk` of Hugging Face `datasets`; the library itself is not needed."""

    path: str
    """folder of a dataset, or of several splits"""
    split: str = ""
    """which split to read, if the folder holds several"""
    field: str = "text"


@dataclass(frozen=True)
class Tfds(Selection, section="Tfds"):
    """A TensorFlow Datasets name, read by TFDS without TensorFlow; nothing is downloaded."""

    name: str
    """for example `wikipedia/20230601.en` or `imdb_reviews:1.0.0`; must be prepared in the array_record format"""
    split: str = "train"
    field: str = "text"
    data_dir: str | None = None


Source = Embedded | TextFiles | Jsonl | Parquet | HuggingFace | Tfds
WithFields = Jsonl | Parquet | HuggingFace | Tfds


def by_field(source: WithFields, field: str, values: Sequence[Value] | Mapping[str, Value]) -> dict[str, Source]:
    """A domain for each value of a field of one source, which is read only once for all of them.

    Args:
        source: the whole source; its own conditions and cap apply to every domain.
        field: for example `meta.source`.
        values: values to use. A mapping gives the domain names; otherwise the names are the values, with characters
            that a name cannot contain replaced by `-`.

    Raises:
        InputError: two values give the same name.
    """
    named: dict[str, Value] = dict(values) if isinstance(values, Mapping) else {}
    for value in () if isinstance(values, Mapping) else values:
        name = re.sub(r"[^\w.-]+", "-", str(value)).strip("-.").lower()
        if not name or name in named:
            raise InputError(
                f"value {value!r} of '{field}' gives the domain name '{name}', which is empty or taken; give names "
                f"of your own, as in by_field(source, '{field}', {{'web': {value!r}}})"
            )
        named[name] = value
    return {name: replace(source, where=(*source.where, Where(field, "==", v))) for name, v in named.items()}


@dataclass(frozen=True)
class Tokenizer(Validated, section="corpus.tokenizer"):
    """How text becomes tokens."""

    kind: Literal["bpe", "bytes", "huggingface", "sentencepiece"] = "bpe"
    """`bpe` is trained on an equal share of every domain's training text; `bytes` has one token a byte; the others
    are read from `path`"""
    vocab_size: int = setting(2048, least=1)
    """size of the BPE vocabulary, end-of-document token included; ignored by the other kinds"""
    path: str = ""
    """tokenizer.json or a folder that holds one (`huggingface`), or a .model file (`sentencepiece`)"""
    end: str = ""
    """token of the file that ends a document; by default the end-of-sequence token that the file names"""


@dataclass(frozen=True)
class Cleaning(Validated, section="corpus.cleaning"):
    """Which text is removed; `mixscale corpus` prints how much each rule removed."""

    normalize: bool = False
    """apply Unicode NFC: one way to write each accented letter"""
    shortest: int = setting(0, least=0)
    """fewest characters of a document"""
    longest: int = setting(0, least=0)
    """most characters of a document; 0 for no limit"""
    quality: tuple[str, ...] = ()
    """domains of English prose to filter by Gopher's rules (arXiv:2112.11446, table A1); `*` for all"""
    copies: Literal["keep", "domain", "corpus"] = "domain"
    """`domain` removes exact duplicates within each domain, `corpus` across all domains (the first one stays)"""
    near_copies: Literal["keep", "domain", "corpus"] = "keep"
    """the same for near-duplicates"""
    similarity: float = setting(0.7, above=0, most=1)
    """estimated Jaccard similarity of three-word sequences from which two documents are near-duplicates"""
    overlap: int = setting(0, least=0)
    """remove training text that shares this many consecutive words with held-out text (13 is usual); 0 for off"""


@dataclass(frozen=True)
class Corpus(Validated, section="corpus"):
    """The domains and how they are tokenized, cleaned and split."""

    domains: dict[str, Source]
    """source of each domain, by the name that mixtures and tables use"""
    tokenizer: Tokenizer = Tokenizer()
    context: int = setting(128, least=1)
    """tokens of a training sequence; stored rows hold one more"""
    validation_share: float = setting(0.08, above=0, below=1)
    """share of each domain's documents held out for validation"""
    seed: int = 0
    """decides which documents are held out"""
    cleaning: Cleaning = Cleaning()
    damaged: float = setting(0.01, least=0, most=1)
    """largest share of a source's records that may be unreadable; they are counted and skipped"""
    record_bytes: int = setting(2**25, least=1)
    """largest record (line, row or text file) that is read; a larger one counts as damaged"""
    workers: int = setting(0, least=0)
    """processes that read and encode; 0 means one per core for a large corpus, else one"""
    cache: str = ".cache/mixscale"
    """folder of the token stores; each has a folder named by its content hash"""

    def check(self) -> None:
        if not self.domains:
            raise InputError("corpus.domains is empty; name at least one domain")
        for domain in self.domains:
            if not re.fullmatch(r"\w[\w.-]*", domain) or len(domain.encode()) > 100:
                raise InputError(
                    f"domain '{domain[:100]}' cannot name a folder and a column; use at most 100 letters, digits, "
                    "'_', '-' and '.'"
                )
        for domain in self.cleaning.quality:
            if domain not in ("*", *self.domains):
                raise InputError(
                    f"corpus.cleaning.quality names '{domain}', which is not a domain"
                    f"{did_you_mean(domain, self.domains)}"
                )
