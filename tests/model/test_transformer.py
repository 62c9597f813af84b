import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mixscale.errors import InputError
from mixscale.experiment import Model
from mixscale.model import Transformer, count_parameters
from mixscale.model.transformer import SwiGLU, rotate

VOCAB = 40
SHAPES = [
    Model(d_model=32, layers=2, heads=4, kv_heads=2),
    Model(d_model=32, layers=1, heads=4, kv_heads=4, tie_embeddings=False),
    Model(d_model=48, layers=3, heads=2, kv_heads=1, d_ff=80),
]


@pytest.mark.parametrize("config", SHAPES)
def test_parameters_are_counted_as_they_are(config):
    state = nnx.state(Transformer(config, VOCAB, nnx.Rngs(0)), nnx.Param)
    body, everything = count_parameters(config, VOCAB)
    assert sum(x.size for x in jax.tree.leaves(state)) == everything
    assert everything - body == VOCAB * config.d_model * (1 if config.tie_embeddings else 2)


@pytest.mark.parametrize("config", SHAPES)
def test_no_position_sees_what_comes_after_it(config):
    model = Transformer(config, VOCAB, nnx.Rngs(0))
    ids_BxT = jax.random.randint(jax.random.key(1), (2, 12), 0, VOCAB)
    changed_BxT = ids_BxT.at[:, 7].set((ids_BxT[:, 7] + 1) % VOCAB)
    before, after = model(ids_BxT), model(changed_BxT)
    np.testing.assert_allclose(before[:, :7], after[:, :7], atol=1e-5)
    assert np.abs(before[:, 7:] - after[:, 7:]).max(axis=-1).min() > 1e-4


def test_scores_depend_on_distance_and_not_on_place():
    key_query, key_key = jax.random.split(jax.random.key(0))
    q_C, k_C = jax.random.normal(key_query, (8,)), jax.random.normal(key_key, (8,))
    q_TxC = rotate(jnp.tile(q_C, (1, 20, 1, 1)), 10_000.0)[0, :, 0]
    k_TxC = rotate(jnp.tile(k_C, (1, 20, 1, 1)), 10_000.0)[0, :, 0]
    score_TxT = q_TxC @ k_TxC.T
    for distance in (0, 3, 9):
        assert np.ptp(np.diagonal(score_TxT, distance)) < 1e-4
    assert np.ptp(score_TxT[0]) > 0.1


def movement(width: int, by_lr_scale: bool) -> float:
    """Mean size of the change of a block's output when every matrix takes one step of Adam's size, 0.01."""
    config = Model(d_model=width, layers=1, heads=width // 16, kv_heads=width // 32)
    graph, state = nnx.split(SwiGLU(config, nnx.Rngs(0)))
    x_1x1xD = jax.random.normal(jax.random.key(1), (1, 1, width))
    direction_D = jax.random.normal(jax.random.key(2), (width,))

    def out(state):
        return nnx.merge(graph, state)(x_1x1xD)

    def step(p, g):
        return p.replace(p[...] - 0.01 * (p.lr_scale if by_lr_scale else 1.0) * jnp.sign(g[...]))

    grads = jax.grad(lambda state: (out(state) * direction_D).sum())(state)
    moved = jax.tree.map(step, state, grads, is_leaf=lambda x: isinstance(x, nnx.Variable))
    return float(jnp.abs(out(moved) - out(state)).mean())


def test_one_step_moves_a_block_alike_at_every_width():
    """The point of µP; without its scales the same step moves a wide model much further than a narrow one."""
    assert 0.5 < movement(512, by_lr_scale=True) / movement(64, by_lr_scale=True) < 2.0
    assert movement(512, by_lr_scale=False) / movement(64, by_lr_scale=False) > 5.0


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (Model(d_model=64, heads=5), ["64", "5 heads"]),
        (Model(d_model=64, heads=4, kv_heads=3), ["kv_heads 3", "heads 4"]),
    ],
)
def test_impossible_shapes_are_named(config, words):
    with pytest.raises(InputError) as caught:
        Transformer(config, VOCAB, nnx.Rngs(0))
    assert all(word in str(caught.value) for word in words), caught.value
