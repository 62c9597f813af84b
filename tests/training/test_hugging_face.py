"""Exported runs, opened by `transformers` and by NumPy alone."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from mixscale.cli import main
from mixscale.config import Corpus, Experiment, Model, Optimizer, Tokenizer, to_json
from mixscale.data import TokenStore, build_store
from mixscale.models import Compute
from mixscale.models.transformer import with_weights
from mixscale.training.checkpoint import Checkpoints
from mixscale.training.pretrained import load
from mixscale.training.run import FORMAT
from mixscale.training.step import Program, State
from mixscale.training.tasks import LanguageModelling

SHAPES = {
    "qwen3": Model(d_model=32, layers=2, heads=4, kv_heads=2),
    "llama": Model(d_model=32, layers=2, heads=4, kv_heads=1, qk_norm=False, rope_theta=500.0, d_ff=40),
    "qwen3-untied": Model(d_model=128, layers=1, heads=4, kv_heads=4, tie_embeddings=False),
    "llama-untied": Model(d_model=32, layers=1, heads=2, kv_heads=2, tie_embeddings=False, qk_norm=False),
}
TEXTS = [
    "def f(x):\n    return x  # naïve",
    "<|endofdocument|></s><s> is text",
    "",
    "日本 \x00\t\r\n  ",
    "It was the best.",
]


def trained(model: Model, store: TokenStore, experiment: Experiment, folder: Path, ema: float = 0.0) -> State:
    """A run's folder with random weights, norms and averages."""
    program = Program(LanguageModelling(), model, store.vocab_size, Optimizer(ema=ema), Compute(), 1, 1)
    rng = np.random.default_rng(0)
    state = jax.tree.map(
        lambda x: jax.numpy.asarray(0.2 * rng.standard_normal(x.shape), x.dtype),
        jax.eval_shape(program.init, jax.ShapeDtypeStruct((1,), np.uint32)),
    )
    run = {"format": FORMAT, "model": model, "optimizer": Optimizer(ema=ema), "store": store.id}
    folder.mkdir()
    described = to_json({"id": "0123456789", "run": run, "experiment": experiment})
    (folder / "config.json").write_text(json.dumps(described))
    about = {"model": model, "tokenizer": {"hash": store.tokenizer_hash, "vocab_size": store.vocab_size}}
    with closing(Checkpoints(folder / "checkpoints", about)) as checkpoints:
        checkpoints.save(7, state, None, {})
    return state


def logits(model: Model, params, ids_BxT: np.ndarray) -> np.ndarray:
    return np.asarray(jax.jit(lambda params: with_weights(model, params)(ids_BxT))(params))


def published_logits(folder: Path, ids_BxT: np.ndarray) -> np.ndarray:
    """Llama's and Qwen3's forward pass as their papers and configs define it, in float64 from the files alone."""
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text())
    weights = {name: w.astype(np.float64) for name, w in load_file(folder / "model.safetensors").items()}
    H, G, C = (config[name] for name in ("num_attention_heads", "num_key_value_heads", "head_dim"))
    B, T = ids_BxT.shape

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + config["rms_norm_eps"]) * weights[f"{name}.weight"]

    def product(x: np.ndarray, name: str) -> np.ndarray:
        return x @ weights[f"{name}.weight"].T

    angle_TxC = np.arange(T)[:, None] * np.tile(config["rope_theta"] ** (-np.arange(0, C, 2) / C), 2)

    def heads(x_BxTxN: np.ndarray, count: int, norm_name: str) -> np.ndarray:
        x = x_BxTxN.reshape(B, T, count, C)
        x = (norm(x, norm_name) if f"{norm_name}.weight" in weights else x).swapaxes(1, 2)
        if not norm_name.endswith("v_norm"):
            turned = np.concatenate([-x[..., C // 2 :], x[..., : C // 2]], axis=-1)
            x = x * np.cos(angle_TxC) + turned * np.sin(angle_TxC)
        return np.repeat(x, H // count, axis=1)

    x_BxTxD = weights["model.embed_tokens.weight"][ids_BxT]
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        h = norm(x_BxTxD, f"{at}.input_layernorm")
        q, k, v = (
            heads(product(h, f"{at}.self_attn.{n}_proj"), count, f"{at}.self_attn.{n}_norm")
            for n, count in (("q", H), ("k", G), ("v", G))
        )
        score = np.where(np.tri(T, dtype=bool), q @ k.swapaxes(-1, -2) / C**0.5, -np.inf)
        weight = np.exp(score - score.max(-1, keepdims=True))
        y = (weight / weight.sum(-1, keepdims=True) @ v).swapaxes(1, 2).reshape(B, T, H * C)
        x_BxTxD = x_BxTxD + product(y, f"{at}.self_attn.o_proj")
        h = norm(x_BxTxD, f"{at}.post_attention_layernorm")
        gate = product(h, f"{at}.mlp.gate_proj")
        x_BxTxD = x_BxTxD + product(
            gate / (1 + np.exp(-gate)) * product(h, f"{at}.mlp.up_proj"), f"{at}.mlp.down_proj"
        )
    table = "model.embed_tokens" if config["tie_word_embeddings"] else "lm_head"
    return product(norm(x_BxTxD, "model.norm"), table)


@pytest.fixture(params=SHAPES)
def exported(request, small, store, tmp_path, capsys) -> tuple[Path, np.ndarray, np.ndarray]:
    """An exported run's folder, some ids, and our logits of them."""
    model, ema = SHAPES[request.param], 0.9 if request.param == "qwen3" else 0.0
    state = trained(model, store, small, tmp_path / "run", ema)
    assert main(["export-model", str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 0
    assert "checkpoint 7" in capsys.readouterr().out
    ids_BxT = np.random.default_rng(1).integers(0, store.vocab_size, (3, store.context))
    # The average of the weights, if there is one, was evaluated and so is exported.
    params = jax.tree.map(lambda x: x[0], state.opt.average if ema else state.params)
    ours = logits(model, params, ids_BxT)
    assert ours.std() > 0.1
    return tmp_path / "out", ids_BxT, ours


def test_the_published_architecture_gives_our_logits(exported):
    folder, ids_BxT, ours = exported
    np.testing.assert_allclose(published_logits(folder, ids_BxT), ours, atol=1e-4)


def test_an_export_is_imported_with_our_logits(exported):
    folder, ids_BxT, ours = exported
    found = load(folder)
    assert (found.context, found.begin) == (ids_BxT.shape[1], found.tokenizer.eod)
    np.testing.assert_allclose(logits(found.model, found.params, ids_BxT), ours, atol=1e-5)


def test_transformers_gives_our_logits(exported):
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    folder, ids_BxT, ours = exported
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert type(theirs).__name__ == json.loads((folder / "config.json").read_text())["architectures"][0]
    with torch.no_grad():
        found = theirs(torch.tensor(ids_BxT)).logits.numpy()
    np.testing.assert_allclose(found, ours, atol=1e-4)


def test_the_file_holds_every_weight_once_in_the_published_layout(small, store, tmp_path):
    """Names and shapes (out, in), and the layer of each weight."""
    from safetensors.numpy import load_file

    model = SHAPES["llama"]
    state = trained(model, store, small, tmp_path / "run")
    assert main(["export-model", str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 0
    weights = load_file(tmp_path / "out" / "model.safetensors")
    block = {
        "input_layernorm": (32,), "post_attention_layernorm": (32,), "self_attn.q_proj": (32, 32),
        "self_attn.k_proj": (8, 32), "self_attn.v_proj": (8, 32), "self_attn.o_proj": (32, 32),
        "mlp.gate_proj": (40, 32), "mlp.up_proj": (40, 32), "mlp.down_proj": (32, 40),
    }  # fmt: skip
    shapes = {f"model.layers.{i}.{name}.weight": shape for i in range(2) for name, shape in block.items()}
    shapes |= {"model.embed_tokens.weight": (store.vocab_size, 32), "model.norm.weight": (32,)}
    assert {name: w.shape for name, w in weights.items()} == shapes
    key = np.asarray(state.params["blocks"]["attention"]["key"])[0, 1]
    np.testing.assert_array_equal(weights["model.layers.1.self_attn.k_proj.weight"], key.T)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["rms_norm_eps"], config["rope_theta"], config["num_key_value_heads"]) == (1e-6, 500.0, 1)


def published(path: Path) -> Tokenizer:
    """A published tokenizer that adds a token before every text."""
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, pre_tokenizers, processors, trainers

    model = Library(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    model.train_from_iterator(TEXTS, trainer)
    model.decoder = decoders.ByteLevel()
    model.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    model.save(str(path))
    return Tokenizer(kind="huggingface", path=str(path), end_token="</s>")


@pytest.mark.parametrize("kind", ["bytes", "bpe", "huggingface"])
def test_the_exported_tokenizer_gives_the_ids_of_the_store(kind, corpus: Corpus, small, tmp_path):
    transformers = pytest.importorskip("transformers")
    path = tmp_path / "published.json"
    chosen = published(path) if kind == "huggingface" else Tokenizer(kind=kind, vocab_size=300)
    store = build_store(replace(corpus, tokenizer=chosen), progress=False)
    trained(SHAPES["llama"], store, small, tmp_path / "run")
    assert main(["export-model", str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 0
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    ours = store.tokenizer
    for text, ids_T in zip(TEXTS, ours.encode_batch(TEXTS), strict=True):
        assert theirs(text)["input_ids"] == ids_T.tolist()
        assert theirs.decode(ids_T.tolist()) == text
    assert theirs.eos_token_id == ours.eod


def test_an_impossible_export_is_an_error_that_names_the_cause(small, store, tmp_path, capsys):
    assert main(["export-model", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "config.json" in capsys.readouterr().err
    trained(SHAPES["llama"], store, small, tmp_path / "run")
    command = ["export-model", str(tmp_path / "run"), "--out", str(tmp_path / "out")]
    assert main([*command, "--step", "8"]) == 2
    assert "no intact checkpoint 8 (found: 7)" in capsys.readouterr().err
    assert main([*command, "--store", str(tmp_path / "gone")]) == 2
    assert "gone" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
