"""Hugging Face folders as parents: weights in every form, runs that start from them, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from mixscale.config import Experiment, Model, Tokenizer
from mixscale.data import TokenStore, build_store
from mixscale.data.tokenizer import write_tokenizer
from mixscale.errors import InputError
from mixscale.mixture import Mixture
from mixscale.mixtures.schedule import Constant
from mixscale.models import Transformer
from mixscale.models.transformer import with_weights
from mixscale.sweeps.plan import plan
from mixscale.training import Progress, Run, Trainer, train_population, train_run
from mixscale.training.hugging_face import config, layout
from mixscale.training.pretrained import load


def quiet(progress: Progress) -> None:
    """Ignores reports."""


def random_params(model: Model, vocab: int) -> dict:
    shapes = nnx.to_pure_dict(nnx.state(nnx.eval_shape(lambda: Transformer(model, vocab, nnx.Rngs(0)))))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: np.float32(0.2 * rng.standard_normal(x.shape)), shapes)


def saved(folder: Path, model: Model, store: TokenStore, **changed) -> Path:
    """A Hugging Face folder with random weights; `changed` are fields of its config.json."""
    folder.mkdir(parents=True)
    save_file(layout(model, random_params(model, store.vocab_size)), folder / "model.safetensors")
    fields = config(model, store.vocab_size, store.context, store.tokenizer.eod) | changed
    (folder / "config.json").write_text(json.dumps(fields))
    write_tokenizer(store.tokenizer, folder, store.context)
    return folder


def logits(folder: Path, ids_BxT: np.ndarray) -> np.ndarray:
    found = load(folder)
    return np.asarray(with_weights(found.model, found.params)(ids_BxT))


@pytest.fixture
def model(small: Experiment) -> Model:
    return small.models["tiny"]


@pytest.fixture
def run(small: Experiment, store: TokenStore, model: Model, tmp_path) -> Run:
    train = replace(small.train, parent=str(saved(tmp_path / "parent", model, store)))
    mixture = Mixture({"code": 0.5, "fiction": 0.3, "romance": 0.2})
    return Run(Constant(mixture), "tiny", model, small.optimizer, train, 1, store.id)


def test_shards_of_bfloat16_with_a_padded_vocabulary_are_read_alike(model, store, tmp_path):
    """As large models are published."""
    folder = saved(tmp_path / "whole", model, store)
    weights = {name: w.astype(ml_dtypes.bfloat16) for name, w in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors")
    parts = shutil.copytree(folder, tmp_path / "parts")
    (parts / "model.safetensors").unlink()
    table = weights["model.embed_tokens.weight"]
    weights["model.embed_tokens.weight"] = np.concatenate([table, table[:7]])
    files = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(weights)}
    for file in {*files.values()}:
        save_file({name: w for name, w in weights.items() if files[name] == file}, parts / file)
    (parts / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    jax.tree.map(np.testing.assert_array_equal, load(folder).params, load(parts).params)


@pytest.mark.parametrize("kind", ["qwen3", "llama"])
@pytest.mark.parametrize("tie", [True, False])
def test_transformers_models_give_our_logits(kind, tie, store, tmp_path):
    """Random weights of `transformers`, another epsilon, shards, and a padded vocabulary."""
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    torch.manual_seed(0)
    about = transformers.AutoConfig.for_model(
        kind, vocab_size=store.vocab_size + 7, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, rms_norm_eps=1e-3, tie_word_embeddings=tie,
        max_position_embeddings=64, initializer_range=0.1,
    )  # fmt: skip
    theirs = transformers.AutoModelForCausalLM.from_config(about)
    theirs.save_pretrained(tmp_path / "hf", max_shard_size="20KB")
    assert (tmp_path / "hf" / "model.safetensors.index.json").exists()
    write_tokenizer(store.tokenizer, tmp_path / "hf", 64)
    ids_BxT = np.random.default_rng(1).integers(0, store.vocab_size, (3, 32))
    with torch.no_grad():
        wanted = theirs(torch.tensor(ids_BxT)).logits.numpy()[..., : store.vocab_size]
    assert wanted.std() > 0.1
    np.testing.assert_allclose(logits(tmp_path / "hf", ids_BxT), wanted, atol=1e-4)


def test_another_epsilon_is_folded_into_the_weights(store, tmp_path):
    """The logits of weights that are half as large with a quarter of the epsilon, which norms cannot distinguish."""
    model = Model(d_model=16, layers=2, heads=2, kv_heads=1)
    ids_BxT = np.arange(24).reshape(2, 12)
    small = saved(tmp_path / "small", model, store)
    weights = load_file(small / "model.safetensors")
    grown = ("embed_tokens", "o_proj", "down_proj", "q_proj", "k_proj")
    for name in weights:
        weights[name] *= 30 if any(part in name for part in grown) else 1
    weights["model.norm.weight"] /= 30  # the embeddings are tied
    large = saved(tmp_path / "large", model, store, rms_norm_eps=900e-6)
    save_file(weights, large / "model.safetensors")
    np.testing.assert_allclose(logits(large, ids_BxT), logits(small, ids_BxT), atol=1e-5)


def test_a_run_starts_from_the_weights_of_its_parent(run, small, store, tmp_path):
    """At rate zero it measures them; alone and in a population; its id depends on the content alone."""
    still = replace(run, optimizer=replace(run.optimizer, learning_rate=0.0, weight_decay=0.0))
    other = replace(still, seed=2)
    trainer = Trainer(still, store, small.corpus.seed, small.machine)
    [row] = train_run(trainer, still, tmp_path / "still", quiet)
    assert row["parent"] == run.train.parent
    pair = Trainer(still, store, small.corpus.seed, small.machine, 2)
    folders = [tmp_path / "a", tmp_path / "b"]
    for [member] in train_population(pair, [still, other], folders, tmp_path / "pair", quiet):
        assert member["loss/code"] == pytest.approx(row["loss/code"], rel=1e-5)
    rows_NxT1 = store.rows("code", "validation").astype(np.int32)
    logits_NxTxV = logits(Path(run.train.parent), rows_NxT1[:, :-1])
    own_NxT = np.take_along_axis(logits_NxTxV, rows_NxT1[:, 1:, None], axis=-1)[..., 0]
    loss_N = (np.asarray(jax.nn.logsumexp(logits_NxTxV, axis=-1)) - own_NxT).mean(axis=-1)
    assert loss_N.min() <= row["loss/code"] <= loss_N.max()
    moved = shutil.copytree(run.train.parent, tmp_path / "moved")
    assert replace(run, train=replace(run.train, parent=str(moved))).id == run.id
    weights = load_file(moved / "model.safetensors")
    weights["model.norm.weight"] *= 2
    again = shutil.copytree(moved, tmp_path / "again")
    save_file(weights, again / "model.safetensors")
    assert replace(run, train=replace(run.train, parent=str(again))).id != run.id


def test_an_interrupted_child_does_not_need_its_parent(run, small, store, tmp_path):
    trainer = Trainer(run, store, small.corpus.seed, small.machine)
    uncut = train_run(trainer, run, tmp_path / "uncut", quiet)

    def cut(progress: Progress) -> None:
        if progress.done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(trainer, run, tmp_path / "cut", cut)
    shutil.rmtree(run.train.parent)
    rows = train_run(trainer, run, tmp_path / "cut", quiet)
    assert [{**row, "seconds": 0} for row in rows] == [{**row, "seconds": 0} for row in uncut]


def test_a_plan_names_the_model_and_the_tokenizer_that_fit(small, store, model, tmp_path):
    parent = saved(tmp_path / "parent", model, store)
    wide = replace(small, train=replace(small.train, parent=str(parent)), models={"wide": replace(model, d_model=32)})
    with pytest.raises(InputError, match="another shape.*use (Model.*)") as error:
        plan(wide, store)
    fits = eval(str(error.value).partition("; use ")[2])
    assert plan(replace(wide, models={"fits": fits}), store)
    bpe = build_store(replace(small.corpus, tokenizer=Tokenizer(vocab_size=300)), progress=False)
    with pytest.raises(InputError, match=r"257 tokens, .*300; set corpus.tokenizer to (Tokenizer.*)") as error:
        plan(replace(wide, models={"fits": fits}), bpe)
    remedy = eval(str(error.value).partition(".tokenizer to ")[2])
    assert plan(
        replace(wide, models={"fits": fits}), build_store(replace(small.corpus, tokenizer=remedy), progress=False)
    )


@pytest.mark.parametrize(
    ("changed", "clause"),
    [
        ({"attention_bias": True}, "has attention_bias True, which mixscale cannot express; .* must be False"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}, "rope_parameters": None}, "has rope_type yarn"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "has rope_type llama3"),
        ({"use_sliding_window": True}, "has use_sliding_window True"),
        ({"head_dim": 16}, "has head_dim 16, .* must be 8.0"),
        ({"model_type": "gemma"}, "has model_type gemma, .* must be llama or qwen3"),
        ({"hidden_act": "gelu"}, "has hidden_act gelu"),
        ({"quantization_config": {"bits": 4}}, "has quantization_config"),
        ({"num_hidden_layers": 2}, "no weight model.layers.1"),
        ({"intermediate_size": 32}, r"weight model.layers.0.mlp.down_proj.weight of shape \(16, 48\)"),
        ({"model_type": "llama"}, "has weight model.layers.0.self_attn.(q|k)_norm.weight, which"),
    ],
)
def test_what_our_model_cannot_express_is_named_with_its_value(changed, clause, model, store, tmp_path):
    folder = saved(tmp_path / "hf", model, store, **changed)
    with pytest.raises(InputError, match=clause):
        load(folder)


def test_a_folder_without_safetensors_is_an_error(model, store, tmp_path):
    folder = saved(tmp_path / "hf", model, store)
    (folder / "model.safetensors").write_bytes(b"pickle")
    with pytest.raises(InputError, match="model.safetensors cannot be read .*; save the model with"):
        load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="model.safetensors cannot be read"):
        load(folder)
