"""A Hugging Face folder in Llama's or Qwen3's layout as a model: config.json, safetensors and tokenizer, no PyTorch.

It is the inverse of the export in `hugging_face.py`. A field that our model cannot express is an InputError.
"""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from mixscale.config import Model
from mixscale.config import Tokenizer as TokenizerConfig
from mixscale.data.tokenizer import FILE, SENTENCEPIECE_FILE, Tokenizer, from_file
from mixscale.documents import parse_json
from mixscale.errors import InputError
from mixscale.models import Transformer
from mixscale.models.transformer import BASE_WIDTH, EMBEDDING_STD, NORM_EPS, hidden_width

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
# Names of the weights of a block: ours, and those of Hugging Face.
NAMES = {
    "attention_norm.scale": "input_layernorm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.out": "self_attn.o_proj",
    "attention.query_norm.scale": "self_attn.q_norm",
    "attention.key_norm.scale": "self_attn.k_norm",
    "mlp_norm.scale": "post_attention_layernorm",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
}


@dataclass(frozen=True)
class Loaded:
    """A trained model, to continue or to generate with."""

    model: Model
    params: dict[str, Any]  # float32, on the host, without an axis of runs; empty if only the shape was read
    tokenizer: Tokenizer
    context: int  # longest sequence that it was trained on
    begin: int | None  # token before the text of a document


def is_hugging_face(folder: Path) -> bool:
    """Whether the config.json in a folder is that of a published model; the folder of a run has another."""
    return (folder / CONFIG).is_file() and "model_type" in _json(folder / CONFIG)


@lru_cache
def identity(parent: str) -> str:
    """What stands for `train.parent` in a run's id: the hash of a Hugging Face folder, or the id of a run."""
    folder = Path(parent)
    if not parent or not is_hugging_face(folder):
        return folder.name
    total = hashlib.sha256()
    for path in [folder / CONFIG, *sorted(folder.glob("*.safetensors"))]:
        with open(path, "rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:10]


def load_parent(folder: Path, model: Model, tokenizer: Tokenizer, weights: bool = True) -> Loaded:
    """`load` for a run of `model`; raises InputError if the shape or the vocabulary differs."""
    found = load(folder, weights)
    if found.model != replace(model, d_ff=hidden_width(model)):
        raise InputError(f"train.parent '{folder}' has another shape than the config's model; use {found.model}")
    if found.tokenizer.vocabulary() != tokenizer.vocabulary():
        raise InputError(
            f"train.parent '{folder}' has a tokenizer of {found.tokenizer.vocab_size} tokens, and the corpus another "
            f'of {tokenizer.vocab_size}; set corpus.tokenizer to Tokenizer("huggingface", path="{folder}")'
        )
    return found


def load(folder: Path, weights: bool = True) -> Loaded:
    """The model in a Hugging Face folder, with or without its weights.

    Rows of the embedding beyond the tokenizer's vocabulary, which only pad it, are left out. Raises InputError if our
    model cannot compute the same logits.
    """
    fields = _json(folder / CONFIG)
    try:
        model = _model(folder / CONFIG, fields)
        context, eps = fields["max_position_embeddings"], fields["rms_norm_eps"]
    except KeyError as missing:
        raise InputError(f"{folder / CONFIG} has no field {missing}; save the model with transformers") from missing
    piece = folder / SENTENCEPIECE_FILE
    alone = piece.is_file() and not (folder / FILE).is_file()
    kind, path = ("sentencepiece", piece) if alone else ("huggingface", folder)
    tokenizer = from_file(TokenizerConfig(kind, path=str(path)))
    params = _params(folder, model, tokenizer.vocab_size, eps) if weights else {}
    return Loaded(model, params, tokenizer, context, fields.get("bos_token_id"))


def _model(path: Path, fields: dict[str, Any]) -> Model:
    # transformers 5 writes `rope_parameters` instead of `rope_theta` and `rope_scaling`.
    rope = {"rope_theta": 10_000.0} | fields | (fields.get("rope_parameters") or fields.get("rope_scaling") or {})
    kind, width, heads = fields["model_type"], fields["hidden_size"], fields["num_attention_heads"]
    head = fields.get("head_dim") or (128 if kind == "qwen3" else width // heads)
    required = {  # by field: the value it has, and those under which the computation is ours
        "model_type": (kind, ("llama", "qwen3")),
        "hidden_act": (fields["hidden_act"], ("silu",)),
        "head_dim": (head, (width / heads,)),
        "rope_type": (rope.get("rope_type", rope.get("type", "default")), ("default",)),
        "use_sliding_window": (fields.get("use_sliding_window", False), (False,)),
        "attention_bias": (fields.get("attention_bias", False), (False,)),
        "mlp_bias": (fields.get("mlp_bias", False), (False,)),
        "quantization_config": (fields.get("quantization_config"), (None,)),
    }
    for name, (value, possible) in required.items():
        if value not in possible:
            only = " or ".join(map(str, possible))
            raise InputError(f"{path} has {name} {value}, which mixscale cannot express; the model's must be {only}")
    return Model(
        d_model=width,
        layers=fields["num_hidden_layers"],
        heads=heads,
        kv_heads=fields.get("num_key_value_heads") or heads,
        d_ff=fields["intermediate_size"],
        tie_embeddings=fields.get("tie_word_embeddings", False),
        rope_theta=float(rope["rope_theta"]),
        qk_norm=kind == "qwen3",
    )


def _params(folder: Path, model: Model, vocab: int, eps: float) -> dict[str, Any]:
    shapes = nnx.to_pure_dict(nnx.state(nnx.eval_shape(lambda: Transformer(model, vocab, nnx.Rngs(0)))))
    # Norms with another epsilon are ours of a residual stream times this: x / √(x² + ε) = cx / √((cx)² + c²ε).
    c = np.float32((NORM_EPS / eps) ** 0.5)
    scaled = ["attention.out", "mlp.down"] + ["attention.query", "attention.key"] * model.qk_norm

    with ExitStack() as stack:
        held = _open(folder, stack)

        def weight(name: str, *shape: int, rows: int | None = None) -> np.ndarray:
            if name not in held:
                raise InputError(f"'{folder}' has no weight {name}, which its {CONFIG} needs")
            value = held.pop(name).get_tensor(name)[:rows].astype(np.float32)
            if value.shape != shape:
                raise InputError(f"'{folder}' has weight {name} of shape {value.shape}; its {CONFIG} needs {shape}")
            return value

        def block(path: Any, like: Any) -> np.ndarray:
            ours = jax.tree_util.keystr(path, simple=True, separator=".")
            layers, *shape = like.shape
            names = [f"model.layers.{layer}.{NAMES[ours]}.weight" for layer in range(layers)]
            return np.stack([weight(name, *shape[::-1]).T for name in names]) * (c if ours in scaled else 1)

        width, last = model.d_model, model.d_model / BASE_WIDTH
        params = {"blocks": jax.tree_util.tree_map_with_path(block, shapes["blocks"])}
        params["embed"] = weight("model.embed_tokens.weight", vocab, width, rows=vocab) * (c * EMBEDDING_STD)
        if model.tie_embeddings:
            last /= c * EMBEDDING_STD
            held.pop("lm_head.weight", None)  # a copy of the embedding
        else:
            params["unembed"] = weight("lm_head.weight", vocab, width, rows=vocab)
        params["norm"] = {"scale": weight("model.norm.weight", width) * np.float32(last)}
        if unknown := [name for name in held if not name.endswith("inv_freq")]:
            raise InputError(f"'{folder}' has weight {unknown[0]}, which mixscale's model does not have")
    return params


def _open(folder: Path, stack: ExitStack) -> dict[str, Any]:
    """The open file of each weight."""
    from safetensors import SafetensorError, safe_open

    index = folder / f"{WEIGHTS}.index.json"
    names = sorted({*_json(index)["weight_map"].values()}) if index.is_file() else [WEIGHTS]
    held = {}
    for name in names:
        try:
            file = stack.enter_context(safe_open(folder / name, "numpy"))
        except (FileNotFoundError, SafetensorError) as error:
            problem = f"{folder / name} cannot be read as safetensors ({error})"
            raise InputError(f"{problem}; save the model with safe_serialization=True") from error
        held |= dict.fromkeys(file.keys(), file)
    return held


def _json(path: Path) -> dict[str, Any]:
    return parse_json(path.read_text("utf-8"), str(path))
