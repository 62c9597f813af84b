"""A store's tokenizer as the files that `transformers.AutoTokenizer` loads, giving the same ids for every text."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from mixscale.data.tokenizer import BYTES, CONFIG, END, FILE, PIECES, Bytes, SentencePiece
from mixscale.io import atomic_write, ensure_dir

if TYPE_CHECKING:
    import tokenizers

    from mixscale.data.store import TokenStore


def write_tokenizer(store: TokenStore, folder: Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json into `folder`; of a SentencePiece store its tokenizer.model.

    That file is copied as it is, since which class reads it in their library depends on how it was trained.
    """
    from tokenizers import Tokenizer

    ensure_dir(folder)
    kept = store.tokenizer
    if isinstance(kept, SentencePiece):
        with atomic_write(folder / PIECES) as temporary:
            shutil.copyfile(store.path / PIECES, temporary)
        return
    said = byte_level().to_str() if isinstance(kept, Bytes) else (store.path / FILE).read_text("utf-8")
    described = json.loads(said)
    # Published tokenizers add a token before or after a text, which a store's rows do not have.
    described["post_processor"] = None
    model = Tokenizer.from_str(json.dumps(described))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": model.id_to_token(kept.eod),
        "bos_token": model.id_to_token(kept.eod),
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": store.context,
        # A text that spells the end of a document does not end it.
        "split_special_tokens": True,
    }
    with atomic_write(folder / FILE) as temporary:
        model.save(str(temporary))
    with atomic_write(folder / CONFIG) as temporary:
        temporary.write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def byte_level() -> tokenizers.Tokenizer:
    """The bytes tokenizer as a byte-level BPE that merges nothing; id b is byte b."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    characters = _characters()
    model = Tokenizer(models.BPE(vocab={c: b for b, c in enumerate(characters)}, merges=[]))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    model.decoder = decoders.ByteLevel()
    model.add_special_tokens([AddedToken(END, special=True, normalized=False)])
    assert model.get_vocab_size() == BYTES
    return model


def _characters() -> list[str]:
    """The character that stands for each byte in a byte-level BPE: itself where it prints, else the next from 256 on.

    Radford et al., GPT-2, 2019; the library has the set but not the order.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(b) if b in printable else chr(next(others)) for b in range(256)]
