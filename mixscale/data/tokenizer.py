"""Text to token ids and back: a byte-level BPE trained on the corpus, plain bytes, or a tokenizer of your own.

All have one end-of-document token that no text can produce.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mixscale import config as configs
from mixscale.config.corpus import BYTE_VOCABULARY
from mixscale.data.sources.files import check_pointer
from mixscale.errors import InputError
from mixscale.io import atomic_write, ensure_dir

if TYPE_CHECKING:
    import tokenizers

FILE = "tokenizer.json"
CONFIG = "tokenizer_config.json"  # beside it in Hugging Face's folders; names the end-of-sequence token
SENTENCEPIECE_FILE = "tokenizer.model"
END = "<|endofdocument|>"
COMMON_ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>", "[SEP]")


class Tokenizer(ABC):
    vocab_size: int
    eod: int  # id of the end-of-document token, which the caller appends

    @property
    def dtype(self) -> np.dtype:
        """Of ids: uint16, or uint32 for a vocabulary of more than 65,536 tokens."""
        return np.dtype(np.uint16 if self.vocab_size <= 2**16 else np.uint32)

    @abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Ids of each text, without an end-of-document token."""

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Text of `ids` without end-of-document tokens."""
        return self._text([int(i) for i in ids if i != self.eod])

    @abstractmethod
    def _text(self, ids: list[int]) -> str: ...

    def lost(self, text: str) -> tuple[int, int, Counter[str]]:
        """How many characters a text has, how many are dropped or replaced by the unknown token, and some of these.

        Spaces, case and accents do not count, and compatible characters of Unicode (NFKD) are the same.
        """
        text = text.strip()
        (ids,) = self.encode_batch([text])
        carried = self._carried([int(i) for i in ids if i != self._unknown])
        if carried == text:
            return len("".join(text.split())), 0, Counter()
        plain = _plain(text)
        lost = plain - _plain(carried)
        composed, found = (Counter(unicodedata.normalize("NFC", t.casefold())) for t in (text, carried))
        examples = Counter({c: n for c, n in (composed - found).items() if _plain(c) & lost})
        return plain.total(), lost.total(), examples

    _unknown: int | None = None  # id of the unknown token

    def _carried(self, ids: list[int]) -> str:
        return self._text(ids)

    @abstractmethod
    def vocabulary(self) -> dict[str, int]:
        """Id of every token; equal for tokenizers whose ids mean the same."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Writes `tokenizer.json`, and whatever else `load` needs, into `folder`."""


class Bytes(Tokenizer):
    """One token for each byte of UTF-8; 256 ends a document."""

    vocab_size = BYTE_VOCABULARY
    eod = 256

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [np.frombuffer(t.encode(), np.uint8).astype(np.uint16) for t in texts]

    def _text(self, ids: list[int]) -> str:
        return bytes(ids).decode("utf-8", "replace")

    def vocabulary(self) -> dict[str, int]:
        return byte_level().get_vocab()

    def save(self, folder: Path) -> None:
        _write_json(folder / FILE, {"mixscale": "bytes", "vocab_size": self.vocab_size})


class Bpe(Tokenizer):
    """A tokenizer of the `tokenizers` library, trained here or elsewhere; the token `end` ends a document."""

    def __init__(self, model: tokenizers.Tokenizer, end: str = END):
        from tokenizers import AddedToken

        # A text that spells a special token is encoded as text, because of `encode_special_tokens`.
        model.add_special_tokens([AddedToken(end, special=True, normalized=False)])
        model.encode_special_tokens = True
        model.no_truncation()
        model.no_padding()
        self._model, self._end = model, end
        self.eod: int = model.token_to_id(end) or 0
        # Ids of published tokenizers may have gaps.
        self.vocab_size = 1 + max(model.get_vocab(with_added_tokens=True).values())

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Bpe:
        """Trains on `texts`; token 0 ends a document. With too few pairs to merge it is smaller."""
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        model = Tokenizer(models.BPE())
        model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        model.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
        )
        model.train_from_iterator(texts, trainer)
        return cls(model)

    @classmethod
    def of_file(cls, path: Path, end: str) -> Bpe:
        """The tokenizer.json at `path` or in it; `end`, or else its own end-of-sequence token, ends a document."""
        from tokenizers import Tokenizer

        file = path / FILE if path.is_dir() else path
        if not file.is_file():
            raise InputError(f"'{file}' is not a file; give a {FILE} or a folder that contains one")
        check_pointer(file)
        try:
            model = Tokenizer.from_file(str(file))
        # The library raises no specific error.
        except Exception as error:
            raise InputError(f"'{file}' is not a Hugging Face tokenizer: {error}") from error
        config = file.with_name(CONFIG)
        try:
            if config.is_file():
                check_pointer(config)
            found = json.loads(config.read_text("utf-8")) if config.is_file() else None
        except InputError:
            raise
        except (ValueError, RecursionError) as error:
            raise InputError(f"{config} is not JSON") from error
        named = found.get("eos_token") if isinstance(found, dict) else None
        named = named.get("content") if isinstance(named, dict) else named
        for token in (end,) if end else (named, *COMMON_ENDS):
            if isinstance(token, str) and model.token_to_id(token) is not None:
                return cls(model, token)
        lacks = f"token '{end}'" if end else "end-of-sequence token that mixscale knows"
        raise InputError(f"tokenizer {file} has no {lacks}; set corpus.tokenizer.end_token to a token that it has")

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        found = self._model.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(e.ids, self.dtype) for e in found]

    def _text(self, ids: list[int]) -> str:
        return self._model.decode(ids, skip_special_tokens=False)

    @cached_property
    def _described(self) -> dict[str, Any]:
        return json.loads(self._model.to_str())

    @cached_property
    def _unknown(self) -> int | None:
        about = self._described["model"]
        token = about.get("unk_token")
        return self._model.token_to_id(token) if token is not None else about.get("unk_id")

    def _carried(self, ids: list[int]) -> str:
        from tokenizers import decoders

        if self._model.decoder is not None:
            return self._text(ids)
        by_bytes = any('"ByteLevel"' in json.dumps(self._described[key]) for key in ("pre_tokenizer", "normalizer"))
        tokens = [self._model.id_to_token(i) for i in ids]
        return (decoders.ByteLevel() if by_bytes else decoders.ByteFallback()).decode(tokens)

    def vocabulary(self) -> dict[str, int]:
        return self._model.get_vocab()

    def save(self, folder: Path) -> None:
        self._model.save(str(folder / FILE))
        if self._end != END:
            _write_json(folder / CONFIG, {"eos_token": self._end})


class SentencePiece(Tokenizer):
    """A SentencePiece model; its end-of-sequence token ends a document. Needs the `sentencepiece` package."""

    def __init__(self, model: bytes):
        try:
            import sentencepiece
        except ImportError as error:
            raise InputError("a SentencePiece tokenizer needs `pip install 'mixscale[sentencepiece]'`") from error
        try:
            self._model = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise InputError(f"the SentencePiece model cannot be read: {error}") from error
        self._bytes = model
        self.vocab_size: int = self._model.vocab_size()
        self.eod: int = self._model.eos_id()
        self._unknown = self._model.unk_id()
        if self.eod < 0:
            raise InputError("the SentencePiece model has no end-of-sequence token (</s>), which must end a document")

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [np.array(ids, self.dtype) for ids in self._model.encode(list(texts))]

    def _text(self, ids: list[int]) -> str:
        return self._model.decode(ids)

    def vocabulary(self) -> dict[str, int]:
        return {self._model.id_to_piece(i): i for i in range(self.vocab_size)}

    def save(self, folder: Path) -> None:
        (folder / SENTENCEPIECE_FILE).write_bytes(self._bytes)
        about = {"mixscale": "sentencepiece", "vocab_size": self.vocab_size, "sha256": _sha256(self._bytes)}
        _write_json(folder / FILE, about)


def from_file(config: configs.Tokenizer) -> Bpe | SentencePiece:
    """The tokenizer at the config's path; raises InputError if there is none or it is of another kind."""
    path = Path(config.path).expanduser()
    if not config.path or not path.exists():
        remedy = f"give a {config.kind} tokenizer's file"
        raise InputError(f"corpus.tokenizer.path is '{config.path}', which does not exist; {remedy}")
    if config.kind == "sentencepiece":
        if not path.is_file():
            raise InputError(f"corpus.tokenizer.path '{path}' is a folder; give the .model file in it")
        check_pointer(path)
        return SentencePiece(path.read_bytes())
    return Bpe.of_file(path, config.end_token)


def identity(config: configs.Tokenizer) -> dict[str, Any]:
    """Everything that decides the ids of a text, known before anything is trained."""
    if config.kind in ("bpe", "bytes"):
        return {"kind": config.kind, "vocab_size": config.vocab_size}
    path = Path(config.path).expanduser()
    files = [path / FILE, path / CONFIG] if path.is_dir() else [path, path.with_name(CONFIG)]
    hashes = [_sha256(file.read_bytes()) for file in files if file.is_file()]
    return {"kind": config.kind, "end": config.end_token, "files": hashes}


def load(folder: Path) -> Bytes | Bpe | SentencePiece:
    folder = Path(folder)
    kind = json.loads((folder / FILE).read_text("utf-8")).get("mixscale")
    if kind == "bytes":
        return Bytes()
    if kind == "sentencepiece":
        return SentencePiece((folder / SENTENCEPIECE_FILE).read_bytes())
    return Bpe.of_file(folder, "" if (folder / CONFIG).is_file() else END)


def _plain(text: str) -> Counter[str]:
    """Characters without spaces, case and accents, which are the marks of classes from 200."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return Counter(c for c in plain if (not c.isspace() or c in "\n\t") and unicodedata.combining(c) < 200)


def file_hash(folder: Path) -> str:
    """Ten hexadecimal digits of the SHA-256 of the saved tokenizer."""
    return _sha256((Path(folder) / FILE).read_bytes())[:10]


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _write_json(file: Path, value: dict[str, Any], indent: int | None = None) -> None:
    with atomic_write(file) as temporary:
        temporary.write_text(json.dumps(value, indent=indent) + "\n", "utf-8")


def write_tokenizer(tokenizer: Tokenizer, folder: Path, context: int) -> None:
    """Writes the files that `transformers.AutoTokenizer` loads, with the same ids for every text.

    A SentencePiece model stays unchanged: which class of `transformers` reads it depends on how it was trained. The
    files state `context`, the longest sequence of the model.
    """
    from tokenizers import Tokenizer as Model

    ensure_dir(folder)
    if isinstance(tokenizer, SentencePiece):
        with atomic_write(folder / SENTENCEPIECE_FILE) as temporary:
            temporary.write_bytes(tokenizer._bytes)
        return
    described = json.loads((tokenizer._model if isinstance(tokenizer, Bpe) else byte_level()).to_str())
    # Published tokenizers add a token before or after a text; a store does not.
    described["post_processor"] = None
    model = Model.from_str(json.dumps(described))
    end = model.id_to_token(tokenizer.eod)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": end,
        "bos_token": end,
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
        # A text that spells the end-of-document token does not end the document.
        "split_special_tokens": True,
    }
    with atomic_write(folder / FILE) as temporary:
        model.save(str(temporary))
    _write_json(folder / CONFIG, config, indent=2)


def byte_level() -> tokenizers.Tokenizer:
    """The bytes tokenizer as a byte-level BPE without merges; id b is byte b."""
    from tokenizers import AddedToken, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Model

    # The character of each byte: itself if it prints, else the next from 256 on (GPT-2, Radford et al. 2019).
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    vocabulary = {chr(b) if b in printable else chr(next(others)): b for b in range(256)}
    model = Model(models.BPE(vocab=vocabulary, merges=[]))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    model.decoder = decoders.ByteLevel()
    model.add_special_tokens([AddedToken(END, special=True, normalized=False)])
    assert model.get_vocab_size() == BYTE_VOCABULARY
    return model
