"""Text survives encoding and decoding, and only the caller can end a document."""

import json

import numpy as np
import pytest

from mixscale.config import Corpus, Embedded, Jsonl, Tokenizer
from mixscale.data import build_store, packing, tokenizer
from mixscale.data.tokenizer import Bpe, Bytes
from mixscale.errors import InputError

SAMPLE = ["the cat sat on the mat, the cat sat\n" * 50, "def f(x):\n    return x\n" * 50]
TEXTS = ["the cat", "", " leading and trailing ", "naïve Ω 漢字 🙂\r\n\t\x00", f"spelt {tokenizer.END} out"]


@pytest.fixture(params=["bpe", "bytes"])
def model(request):
    return Bpe.train(SAMPLE, 300) if request.param == "bpe" else Bytes()


def test_encoded_text_decodes_to_itself(model):
    for text, ids in zip(TEXTS, model.encode_batch(TEXTS), strict=True):
        assert ids.dtype == np.uint16
        assert model.decode(ids) == text
        assert model.eod not in ids
        assert all(i < model.vocab_size for i in ids)


def test_a_saved_tokenizer_loads_unchanged(model, tmp_path):
    model.save(tmp_path)
    again = tokenizer.load(tmp_path)
    assert (again.eod, again.vocab_size) == (model.eod, model.vocab_size)
    for mine, its in zip(model.encode_batch(TEXTS), again.encode_batch(TEXTS), strict=True):
        np.testing.assert_array_equal(mine, its)


def test_end_of_document_is_left_out_of_decoded_text(model):
    (ids,) = model.encode_batch(["one"])
    assert model.decode([*ids, model.eod, *ids]) == "oneone"


def test_training_is_deterministic_and_compresses(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Bpe.train(SAMPLE, 300).save(tmp_path / name)
    assert tokenizer.file_hash(tmp_path / "a") == tokenizer.file_hash(tmp_path / "b")
    model = tokenizer.load(tmp_path / "a")
    # The sample has too few pairs to merge.
    assert 257 < model.vocab_size < 300
    assert len(model.encode_batch(["the cat sat"])[0]) < len("the cat sat") / 2


@pytest.mark.parametrize("size", [256, 2_000_000])
def test_a_vocabulary_size_out_of_range_is_refused(size):
    with pytest.raises(InputError, match=f"vocab_size is {size};.*257.*1048576"):
        Tokenizer(vocab_size=size)


def test_the_bytes_tokenizer_ignores_vocab_size():
    assert Tokenizer(kind="bytes", vocab_size=0).kind == "bytes"


# tokenizers of other people


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder as on Hugging Face's hub: ids with a gap, a template that adds tokens, truncation turned on."""
    from tokenizers import Tokenizer as Model
    from tokenizers import decoders, models, pre_tokenizers, processors, trainers

    model = Model(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    model.train_from_iterator(SAMPLE, trainer)
    model.add_special_tokens(["<start>", "<stop>"])
    model.post_processor = processors.TemplateProcessing(
        single="<start> $A <stop>", special_tokens=[(t, model.token_to_id(t)) for t in ("<start>", "<stop>")]
    )
    model.enable_truncation(8)
    folder = tmp_path_factory.mktemp("published")
    model.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"eos_token": {"content": "<stop>"}, "auto_map": {"x": "y.py"}}')
    return folder


def test_a_published_tokenizer_adds_no_tokens(published, tmp_path):
    config = Tokenizer("huggingface", path=str(published))
    model = tokenizer.from_file(config)
    texts = [*TEXTS, "a long text that goes on " * 20, "spelt <stop> out <start>"]
    for again in (model, _saved_and_loaded(model, tmp_path)):
        for text, ids in zip(texts, again.encode_batch(texts), strict=True):
            assert again.decode(ids) == text
            assert again.eod not in ids
        assert again._model.id_to_token(again.eod) == "<stop>"


def test_the_end_token_is_configured_or_found(published, tmp_path):
    alone = tmp_path / "tokenizer.json"
    alone.write_bytes((published / "tokenizer.json").read_bytes())
    with pytest.raises(InputError, match=r"tokenizer\.end_token"):
        tokenizer.from_file(Tokenizer("huggingface", path=str(alone)))
    asked = Tokenizer("huggingface", path=str(alone), end_token="<start>")
    assert tokenizer.from_file(asked).eod != tokenizer.from_file(Tokenizer("huggingface", path=str(published))).eod
    with pytest.raises(InputError, match="no token '<end>'"):
        tokenizer.from_file(Tokenizer("huggingface", path=str(alone), end_token="<end>"))


def test_identity_depends_on_files_and_not_on_their_place(published, tmp_path):
    import shutil

    shutil.copytree(published, tmp_path / "moved")
    moved = Tokenizer("huggingface", path=str(tmp_path / "moved"))
    before = tokenizer.identity(Tokenizer("huggingface", path=str(published)))
    assert tokenizer.identity(moved) == before
    (tmp_path / "moved" / "tokenizer_config.json").write_text('{"eos_token": "<start>"}')
    assert tokenizer.identity(moved) != before


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"path": "nowhere"}, "tokenizer.path is 'nowhere'"),
        ({}, "tokenizer.path is ''"),
        ({"path": __file__}, r"test_tokenizer\.py' is not a Hugging Face tokenizer"),
        ({"kind": "bpe", "path": "x"}, "tokenizer.path is 'x'.*'bpe'"),
    ],
)
def test_a_missing_tokenizer_is_an_error(tmp_path, config, message):
    def build():
        model = Tokenizer(**{"kind": "huggingface"} | config)
        build_store(Corpus({"one": Embedded("wiki")}, model, cache=str(tmp_path)), progress=False)

    with pytest.raises(InputError, match=message):
        build()


def test_a_sentencepiece_model_encodes_and_decodes(tmp_path, monkeypatch):
    sentencepiece = pytest.importorskip("sentencepiece")
    (tmp_path / "sample.txt").write_text("\n".join(SAMPLE) + "\nnaïve words\n")
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "sample.txt"), model_prefix=str(tmp_path / "m"), vocab_size=300, byte_fallback=True,
        hard_vocab_limit=False, minloglevel=2, normalization_rule_name="identity", remove_extra_whitespaces=False,
        model_type="bpe",
    )  # fmt: skip
    config = Tokenizer("sentencepiece", path=str(tmp_path / "m.model"))
    model = tokenizer.from_file(config)
    for again in (model, _saved_and_loaded(model, tmp_path)):
        for text in ("the cat sat", "naïve Ω 漢字", "spelt </s> out"):
            (ids,) = again.encode_batch([text])
            assert again.decode(ids) == text
            assert again.eod not in ids
    _cut_as_whole(model, monkeypatch)
    with pytest.raises(InputError, match="SentencePiece model cannot be read"):
        tokenizer.from_file(Tokenizer("sentencepiece", path=str(tmp_path / "sample.txt")))


def test_ids_of_a_large_vocabulary_are_wide_enough(tmp_path):
    """From text to the store's rows, with ids on both sides of 65,536."""
    from tokenizers import Tokenizer as Model
    from tokenizers import models, pre_tokenizers

    model = Bytes()
    for model.vocab_size, dtype in ((65_536, np.uint16), (65_537, np.uint32)):
        assert model.dtype == dtype
    words = {f"w{i}": i for i in range(70_000)}
    model = Model(models.WordLevel({**words, "[UNK]": 70_000, "</s>": 70_001}, unk_token="[UNK]"))
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    model.save(str(tmp_path / "tokenizer.json"))
    rng = np.random.default_rng(0)
    ids = [rng.integers(65_000, 70_000, 30) for _ in range(40)]
    lines = [json.dumps({"text": " ".join(f"w{i}" for i in document)}) for document in ids]
    (tmp_path / "lines.jsonl").write_text("\n".join(lines))
    config = Tokenizer("huggingface", path=str(tmp_path / "tokenizer.json"))
    corpus = Corpus({"one": Jsonl(f"{tmp_path}/lines.jsonl")}, config, 8, 0.2, cache=str(tmp_path))
    rows_RxT1 = build_store(corpus, progress=False).rows("one", "train")
    assert rows_RxT1.dtype == np.uint32
    stream = np.concatenate([rows_RxT1[:1, 0], rows_RxT1[:, 1:].reshape(-1)])
    kept = [document for document in np.split(stream, np.flatnonzero(stream == 70_001) + 1)]
    assert {tuple(d[:-1]) for d in kept[:-1]} <= {tuple(d) for d in ids}
    assert stream.max() == 70_001


def test_a_very_long_text_is_encoded_in_parts_to_the_same_ids(monkeypatch):
    model = Bpe.train(SAMPLE, 300)
    texts = ["the cat  sat \n on the mat, the cat's mat; " * 40, "x" * 3000, "", "short"]
    whole = model.encode_batch(texts)
    monkeypatch.setattr(packing, "MAX_CHARACTERS", 500)
    parts = list(packing.encoded(model, texts))
    np.testing.assert_array_equal(parts[0], whole[0])
    assert len(list(packing._parts(texts[0], 0))) > 3
    for text, ids in zip(texts, parts, strict=True):
        assert model.decode(ids) == text


@pytest.mark.parametrize("space_before", ["by a normalizer", "where there is none", "never"])
def test_no_space_is_added_where_a_very_long_text_is_cut(monkeypatch, space_before):
    """Llama's tokenizer adds a space before every text, T5's before one that starts without, others never."""
    from tokenizers import Tokenizer as Model
    from tokenizers import models, normalizers, pre_tokenizers, trainers

    trained = Model(models.BPE(unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    trainer = trainers.BpeTrainer(vocab_size=100, special_tokens=["<unk>", "</s>"], show_progress=False)
    trained.train_from_iterator(SAMPLE, trainer)
    model = Model(trained.model)
    if space_before == "by a normalizer":
        model.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        scheme = "always" if space_before == "where there is none" else "never"
        model.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    _cut_as_whole(Bpe(model, "</s>"), monkeypatch)


def _cut_as_whole(model, monkeypatch):
    text = "the cat sat on  the mat, the cat sat; " * 40
    (whole,) = model.encode_batch([text])
    monkeypatch.setattr(packing, "MAX_CHARACTERS", 100)
    (parts,) = packing.encoded(model, [text])
    np.testing.assert_array_equal(parts, whole)


def _saved_and_loaded(model, folder):
    (folder / "kept").mkdir(exist_ok=True)
    model.save(folder / "kept")
    return tokenizer.load(folder / "kept")


# text that is not carried

ENGLISH = [f"the cat number {i} sat on the mat with a dog" for i in range(200)]
FRENCH = [f"la fenêtre {i} a été fermée ÊTRE par Zoë dans la forêt" for i in range(200)]
CHINESE = [f"第{i}只猫坐在垫子上面看书" for i in range(200)]


def _tokenizer(folder, model, splits, normalizer=None, every_byte=False):
    """A tokenizer that is trained on English, in a folder."""
    from tokenizers import Tokenizer as Model
    from tokenizers import models, normalizers, pre_tokenizers, trainers

    made = Model(getattr(models, model)(**({} if model in ("BPE", "Unigram") else {"unk_token": "[UNK]"})))
    made.pre_tokenizer = getattr(pre_tokenizers, splits)()
    if normalizer:
        made.normalizer = eval(normalizer, vars(normalizers))
    options = {"vocab_size": 400, "show_progress": False, "special_tokens": ["[UNK]", "</s>"]}
    if every_byte:
        options["initial_alphabet"] = pre_tokenizers.ByteLevel.alphabet()
    if model == "Unigram":
        options["unk_token"] = "[UNK]"
    made.train_from_iterator(ENGLISH, getattr(trainers, f"{model.replace('BPE', 'Bpe')}Trainer")(**options))
    made.save(str(folder / "tokenizer.json"))
    return Tokenizer("huggingface", path=str(folder))


def _store(folder, config, texts, **more):
    for name, of_domain in texts.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in of_domain))
    domains = {name: Jsonl(f"{folder}/{name}.jsonl") for name in texts}
    return build_store(Corpus(domains, config, 8, 0.2, cache=str(folder / "cache"), **more), progress=False)


@pytest.mark.parametrize(
    "how",
    [
        ("WordPiece", "BertPreTokenizer"),
        ("WordLevel", "Whitespace"),
        ("Unigram", "Metaspace"),
        ("BPE", "Whitespace"),  # drops what it does not know
        ("BPE", "ByteLevel"),  # knows the bytes of English only
        ("BPE", "ByteLevel", "Replace(__import__('tokenizers').Regex('[^ -~]'), '')", True),
    ],
    ids=str,
)
def test_a_tokenizer_that_loses_the_text_of_a_domain_is_refused(tmp_path, how):
    config = _tokenizer(tmp_path, *how)
    assert _store(tmp_path, config, {"english": ENGLISH}).statistics["english"]["lost"] == 0
    for texts, character in ((FRENCH, "'[êe]' .U.00"), (CHINESE, "'猫' .U.732B")):
        message = rf"drops \d+\.\d% .* of domain 'other'.*{character}.*Tokenizer\(\).*corpus\.max_lost_text"
        with pytest.raises(InputError, match=message):
            _store(tmp_path, config, {"english": ENGLISH, "other": texts})
    kept = _store(tmp_path, config, {"other": CHINESE}, max_lost_text=1.0)
    assert 0.5 < kept.statistics["other"]["lost"] <= 1
    # A store that was built under a larger limit.
    with pytest.raises(InputError, match=r"drops .* of domain 'other'"):
        _store(tmp_path, config, {"other": CHINESE})
    # The remedy.
    assert _store(tmp_path, Tokenizer(), {"other": CHINESE}).statistics["other"]["lost"] == 0


@pytest.mark.parametrize("normalizer", [None, "Lowercase()", "NFKC()", "Sequence([NFD(), StripAccents()])"])
def test_bytes_case_accents_and_spaces_are_not_lost_text(tmp_path, normalizer):
    config = _tokenizer(tmp_path, "BPE", "ByteLevel", normalizer, True)
    for texts in (ENGLISH, FRENCH, CHINESE, [text.replace(" ", "\n\t") for text in ENGLISH]):
        assert _store(tmp_path, config, {"other": texts}).statistics["other"]["lost"] == 0


def test_a_tokenizer_that_drops_line_breaks_is_refused_for_code(tmp_path):
    config = _tokenizer(tmp_path, "WordLevel", "Whitespace")
    code = [text.replace(" the ", "\n\tthe ") for text in ENGLISH]
    with pytest.raises(InputError, match=r"drops \d\.\d% .* of domain 'code'(?=.*'\\n' .U.000A)(?=.*'\\t' .U.0009)"):
        _store(tmp_path, config, {"code": code})
    assert "lost text" in _store(tmp_path, config, {"code": code}, max_lost_text=0.2).table()
    # The last line break of a text is not part of it.
    assert "lost text" not in _store(tmp_path, config, {"prose": [text + "\n" for text in ENGLISH]}).table()


def test_a_share_below_the_limit_is_accepted_and_counted(tmp_path):
    config = _tokenizer(tmp_path, "BPE", "Whitespace")
    mixed = [text + " 猫" * (i == 7) for i, text in enumerate(ENGLISH)]
    found = _store(tmp_path, config, {"mixed": mixed}).statistics["mixed"]
    assert 0 < found["lost"] < 0.001
    assert found["lost_characters"] == "猫"


def test_a_sentencepiece_model_without_bytes_loses_text(tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    (tmp_path / "sample.txt").write_text("\n".join(ENGLISH))
    for fallback in (False, True):
        sentencepiece.SentencePieceTrainer.train(
            input=str(tmp_path / "sample.txt"), model_prefix=str(tmp_path / "m"), vocab_size=320 if fallback else 60,
            byte_fallback=fallback, hard_vocab_limit=False, minloglevel=2, model_type="bpe",
        )  # fmt: skip
        config = Tokenizer("sentencepiece", path=f"{tmp_path}/m.model")
        if fallback:
            assert _store(tmp_path, config, {"other": CHINESE}).statistics["other"]["lost"] == 0
        else:
            with pytest.raises(InputError, match=r"m\.model' drops .* of domain 'other'.*'猫'"):
                _store(tmp_path, config, {"other": CHINESE})
