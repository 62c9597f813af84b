import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mixscale.errors import InputError
from mixscale.experiment import Model
from mixscale.model import Transformer, count_parameters
from mixscale.model.transformer import rotate

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


@pytest.mark.parametrize("width", [32, 64, 256])
def test_logits_start_small_and_first_updates_move_them_alike_at_every_width(width):
    """The point of µP: one Adam-like step of one rate changes the logits by as much at every width."""
    config = Model(d_model=width, layers=2, heads=width // 16, kv_heads=width // 32)
    graph, state = nnx.split(Transformer(config, VOCAB, nnx.Rngs(0)))
    ids_BxT = jax.random.randint(jax.random.key(1), (4, 16), 0, VOCAB)

    def loss(state):
        logits = nnx.merge(graph, state)(ids_BxT[:, :-1])
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), ids_BxT[:, 1:, None], -1).mean()

    grads = jax.grad(loss)(state)
    is_param = lambda x: isinstance(x, nnx.Variable)  # noqa: E731
    moved = jax.tree.map(
        lambda p, g: p.replace(p[...] - 0.01 * p.lr_scale * jnp.sign(g[...])), state, grads, is_leaf=is_param
    )
    start = nnx.merge(graph, state)(ids_BxT)
    change = nnx.merge(graph, moved)(ids_BxT) - start
    assert start.std() < 1.5
    assert 0.2 < change.std() < 2.0, change.std()


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
