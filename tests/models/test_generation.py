"""Generation with a cache, against the model without one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mixscale.config import Model
from mixscale.models import Transformer
from mixscale.models.generation import choose, generate
from mixscale.models.transformer import with_weights

VOCAB, TOKENS = 97, 12
PROMPTS = [[5, 17, 3, 80, 41, 2, 9], [11], [60, 61, 62]]
SHAPES = {
    "qk-norm": Model(d_model=32, layers=2, heads=4, kv_heads=2),
    "untied": Model(d_model=16, layers=3, heads=2, kv_heads=2, qk_norm=False, tie_embeddings=False),
}


def random_params(model: Model) -> dict:
    return nnx.to_pure_dict(nnx.state(Transformer(model, VOCAB, nnx.Rngs(3))))


def continued(
    model: Model, params: dict, prompts: list[list[int]], temperature=0.0, top_p=1.0, end=-1, seed=0
) -> np.ndarray:
    longest = max(map(len, prompts))
    padding = np.array([longest - len(prompt) for prompt in prompts])
    ids_BxP = np.array([[0] * n + prompt for n, prompt in zip(padding, prompts, strict=True)], np.int32)
    return np.asarray(generate(model, params, ids_BxP, padding, TOKENS, temperature, top_p, end, seed))


@pytest.mark.parametrize("shape", SHAPES)
def test_greedy_tokens_are_those_without_a_cache(shape):
    """Token for token, for prompts of different lengths that share a batch."""
    model = SHAPES[shape]
    params = random_params(model)
    forward = jax.jit(with_weights(model, params).__call__)
    for prompt, found_N in zip(PROMPTS, continued(model, params, PROMPTS), strict=True):
        ids = list(prompt)
        for _ in range(TOKENS):
            # Of one shape, because no token attends to later ones.
            padded_1xT = np.array([ids + [0] * (len(prompt) + TOKENS - len(ids))])
            ids.append(int(forward(padded_1xT)[0, len(ids) - 1].argmax()))
        assert found_N.tolist() == ids[len(prompt) :]
    assert len({*map(tuple, continued(model, params, PROMPTS))}) == len(PROMPTS)


def test_a_seed_decides_the_text_and_one_token_is_the_greedy_one():
    model = SHAPES["qk-norm"]
    params = random_params(model)
    drawn = [continued(model, params, PROMPTS, temperature=1.5, seed=seed).tolist() for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    narrow = continued(model, params, PROMPTS, temperature=1.5, top_p=1e-6, seed=1)
    assert narrow.tolist() == continued(model, params, PROMPTS).tolist()


def test_a_row_ends_at_the_end_token():
    model = SHAPES["qk-norm"]
    params = random_params(model)
    free_BxN = continued(model, params, PROMPTS)
    end = int(free_BxN[0, 4])
    for free_N, found_N in zip(free_BxN.tolist(), continued(model, params, PROMPTS, end=end).tolist(), strict=True):
        n = free_N.index(end) if end in free_N else TOKENS
        assert found_N == free_N[:n] + [end] * (TOKENS - n)


def test_tokens_are_drawn_with_the_probabilities_of_the_nucleus():
    """At temperature 2, of the tokens that together have a probability of 0.7."""
    p_V = np.array([0.1, 0.4, 0.05, 0.25, 0.2])
    logits_BxV = jnp.log(jnp.tile(p_V**2, (20_000, 1)))
    drawn_B = choose(jax.random.key(0), logits_BxV, temperature=2.0, top_p=0.7)
    share_V = np.bincount(drawn_B, minlength=5) / len(drawn_B)
    np.testing.assert_allclose(share_V, np.array([0, 0.4, 0, 0.25, 0.2]) / 0.85, atol=0.02)
