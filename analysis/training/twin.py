"""The model in plain PyTorch, as a person would write it who wants it fast and readable; nothing is compiled.

The same sums as `mixscale.models`: a test gives both the same weights (`copy_weights`) and compares loss and gradient.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from mixscale.config import Model
from mixscale.models.transformer import BASE_WIDTH, EMBEDDING_STD, hidden_width
from training.shapes import Shape


class Block(nn.Module):
    def __init__(self, config: Model):
        super().__init__()
        D, F_ = config.d_model, hidden_width(config)
        self.H, self.G, self.C = config.heads, config.kv_heads, D // config.heads
        self.attention_norm, self.mlp_norm = nn.RMSNorm(D, eps=1e-6), nn.RMSNorm(D, eps=1e-6)
        self.query_norm, self.key_norm = nn.RMSNorm(self.C, eps=1e-6), nn.RMSNorm(self.C, eps=1e-6)
        self.qkv = nn.Linear(D, (self.H + 2 * self.G) * self.C, bias=False)
        self.out = nn.Linear(D, D, bias=False)
        self.gate_up = nn.Linear(D, 2 * F_, bias=False)
        self.down = nn.Linear(F_, D, bias=False)

    def forward(self, x_BxTxD: torch.Tensor, cos_Txc: torch.Tensor, sin_Txc: torch.Tensor) -> torch.Tensor:
        B, T, D = x_BxTxD.shape
        qkv = self.qkv(self.attention_norm(x_BxTxD)).view(B, T, self.H + 2 * self.G, self.C).transpose(1, 2)
        q, k, v = qkv.split([self.H, self.G, self.G], dim=1)
        q, k = rotate(self.query_norm(q), cos_Txc, sin_Txc), rotate(self.key_norm(k), cos_Txc, sin_Txc)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x_BxTxD = x_BxTxD + self.out(y.transpose(1, 2).reshape(B, T, D))
        gate, up = self.gate_up(self.mlp_norm(x_BxTxD)).chunk(2, dim=-1)
        return x_BxTxD + self.down(F.silu(gate) * up)


class Twin(nn.Module):
    """Rows (B, T+1) of token ids in, mean next-token loss in nats out."""

    def __init__(self, config: Model, vocab: int, context: int):
        super().__init__()
        C = config.d_model // config.heads
        self.logit_scale = BASE_WIDTH / config.d_model
        self.embed = nn.Embedding(vocab, config.d_model)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.layers)])
        self.norm = nn.RMSNorm(config.d_model, eps=1e-6)
        frequency_c = config.rope_theta ** (-torch.arange(0, C, 2) / C)
        angle_Txc = torch.arange(context)[:, None] * frequency_c
        self.register_buffer("cos_Txc", angle_Txc.cos())
        self.register_buffer("sin_Txc", angle_Txc.sin())

    def forward(self, rows_BxT1: torch.Tensor) -> torch.Tensor:
        x_BxTxD = self.embed(rows_BxT1[:, :-1]) / EMBEDDING_STD
        for block in self.blocks:
            x_BxTxD = block(x_BxTxD, self.cos_Txc, self.sin_Txc)
        logits_BxTxV = F.linear(self.norm(x_BxTxD) * self.logit_scale, self.embed.weight)
        return F.cross_entropy(logits_BxTxV.flatten(0, 1).float(), rows_BxT1[:, 1:].flatten())


def rotate(x_BxHxTxC: torch.Tensor, cos_Txc: torch.Tensor, sin_Txc: torch.Tensor) -> torch.Tensor:
    """The same planes as `mixscale.models.transformer.rotate`."""
    a, b = x_BxHxTxC.chunk(2, dim=-1)
    return torch.cat([a * cos_Txc - b * sin_Txc, a * sin_Txc + b * cos_Txc], dim=-1)


def copy_weights(twin: Twin, params: dict) -> None:
    """Gives the twin the weights of a transformer with tied embeddings and QK-norm, as a nested dict of arrays."""
    blocks = params["blocks"]
    attention, mlp = blocks["attention"], blocks["mlp"]

    def put(parameter: torch.Tensor, *arrays: np.ndarray) -> None:
        parameter.copy_(torch.from_numpy(np.concatenate([np.asarray(a).T for a in arrays]).copy()))

    with torch.no_grad():
        twin.embed.weight.copy_(torch.from_numpy(np.array(params["embed"])))
        put(twin.norm.weight, params["norm"]["scale"])
        for layer, block in enumerate(twin.blocks):
            put(block.qkv.weight, *(attention[name][layer] for name in ("query", "key", "value")))
            put(block.out.weight, attention["out"][layer])
            put(block.gate_up.weight, mlp["gate"][layer], mlp["up"][layer])
            put(block.down.weight, mlp["down"][layer])
            put(block.attention_norm.weight, blocks["attention_norm"]["scale"][layer])
            put(block.mlp_norm.weight, blocks["mlp_norm"]["scale"][layer])
            put(block.query_norm.weight, attention["query_norm"]["scale"][layer])
            put(block.key_norm.weight, attention["key_norm"]["scale"][layer])


def job(shape: Shape, dtype: str, cores: int) -> Callable[[], int]:
    """A function that trains `shape.steps` steps with fused AdamW and returns their tokens."""
    torch.set_num_threads(cores)
    twin = Twin(shape.model, shape.vocab, shape.context)
    optimizer = torch.optim.AdamW(twin.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    tokens_NxT1 = torch.from_numpy(shape.rows().astype(np.int64))

    def once() -> int:
        for step in range(shape.steps):
            first = step * shape.batch % len(tokens_NxT1)
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
                loss = twin(tokens_NxT1[first : first + shape.batch])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
            optimizer.step()
        loss.item()
        return shape.steps * shape.batch * shape.context

    return once
