"""Text to token ids and back: a byte-level BPE trained on the corpus, or plain bytes.

Both know every byte, so no text is out of vocabulary, and both have one end-of-document token that no text can
produce. Nothing here knows of domains or rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mixscale import experiment
from mixscale.errors import InputError

if TYPE_CHECKING:
    import tokenizers

FILE = "tokenizer.json"
END = "<|endofdocument|>"
BYTES = 257
"""vocabulary of the bytes tokenizer: every byte and the end of a document; the smallest a BPE can have"""
LARGEST = 65_535
"""ids are stored as uint16"""


class Tokenizer(Protocol):
    vocab_size: int
    eod: int
    """id of the end-of-document token, which the caller appends"""

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Ids of each text, uint16, without an end-of-document token."""

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Text of `ids`; end-of-document tokens are left out."""

    def save(self, folder: Path) -> None:
        """Writes `tokenizer.json` into `folder`."""


class Bytes:
    """One token a byte of UTF-8; 256 ends a document."""

    vocab_size = BYTES
    eod = 256

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [np.frombuffer(t.encode(), np.uint8).astype(np.uint16) for t in texts]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        return bytes(int(i) for i in ids if i != self.eod).decode("utf-8", "replace")

    def save(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps({"mixscale": "bytes", "vocab_size": BYTES}) + "\n", "utf-8")


class Bpe:
    """Byte-level BPE of the `tokenizers` library; id 0 ends a document."""

    eod = 0

    def __init__(self, model: tokenizers.Tokenizer):
        # Otherwise a text that spells the end-of-document token would end its document.
        model.encode_special_tokens = True
        self._model = model
        self.vocab_size = model.get_vocab_size()

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Bpe:
        """Trained on `texts`; smaller than `vocab_size` where the texts have fewer pairs to merge."""
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

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [np.array(e.ids, np.uint16) for e in self._model.encode_batch_fast(texts)]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        return self._model.decode([int(i) for i in ids])

    def save(self, folder: Path) -> None:
        self._model.save(str(folder / FILE))


def check(config: experiment.Tokenizer) -> None:
    """Refuses a vocabulary that cannot hold every byte, or that row ids cannot count."""
    if config.kind == "bpe" and not BYTES <= config.vocab_size <= LARGEST:
        raise InputError(
            f"tokenizer vocab_size is {config.vocab_size}; a byte-level BPE has from {BYTES} (every byte and the end "
            f"of a document) to {LARGEST} tokens"
        )


def load(folder: Path) -> Bytes | Bpe:
    """The tokenizer that was saved in `folder`."""
    path = Path(folder) / FILE
    if "mixscale" in json.loads(path.read_text("utf-8")):
        return Bytes()
    from tokenizers import Tokenizer as Model

    return Bpe(Model.from_file(str(path)))


def file_hash(folder: Path) -> str:
    """Ten hexadecimal digits of the SHA-256 of the saved tokenizer."""
    return hashlib.sha256((Path(folder) / FILE).read_bytes()).hexdigest()[:10]
