"""The text of an experiment: sources of the domains, cleaning, tokenizer, and how text becomes rows of tokens.

A kind of source is a subclass of `Source` here and a reader under `mixscale/data/sources`; nothing here reads data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mixscale.errors import InputError
from mixscale.mixture import unknown_domain
from mixscale.validation import Validated, setting

Value = str | int | float | bool  # what a field is compared with
BYTE_VOCABULARY = 257  # every byte and the end of a document; also the smallest vocabulary of a BPE
MAX_VOCABULARY = 2**20  # largest vocabulary to which a BPE is trained


@dataclass(frozen=True)
class Where(Validated, section="where"):
    """A condition on a field of a record; a record without the field does not meet it."""

    field: str  # key of the field; `meta.source` is `source` inside `meta`, an object or the JSON text of one
    op: Literal["==", "!=", "<", "<=", ">", ">=", "in", "not in", "contains"]
    value: Value | tuple[Value, ...]  # a tuple for `in` and `not in`; for `contains`, part of a text or item of a list

    def check(self) -> None:
        if isinstance(self.value, tuple) != (self.op in ("in", "not in")):
            wanted = "one value" if isinstance(self.value, tuple) else f"a tuple of values, such as ({self.value!r},)"
            raise InputError(f"where.value of '{self.field} {self.op}' is {self.value!r}; it must be {wanted}")


@dataclass(frozen=True)
class Cap(Validated, section="cap"):
    """How much of a domain is read: whole documents from its start; None for no limit."""

    documents: int | None = setting(None, least=1)  # non-empty documents, counted before cleaning
    bytes: int | None = setting(None, least=1)  # UTF-8 bytes of text, counted in the same way
    tokens: int | None = setting(None, least=1)  # training tokens after cleaning, with the end of each document


class Source(Validated):
    """Where the text of one domain comes from; a kind of source is a dataclass with some of these fields."""

    field: str = "text"
    where: tuple[Where, ...] = ()
    cap: Cap = Cap()

    def without_limits(self) -> Source:
        """The source without conditions and cap; domains whose sources are then equal are read together."""
        limits = {name: getattr(Source, name) for name in ("where", "cap")}
        return replace(self, **{k: default for k, default in limits.items() if getattr(self, k) != default})


@dataclass(frozen=True, kw_only=True)
class Selection(Source):
    """A source of records with fields; conditions select some of them."""

    where: tuple[Where, ...] = ()  # a record belongs to the domain if it meets all of these conditions
    cap: Cap = Cap()

    def __post_init__(self) -> None:
        if isinstance(self.where, Where):
            object.__setattr__(self, "where", (self.where,))
        super().__post_init__()


@dataclass(frozen=True)
class Embedded(Source, section="Embedded"):
    """A domain that ships with mixscale."""

    name: str  # one of: abstracts, code, docs, fiction, maths, romance, speeches, wiki


@dataclass(frozen=True)
class TextFiles(Source, section="TextFiles"):
    """Plain text files; each file is a document."""

    glob: str  # files to read, for example `data/books/**/*.txt` or `s3://bucket/books/*.txt`
    separator: str = ""  # if set, each file is split into documents at lines that equal this
    cap: Cap = Cap()


@dataclass(frozen=True)
class Jsonl(Selection, section="Jsonl"):
    """JSON files (plain, .gz or .zst): an object on each line, an array of objects, or objects over several lines."""

    glob: str  # files to read, for example `data/web-*.jsonl.gz` or `gs://bucket/web/*.jsonl.zst`
    field: str = "text"  # key of the text in each object; `data.text` is `text` inside `data`


@dataclass(frozen=True)
class Parquet(Selection, section="Parquet"):
    """Parquet files, as the Hugging Face hub serves them, or Arrow IPC and Feather files; each row is a document."""

    glob: str  # files to read, for example `data/train-*.parquet`
    field: str = "text"  # column of the text; `data.text` is `text` inside the struct `data`


@dataclass(frozen=True)
class HuggingFace(Selection, section="HuggingFace"):
    """A dataset that Hugging Face `datasets` saved with `save_to_disk`; the library itself is not needed."""

    path: str  # folder of a dataset, or of several splits
    split: str = ""  # which split to read, if the folder holds several
    field: str = "text"  # column of the text


@dataclass(frozen=True)
class Tfds(Selection, section="Tfds"):
    """A prepared TensorFlow dataset, read without TensorFlow; nothing is downloaded."""

    name: str  # for example `wikipedia/20230601.en` or `imdb_reviews:1.0.0`; prepared in the array_record format
    split: str = "train"  # a split or a part of one, for example `train[:10%]`
    field: str = "text"  # feature that holds the text
    data_dir: str | None = None  # folder of the prepared datasets; None for TFDS's default


def by_field(source: Selection, field: str, values: Sequence[Value] | Mapping[str, Value]) -> dict[str, Source]:
    """One domain for each value of a field of one source, which is read once for all of them.

    Args:
        source: the whole; its own conditions and cap apply to every domain.
        field: for example `meta.source`.
        values: the values to use. The keys of a mapping are the names of the domains; otherwise a domain is named
            after its value, with characters that no name may contain replaced by `-`.

    Raises:
        InputError: two values give the same name, or `values` is one text.
    """
    if isinstance(values, str):
        raise InputError(f"values of '{field}' is {values!r}; it must be a tuple of values, such as ({values!r},)")
    named: dict[str, Value] = dict(values) if isinstance(values, Mapping) else {}
    for value in () if isinstance(values, Mapping) else values:
        name = re.sub(r"[^\w.-]+", "-", str(value)).strip("-.").lower()
        if not name or name in named:
            raise InputError(
                f"value {value!r} of '{field}' gives the domain name '{name}', which is empty or already used; name "
                f"the domains yourself, as in by_field(source, '{field}', {{'web': {value!r}}})"
            )
        named[name] = value
    return {name: replace(source, where=(*source.where, Where(field, "==", v))) for name, v in named.items()}


@dataclass(frozen=True)
class Tokenizer(Validated, section="corpus.tokenizer"):
    """How text becomes tokens."""

    kind: Literal["bpe", "bytes", "huggingface", "sentencepiece"] = "bpe"
    """`bpe` is trained on equal shares of all domains; `bytes` has one token per byte; others are read from `path`"""
    vocab_size: int = 2048  # size of the BPE vocabulary with its end-of-document token; the other kinds ignore it
    path: str = ""  # tokenizer.json or a folder that contains one (`huggingface`), or a .model file (`sentencepiece`)
    end_token: str = ""  # token of a Hugging Face tokenizer that ends a document; by default its end-of-sequence token

    def check(self) -> None:
        if self.kind == "bpe" and not BYTE_VOCABULARY <= self.vocab_size <= MAX_VOCABULARY:
            raise InputError(
                f"corpus.tokenizer.vocab_size is {self.vocab_size}; a byte-level BPE needs at least {BYTE_VOCABULARY} "
                f"tokens (every byte and the end of a document) and may have at most {MAX_VOCABULARY}"
            )
        if self.path and self.kind in ("bpe", "bytes"):
            raise InputError(
                f"corpus.tokenizer.path is '{self.path}', but a tokenizer of kind '{self.kind}' is not read from a "
                f"file; set kind to 'huggingface' or 'sentencepiece', or remove path"
            )


@dataclass(frozen=True)
class Cleaning(Validated, section="corpus.cleaning"):
    """Which documents are removed; `mixscale corpus` prints how many each of these rules removed."""

    normalize: bool = False  # apply Unicode NFC, so that each accented letter has one spelling
    min_characters: int = setting(0, least=0)  # remove shorter documents
    max_characters: int = setting(0, least=0)  # remove longer documents; 0 for no limit
    quality: tuple[str, ...] = ()
    """domains in which only documents that pass Gopher's rules for English prose are kept; `*` for all domains"""
    duplicates: Literal["keep", "domain", "corpus"] = "domain"
    """keep exact duplicates, or only the first copy of a text in each domain or in the whole corpus"""
    near_duplicates: Literal["keep", "domain", "corpus"] = "keep"  # the same for texts that are nearly equal
    similarity: float = setting(0.7, above=0.0, most=1.0)  # least Jaccard similarity of near-duplicates
    decontaminate: int = setting(0, least=0)
    """remove training documents that share this many consecutive words with held-out text (13 is usual); 0 for off"""


@dataclass(frozen=True)
class Corpus(Validated, section="corpus"):
    """The text of every domain, and how it is cleaned, split, tokenized and stored."""

    domains: dict[str, Source]  # source of each domain, by the name that mixtures and tables will use
    tokenizer: Tokenizer = Tokenizer()
    context: int = setting(128, least=1)  # tokens in a training sequence; stored rows have one more
    validation_share: float = setting(0.08, above=0.0, below=1.0)  # share of each domain's documents that is held out
    seed: int = 0  # decides which documents are held out
    cleaning: Cleaning = Cleaning()
    max_damaged: float = setting(0.01, least=0.0, most=1.0)
    """largest share of unreadable records of a source; they are counted and skipped; a larger share is an error"""
    max_lost_text: float = setting(0.01, least=0.0, most=1.0)
    """largest share of a domain's characters that the tokenizer may drop or replace by its unknown token; a larger
    share is an error. Spaces, case and accents do not count; line breaks and tabs do"""
    max_record_bytes: int = setting(2**25, least=1)  # largest record (line, row, text file); a larger one is damaged
    workers: int = setting(0, least=0)  # processes; 0: one per core for a large corpus, else only this one
    cache: str = ".cache/mixscale"  # folder of the token stores, one subfolder for each content hash

    def check(self) -> None:
        if not self.domains:
            raise InputError("corpus.domains is empty; give at least one domain and its source")
        for domain in self.domains:
            if not re.fullmatch(r"\w[\w.-]*", domain) or len(domain.encode()) > 100:
                raise InputError(
                    f"domain '{domain[:100]}' cannot name a folder and a column; use at most 100 letters, digits, "
                    f"'_', '-' and '.'"
                )
        for domain in set(self.cleaning.quality) - {"*", *self.domains}:
            raise unknown_domain("corpus.cleaning.quality", domain, self.domains)
