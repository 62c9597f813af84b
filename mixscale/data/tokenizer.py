"""Text to token ids and back: a byte-level BPE trained on the corpus, plain bytes, or a tokenizer of your own.

All have one end-of-document token that no text can produce. Nothing here knows of domains or rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mixscale import config as experiment
from mixscale.errors import InputError, did_you_mean

if TYPE_CHECKING:
    import tokenizers

FILE = "tokenizer.json"
CONFIG = "tokenizer_config.json"
"""beside it in Hugging Face's folders; names the end of a sequence"""
PIECES = "tokenizer.model"
END = "<|endofdocument|>"
BYTES = 257
"""vocabulary of the bytes tokenizer: every byte and the end of a document; the smallest a BPE can have"""
LARGEST = 2**20
"""most tokens that a BPE is trained to"""
COMMON_ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>", "[SEP]")


class Tokenizer(Protocol):
    vocab_size: int
    eod: int
    """id of the end-of-document token, which the caller appends"""
    dtype: np.dtype
    """of ids: uint16, or uint32 where the vocabulary has more than 65,536 tokens"""

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Ids of each text, without an end-of-document token."""

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Text of `ids`; end-of-document tokens are left out."""

    def save(self, folder: Path) -> None:
        """Writes `tokenizer.json`, and what else `load` needs, into `folder`."""


class Bytes:
    """One token a byte of UTF-8; 256 ends a document."""

    vocab_size = BYTES
    eod = 256
    dtype = np.dtype(np.uint16)

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [np.frombuffer(t.encode(), np.uint8).astype(np.uint16) for t in texts]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        return bytes(int(i) for i in ids if i != self.eod).decode("utf-8", "replace")

    def save(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps({"mixscale": "bytes", "vocab_size": BYTES}) + "\n", "utf-8")


class Bpe:
    """A tokenizer of the `tokenizers` library, trained here or by others.

    Args:
        model: the library's.
        end: token that ends a document.
    """

    def __init__(self, model: tokenizers.Tokenizer, end: str = END):
        from tokenizers import AddedToken

        # Only special tokens can be kept from being found in a text, and only what is asked of them below is.
        model.add_special_tokens([AddedToken(end, special=True, normalized=False)])
        model.encode_special_tokens = True
        model.no_truncation()
        model.no_padding()
        self._model, self._end = model, end
        self.eod: int = model.token_to_id(end) or 0
        # Ids of published tokenizers may have gaps.
        self.vocab_size = 1 + max(model.get_vocab(with_added_tokens=True).values())
        self.dtype = id_type(self.vocab_size)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Bpe:
        """Trained on `texts`, with 0 for the end of a document; smaller than `vocab_size` where they have fewer pairs
        to merge."""
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        model = Tokenizer(models.BPE())
        model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        model.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        model.train_from_iterator(texts, trainer)
        return cls(model)

    @classmethod
    def of_file(cls, path: Path, end: str) -> Bpe:
        """The tokenizer.json at `path`, or in the folder `path`; ends documents with `end`, or as it says itself."""
        file = path / FILE if path.is_dir() else path
        model = _hugging_face(file)
        config = file.with_name(CONFIG)
        told = _object(config).get("eos_token") if config.is_file() else None
        told = told.get("content") if isinstance(told, dict) else told
        candidates = (end,) if end else (told, *COMMON_ENDS)
        for token in candidates:
            if isinstance(token, str) and model.token_to_id(token) is not None:
                return cls(model, token)
        wanted = (
            f"no token '{end}'{did_you_mean(end, COMMON_ENDS)}" if end else "no token that is known to end a document"
        )
        raise InputError(f"tokenizer {file} has {wanted}; name one in tokenizer.end")

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        found = self._model.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(e.ids, self.dtype) for e in found]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        return self._model.decode([int(i) for i in ids if i != self.eod], skip_special_tokens=False)

    def save(self, folder: Path) -> None:
        self._model.save(str(folder / FILE))
        if self._end != END:
            (folder / CONFIG).write_text(json.dumps({"eos_token": self._end}) + "\n", "utf-8")


class SentencePiece:
    """A SentencePiece model, whose end of sequence ends a document; needs the `sentencepiece` package."""

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
        self.dtype = id_type(self.vocab_size)
        self.eod: int = self._model.eos_id()
        if self.eod < 0:
            raise InputError("the SentencePiece model has no end of sequence (</s>) that could end a document")

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [np.array(ids, self.dtype) for ids in self._model.encode(list(texts))]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        return self._model.decode([int(i) for i in ids if i != self.eod])

    def save(self, folder: Path) -> None:
        (folder / PIECES).write_bytes(self._bytes)
        about = {"mixscale": "sentencepiece", "vocab_size": self.vocab_size, "sha256": _sha256(self._bytes)}
        (folder / FILE).write_text(json.dumps(about) + "\n", "utf-8")


def id_type(vocab_size: int) -> np.dtype:
    """Of the ids of a vocabulary."""
    return np.dtype(np.uint16 if vocab_size <= 2**16 else np.uint32)


def check(config: experiment.Tokenizer) -> None:
    """Refuses a vocabulary that cannot hold every byte, and a tokenizer that is not there."""
    if config.kind == "bpe" and not BYTES <= config.vocab_size <= LARGEST:
        raise InputError(
            f"tokenizer vocab_size is {config.vocab_size}; a byte-level BPE has from {BYTES} (every byte and the end "
            f"of a document) to {LARGEST} tokens"
        )
    if config.kind in ("huggingface", "sentencepiece"):
        given(config)
    elif config.path:
        raise InputError(f"tokenizer.path is '{config.path}', but kind is '{config.kind}'; say which kind it is")


def given(config: experiment.Tokenizer) -> Bpe | SentencePiece:
    """The tokenizer that the config names by its path.

    Raises:
        InputError: there is none, or it is of another kind.
    """
    path = Path(config.path).expanduser()
    if not config.path or not path.exists():
        raise InputError(f"tokenizer.path is '{config.path}', where nothing is; give a {config.kind} tokenizer's file")
    if config.kind == "sentencepiece":
        if not path.is_file():
            raise InputError(f"tokenizer.path '{path}' is a folder; give the .model file in it")
        return SentencePiece(path.read_bytes())
    return Bpe.of_file(path, config.end)


def identity(config: experiment.Tokenizer) -> dict[str, Any]:
    """What decides the ids that a text gets, before anything is trained."""
    if config.kind in ("bpe", "bytes"):
        return {"kind": config.kind, "vocab_size": config.vocab_size}
    path = Path(config.path).expanduser()
    files = [path / FILE, path / CONFIG] if path.is_dir() else [path, path.with_name(CONFIG)]
    return {
        "kind": config.kind,
        "end": config.end,
        "files": [_sha256(file.read_bytes()) for file in files if file.is_file()],
    }


def load(folder: Path) -> Bytes | Bpe | SentencePiece:
    """The tokenizer that was saved in `folder`."""
    folder = Path(folder)
    kind = json.loads((folder / FILE).read_text("utf-8")).get("mixscale")
    if kind == "bytes":
        return Bytes()
    if kind == "sentencepiece":
        return SentencePiece((folder / PIECES).read_bytes())
    end = json.loads((folder / CONFIG).read_text("utf-8"))["eos_token"] if (folder / CONFIG).is_file() else END
    return Bpe(_hugging_face(folder / FILE), end)


def file_hash(folder: Path) -> str:
    """Ten hexadecimal digits of the SHA-256 of the saved tokenizer."""
    return _sha256((Path(folder) / FILE).read_bytes())[:10]


def _hugging_face(file: Path) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer as Model

    if not file.is_file():
        raise InputError(f"'{file}' is no file; a Hugging Face tokenizer is a {FILE}, or a folder that holds one")
    try:
        return Model.from_file(str(file))
    except Exception as error:
        # The library raises nothing more special.
        raise InputError(f"'{file}' is no Hugging Face tokenizer: {error}") from error


def _object(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not JSON") from error
    return found if isinstance(found, dict) else {}


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
