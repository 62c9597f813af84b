"""Export of a trained run for Hugging Face `transformers`: safetensors, config and tokenizer in Llama's layout.

With QK-norm the layout is Qwen3's, which is Llama's with a norm on queries and keys. Factors that only our model has
(1/EMBEDDING_STD on embeddings, µP's 1/width on logits) are folded into the weights, so the logits are the same.
"""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mixscale.config import Model, Optimizer
from mixscale.data import TokenStore
from mixscale.data.tokenizer import write_tokenizer
from mixscale.errors import InputError
from mixscale.io import atomic_write, check_format
from mixscale.models import Compute
from mixscale.models.transformer import BASE_WIDTH, EMBEDDING_STD, NORM_EPS, hidden_width
from mixscale.training.checkpoint import Checkpoints
from mixscale.training.pretrained import CONFIG, NAMES, WEIGHTS, Loaded
from mixscale.training.run import FORMAT
from mixscale.training.step import Program, State
from mixscale.training.tasks import LanguageModelling


def export_model(run: Path, out: Path, checkpoint: int | None = None, store: Path | None = None) -> int:
    """Writes the model of a run's folder, DIR/runs/ID, into the folder `out`; returns the checkpoint's number.

    By default of the newest checkpoint, with the token store in the cache that the run names. Raises InputError if
    there is no run, no such intact checkpoint, or not that store.
    """
    from safetensors.numpy import save_file

    found, number = open_run(run, checkpoint, store)
    tokenizer, end = found.tokenizer, found.tokenizer.eod
    with atomic_write(out / WEIGHTS) as temporary:
        metadata = {"format": "pt", "run": run.resolve().name}
        save_file(layout(found.model, found.params), temporary, metadata=metadata)
    configs = {
        "config": config(found.model, tokenizer.vocab_size, found.context, end),
        "generation_config": {"bos_token_id": end, "eos_token_id": end},
    }
    for name, value in configs.items():
        with atomic_write(out / f"{name}.json") as temporary:
            temporary.write_text(json.dumps(value, indent=2) + "\n", "utf-8")
    write_tokenizer(tokenizer, out, found.context)
    return number


def open_run(run: Path, checkpoint: int | None, store: Path | None) -> tuple[Loaded, int]:
    """The model of a run's folder and the number of its checkpoint, with arguments and errors of `export_model`."""
    described = _described(run)
    model, optimizer = Model(**described["run"]["model"]), Optimizer(**described["run"]["optimizer"])
    tokens = _opened(store or Path(described["experiment"]["corpus"]["cache"]) / described["run"]["store"], described)
    params, number = weights(run, model, optimizer, tokens, checkpoint)
    return Loaded(model, params, tokens.tokenizer, tokens.context, tokens.tokenizer.eod), number


def weights(
    run: Path, model: Model, optimizer: Optimizer, store: TokenStore, checkpoint: int | None
) -> tuple[dict[str, Any], int]:
    """Weights of a run on the host, averaged if the optimizer keeps an average, and their checkpoint's number."""
    program = Program(LanguageModelling(), model, store.vocab_size, optimizer, Compute(), 1, 1)
    cpu = jax.sharding.SingleDeviceSharding(jax.local_devices(backend="cpu")[0])
    shapes = jax.eval_shape(program.init, jax.ShapeDtypeStruct((1,), np.uint32))
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=cpu), shapes)
    made_with = {"model": model, "tokenizer": {"hash": store.tokenizer_hash, "vocab_size": store.vocab_size}}
    with closing(Checkpoints(run / "checkpoints", made_with)) as checkpoints:
        found = checkpoints.restore(like if optimizer.ema else State(like.params, None), only=checkpoint)
        numbers = ", ".join(map(str, checkpoints.numbers()))
    if found is None:
        wanted = "checkpoint" if checkpoint is None else f"checkpoint {checkpoint}"
        raise InputError(f"run '{run}' has no intact {wanted} (found: {numbers or 'none'})")
    params = program.update.averaged(found.live.params, found.live.opt)
    return jax.tree.map(lambda x: np.asarray(x[0], np.float32), params), found.done


def layout(model: Model, params: dict[str, Any]) -> dict[str, np.ndarray]:
    """Weights of one run by Hugging Face's names, float32; matrices (out, in), one entry per layer."""
    embed_VxD, last_D = params["embed"], params["norm"]["scale"] * np.float32(BASE_WIDTH / model.d_model)
    renamed = {"model.embed_tokens.weight": embed_VxD / np.float32(EMBEDDING_STD)}
    if model.tie_embeddings:
        # Their logits use the embedding that was divided here; the last norm multiplies it back.
        last_D = last_D * np.float32(EMBEDDING_STD)
    else:
        renamed["lm_head.weight"] = params["unembed"]
    renamed["model.norm.weight"] = last_D
    for path, stacked in jax.tree_util.tree_leaves_with_path(params["blocks"]):
        name = NAMES[jax.tree_util.keystr(path, simple=True, separator=".")]
        for layer, weight in enumerate(stacked):
            renamed[f"model.layers.{layer}.{name}.weight"] = np.ascontiguousarray(weight.T)
    return renamed


def config(model: Model, vocab: int, context: int, end: int) -> dict[str, Any]:
    """The config.json of `transformers`; the token `end` ends a document, and so also precedes every document."""
    kind = "Qwen3" if model.qk_norm else "Llama"
    return {
        "architectures": [f"{kind}ForCausalLM"],
        "model_type": kind.lower(),
        "vocab_size": vocab,
        "hidden_size": model.d_model,
        "intermediate_size": hidden_width(model),
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.d_model // model.heads,
        "hidden_act": "silu",
        "max_position_embeddings": context,
        "rms_norm_eps": NORM_EPS,
        "rope_theta": model.rope_theta,
        # transformers reads the same value here from version 5.
        "rope_parameters": {"rope_type": "default", "rope_theta": model.rope_theta},
        "attention_bias": False,
        "tie_word_embeddings": model.tie_embeddings,
        "torch_dtype": "float32",
        "bos_token_id": end,
        "eos_token_id": end,
    }


def _described(run: Path) -> dict[str, Any]:
    path = run / CONFIG
    if not path.is_file():
        raise InputError(f"'{run}' is not the folder of a run: it has no {CONFIG}; give DIR/runs/ID")
    described = json.loads(path.read_text("utf-8"))
    check_format(described["run"].get("format"), FORMAT, f"run '{run}'", "train it again")
    return described


def _opened(path: Path, described: dict[str, Any]) -> TokenStore:
    wanted = described["run"]["store"]
    if not path.is_dir():
        problem = f"token store {wanted}, which has the tokenizer of run {described['id']}, is not at '{path}'"
        raise InputError(f"{problem}; give its folder with --store, or build it again with `mixscale corpus`")
    store = TokenStore.open(path)
    if store.id != wanted:
        raise InputError(f"run {described['id']} was trained on token store {wanted}; '{path}' is store {store.id}")
    return store
