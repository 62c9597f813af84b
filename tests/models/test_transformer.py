"""The model: its results, in every way to compute them, and how its parameters move."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from mixscale.config import Model
from mixscale.errors import InputError
from mixscale.models import Compute, Transformer, count_parameters
from mixscale.models.transformer import rotary, rotate

VOCAB = 40
GROUPED = Model(d_model=32, layers=2, heads=4, kv_heads=2)
SHAPES = [
    GROUPED,
    Model(d_model=32, layers=1, heads=4, kv_heads=4, tie_embeddings=False, qk_norm=False),
    Model(d_model=48, layers=3, heads=2, kv_heads=1, d_ff=80),
]


def made(config: Model, compute: Compute = Compute(), seed: int = 0) -> tuple[nnx.GraphDef, nnx.State]:  # noqa: B008
    """A transformer as graph and state, compiled as a whole to save time."""

    def build(seed: jax.Array) -> Transformer:
        return Transformer(config, VOCAB, nnx.Rngs(params=jax.random.key(seed)), compute)

    graph, _ = nnx.split(nnx.eval_shape(lambda: build(0)))
    return graph, jax.jit(lambda seed: nnx.state(build(seed)))(seed)


def rows(batch: int = 4, length: int = 13) -> jax.Array:
    return jax.random.randint(jax.random.key(1), (batch, length), 0, VOCAB)


def examples(rows_BxT1: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Ids and the tokens that follow them."""
    return rows_BxT1[:, :-1], rows_BxT1[:, 1:]


def loss_and_gradient(config: Model, compute: Compute, name: str = "loss") -> tuple[float, nnx.State]:
    graph, state = made(config, compute)
    return jax.jit(jax.value_and_grad(lambda state: getattr(nnx.merge(graph, state), name)(*examples(rows())).mean()))(
        state
    )


def assert_close(found: nnx.State, expected: nnx.State, tolerance: float) -> None:
    """Leaf by leaf, relative to the largest entry."""
    for (path, a), b in zip(jax.tree.leaves_with_path(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        assert np.abs(np.asarray(a) - np.asarray(b)).max() <= tolerance * np.abs(b).max(), path


@pytest.fixture(scope="module")
def reference() -> tuple[float, nnx.State]:
    """Loss and gradient by JAX's own rules, from whole logits."""
    graph, state = made(GROUPED)

    def loss(state: nnx.State) -> jax.Array:
        logits_BxTxV = nnx.merge(graph, state)(rows()[:, :-1])
        return optax.softmax_cross_entropy_with_integer_labels(logits_BxTxV, rows()[:, 1:]).mean()

    return jax.jit(jax.value_and_grad(loss))(state)


@pytest.mark.parametrize(
    ("compute", "name"),
    [
        (Compute(), "loss"),
        (Compute(loss_chunk=5), "losses"),
        (Compute(scan=True, loss_chunk=4), "loss"),
        (Compute(remat=True), "loss"),
    ],
)
def test_every_way_to_compute_gives_one_loss_and_gradient(reference, compute, name):
    loss, gradient = loss_and_gradient(GROUPED, compute, name)
    assert loss == pytest.approx(float(reference[0]), rel=1e-6)
    assert_close(gradient, reference[1], 1e-5)


def test_products_in_bfloat16_change_little_and_leave_gradients_in_float32(reference):
    loss, gradient = loss_and_gradient(GROUPED, Compute(dtype="bfloat16"))
    assert loss != reference[0]
    assert loss == pytest.approx(float(reference[0]), rel=1e-3)
    assert_close(gradient, reference[1], 0.05)


def test_a_vmapped_population_equals_its_runs():
    """vmapped over runs with different weights and rows; nothing leaks between them."""
    models = [made(GROUPED, seed=seed) for seed in range(3)]
    states = [state for _, state in models]
    rows_RxBxT1 = jax.random.randint(jax.random.key(2), (3, 2, 9), 0, VOCAB)
    one = jax.value_and_grad(lambda state, rows_BxT1: nnx.merge(models[0][0], state).loss(*examples(rows_BxT1)))
    alone = jax.jit(one)
    loss_R, gradients = jax.jit(jax.vmap(one))(jax.tree.map(lambda *x: jnp.stack(x), *states), rows_RxBxT1)
    for r, state in enumerate(states):
        loss, gradient = alone(state, rows_RxBxT1[r])
        assert loss_R[r] == pytest.approx(float(loss), rel=1e-6)
        assert_close(jax.tree.map(lambda x, r=r: x[r], gradients), gradient, 1e-5)


@pytest.mark.mesh
@pytest.mark.parametrize("mesh", [(4, 2), (1, 2)])
def test_sharding_keeps_the_loss_and_never_gathers_weights(reference, mesh):
    """Batch over four devices, heads, hidden units and vocabulary over two."""
    mesh = jax.make_mesh(mesh, ("batch", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    spread = {"batch": "batch", "heads": "tensor", "kv_heads": "tensor", "mlp": "tensor", "vocab": "tensor"}

    def placed(axes: tuple[str | None, ...]) -> jax.NamedSharding:
        return jax.NamedSharding(mesh, jax.P(*(spread.get(axis) for axis in axes)))

    compute = Compute(constrain=lambda x, axes: jax.lax.with_sharding_constraint(x, placed(axes)))
    graph, state = made(GROUPED, compute)
    is_param = lambda x: isinstance(x, nnx.Variable)  # noqa: E731
    state = jax.tree.map(lambda p: p.replace(jax.device_put(p[...], placed(p.axes))), state, is_leaf=is_param)
    step = jax.jit(jax.value_and_grad(lambda state, rows: nnx.merge(graph, state).loss(*examples(rows))))
    given = jax.device_put(rows(), placed(("batch", None)))
    loss, gradient = step(state, given)
    assert loss == pytest.approx(float(reference[0]), rel=1e-5)
    assert_close(gradient, reference[1], 1e-4)
    gathers = [line for line in step.lower(state, given).compile().as_text().splitlines() if " all-gather(" in line]
    assert not gathers, gathers


@pytest.mark.parametrize("config", SHAPES)
def test_the_count_of_parameters_is_exact(config):
    state = nnx.state(nnx.eval_shape(lambda: Transformer(config, VOCAB, nnx.Rngs(0))), nnx.Param)
    body, everything = count_parameters(config, VOCAB)
    assert sum(x.size for x in jax.tree.leaves(state)) == everything
    assert everything - body == VOCAB * config.d_model * (1 if config.tie_embeddings else 2)


@pytest.mark.parametrize("config", SHAPES)
def test_every_parameter_names_its_axes(config):
    state = nnx.state(nnx.eval_shape(lambda: Transformer(config, VOCAB, nnx.Rngs(0))), nnx.Param)
    params = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, nnx.Variable))
    assert all(len(p.axes) == p.get_value().ndim for p in params)
    assert {p.axes for p in params if p.decay} == {
        ("layers", "embed", "heads"),
        ("layers", "embed", "kv_heads"),
        ("layers", "heads", "embed"),
        ("layers", "embed", "mlp"),
        ("layers", "mlp", "embed"),
    }


@pytest.mark.parametrize("config", SHAPES)
def test_no_position_attends_to_later_ones(config):
    model = jax.jit(nnx.merge(*made(config)).__call__)
    ids_BxT = rows(2, 12)
    changed_BxT = ids_BxT.at[:, 7].set((ids_BxT[:, 7] + 1) % VOCAB)
    before, after = model(ids_BxT), model(changed_BxT)
    np.testing.assert_allclose(before[:, :7], after[:, :7], atol=1e-5)
    assert np.abs(before[:, 7:] - after[:, 7:]).max(axis=-1).min() > 1e-4


def test_scores_depend_only_on_distance():
    key_query, key_key = jax.random.split(jax.random.key(0))
    q_C, k_C = jax.random.normal(key_query, (8,)), jax.random.normal(key_key, (8,))
    table = rotary(20, 8, 10_000.0)
    q_TxC = rotate(jnp.tile(q_C, (1, 20, 1, 1)), table)[0, :, 0]
    k_TxC = rotate(jnp.tile(k_C, (1, 20, 1, 1)), table)[0, :, 0]
    score_TxT = q_TxC @ k_TxC.T
    for distance in (0, 3, 9):
        assert np.ptp(np.diagonal(score_TxT, distance)) < 1e-4
    assert np.ptp(score_TxT[0]) > 0.1


def movement(width: int, by_lr_scale: bool) -> float:
    """Mean size of the change of the last state when every hidden matrix takes one step of Adam's size, 0.01."""
    config = Model(d_model=width, layers=1, heads=width // 16, kv_heads=width // 32)
    graph, state = nnx.split(nnx.merge(*made(config)).blocks)
    x_1xTxD = jax.random.normal(jax.random.key(1), (1, 4, width))
    direction_D = jax.random.normal(jax.random.key(2), (width,))

    def out(state):
        return nnx.merge(graph, jax.tree.map(lambda x: x[0], state))(x_1xTxD, rotary(4, 16, 10_000.0))

    def step(p, g):
        return p.replace(p[...] - 0.01 * p.decay * (p.lr_scale if by_lr_scale else 1.0) * jnp.sign(g[...]))

    @jax.jit
    def moves(state):
        grads = jax.grad(lambda state: (out(state) * direction_D).sum())(state)
        moved = jax.tree.map(step, state, grads, is_leaf=lambda x: isinstance(x, nnx.Variable))
        return jnp.abs(out(moved) - out(state)).mean()

    return float(moves(state))


def test_one_step_moves_a_block_alike_at_every_width():
    """The point of µP; without its scales the same step moves a wide model much further than a narrow one."""
    assert 0.5 < movement(512, by_lr_scale=True) / movement(64, by_lr_scale=True) < 2.0
    assert movement(512, by_lr_scale=False) / movement(64, by_lr_scale=False) > 5.0


def test_attention_that_the_device_cannot_do_is_refused():
    with pytest.raises(InputError, match="attention 'cudnn'.*'auto' or 'xla'"):
        jax.eval_shape(lambda: Transformer(GROUPED, VOCAB, nnx.Rngs(0), Compute(attention="cudnn"))(rows()))
