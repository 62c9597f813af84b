"""Any text survives the way to ids and back, and only the caller can end a document."""

import numpy as np
import pytest

from mixscale.corpus import tokenizer
from mixscale.corpus.tokenizer import Bpe, Bytes
from mixscale.errors import InputError
from mixscale.experiment import Tokenizer

SAMPLE = ["the cat sat on the mat, the cat sat\n" * 50, "def f(x):\n    return x\n" * 50]
TEXTS = ["the cat", "", " leading and trailing ", "naïve Ω 漢字 🙂\r\n\t\x00", f"spelt {tokenizer.END} out"]


@pytest.fixture(params=["bpe", "bytes"])
def model(request):
    return Bpe.train(SAMPLE, 300) if request.param == "bpe" else Bytes()


def test_any_text_is_decoded_as_it_was(model):
    for text, ids in zip(TEXTS, model.encode_batch(TEXTS), strict=True):
        assert ids.dtype == np.uint16
        assert model.decode(ids) == text
        assert model.eod not in ids
        assert all(i < model.vocab_size for i in ids)


def test_saved_and_loaded_it_is_the_same(model, tmp_path):
    model.save(tmp_path)
    again = tokenizer.load(tmp_path)
    assert (again.eod, again.vocab_size) == (model.eod, model.vocab_size)
    for mine, its in zip(model.encode_batch(TEXTS), again.encode_batch(TEXTS), strict=True):
        np.testing.assert_array_equal(mine, its)


def test_end_of_document_is_left_out_of_decoded_text(model):
    (ids,) = model.encode_batch(["one"])
    assert model.decode([*ids, model.eod, *ids]) == "oneone"


def test_training_twice_gives_one_file_and_shorter_text(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Bpe.train(SAMPLE, 300).save(tmp_path / name)
    assert tokenizer.file_hash(tmp_path / "a") == tokenizer.file_hash(tmp_path / "b")
    model = tokenizer.load(tmp_path / "a")
    # The sample has fewer pairs to merge than asked for.
    assert 257 < model.vocab_size < 300
    assert len(model.encode_batch(["the cat sat"])[0]) < len("the cat sat") / 2


@pytest.mark.parametrize("size", [256, 65_536])
def test_vocabulary_out_of_range_is_refused(size):
    with pytest.raises(InputError, match=f"vocab_size is {size}; .* from 257 .* to 65535"):
        tokenizer.check(Tokenizer(vocab_size=size))


def test_bytes_tokenizer_ignores_the_size_of_a_bpe():
    tokenizer.check(Tokenizer(kind="bytes", vocab_size=0))
