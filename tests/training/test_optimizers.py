"""The update on small trees, and both optimizers on a real model and real text."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from mixscale.config import Mesh, Model, Optimizer
from mixscale.data import TokenStore
from mixscale.mixture import Mixture
from mixscale.mixtures.schedule import Constant
from mixscale.models import Transformer
from mixscale.training import Progress, Run, Trainer, train_run
from mixscale.training.optimizers import MUON_SCALE, Update

LR_SCALE = {"hidden": 0.5, "table": 1.0, "norm": 1.0}
DECAY = {"hidden": True, "table": False, "norm": False}


def tree(seed: int, layers: int = 3, width: int = 24, out: int = 48) -> dict[str, jax.Array]:
    """Everything that a model has, for two layers: matrices, a table, a vector."""
    keys = jax.random.split(jax.random.key(seed), 3)
    shapes = {"hidden": (layers, width, out), "table": (7, width), "norm": (width,)}
    return {name: jax.random.normal(key, shapes[name]) for name, key in zip(shapes, keys, strict=True)}


def taken(update: Update, steps: int, rate: float = 0.1, decay: float = 0.0, seed: int = 0) -> list:
    """(params, state, metrics) after each step along random gradients."""
    params = tree(seed)
    opt, states = update.init(params), []
    for s in range(steps):
        params, opt, metrics = update.apply(tree(seed + s + 1), opt, params, jnp.float32(rate), jnp.float32(decay))
        states.append((params, opt, metrics))
    return states


def test_adamw_is_optax_with_the_scales_of_the_parameters():
    """With all scales one and decay everywhere, the update equals `optax.adamw` after clipping."""
    alike = jax.tree.map(lambda _: 1.0, LR_SCALE)
    update = Update(Optimizer(clip=0.7), alike, jax.tree.map(lambda _: True, DECAY))
    theirs = optax.chain(optax.clip_by_global_norm(0.7), optax.adamw(0.1, b1=0.9, b2=0.95, weight_decay=0.3))
    params = tree(0)
    opt = theirs.init(params)
    for s, (ours, _, metrics) in enumerate(taken(update, 3, decay=0.3)):
        grads = tree(s + 1)
        assert metrics["grad_norm"] == pytest.approx(float(optax.tree.norm(grads)), rel=1e-6)
        moves, opt = theirs.update(grads, opt, params)
        params = optax.apply_updates(params, moves)
        assert metrics["param_norm"] == pytest.approx(float(optax.tree.norm(params)), rel=1e-6)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), ours, params)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_decay_shrinks_only_matrices(name):
    ((with_decay, _, _),) = taken(Update(Optimizer(name=name), LR_SCALE, DECAY), 1, decay=0.4)
    ((without, _, _),) = taken(Update(Optimizer(name=name), LR_SCALE, DECAY), 1)
    np.testing.assert_allclose(without["hidden"] - with_decay["hidden"], 0.1 * 0.4 * tree(0)["hidden"], atol=1e-6)
    assert (with_decay["table"] == without["table"]).all()
    assert (with_decay["norm"] == without["norm"]).all()


def test_muon_moves_every_matrix_of_a_stack_by_an_orthogonal_matrix():
    before, ((after, _, _),) = tree(0), taken(Update(Optimizer(name="muon"), LR_SCALE, DECAY), 1)
    move_LxIxO = np.asarray(before["hidden"] - after["hidden"]) / (0.1 * MUON_SCALE * 2**0.5)
    singular = np.linalg.svd(move_LxIxO, compute_uv=False)
    assert singular.shape == (3, 24)
    assert 0.6 < singular.min() <= singular.max() < 1.3
    # Each matrix by its own gradient: the product with it has the trace norm, which no other direction reaches.
    grads_LxIxO = np.asarray(tree(1)["hidden"])
    along_L = (move_LxIxO * grads_LxIxO).sum((1, 2)) / np.linalg.svd(grads_LxIxO, compute_uv=False).sum(1)
    assert (along_L > 0.7).all()


def test_muon_updates_other_parameters_as_adamw_does():
    muon, adamw = (taken(Update(Optimizer(name=name), LR_SCALE, DECAY), 2)[-1][0] for name in ("muon", "adamw"))
    np.testing.assert_allclose(muon["table"], adamw["table"], atol=1e-6)
    np.testing.assert_allclose(muon["norm"], adamw["norm"], atol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_runs_updated_together_equal_runs_updated_alone(name):
    """Each with its own learning rate and weight decay."""
    update = Update(Optimizer(name=name, ema=0.5), LR_SCALE, DECAY)
    rate_R, decay_R = jnp.array([0.1, 0.02, 0.3]), jnp.array([0.0, 0.1, 0.4])
    params, grads = ([tree(seed + r) for r in range(3)] for seed in (0, 10))
    stacked, together = (jax.tree.map(lambda *x: jnp.stack(x), *trees) for trees in (params, grads))
    opt = jax.vmap(update.init)(stacked)
    for _ in range(2):
        stacked, opt, _ = jax.jit(jax.vmap(update.apply))(together, opt, stacked, rate_R, decay_R)
    for r in range(3):
        alone, state = params[r], update.init(params[r])
        for _ in range(2):
            alone, state, _ = jax.jit(update.apply)(grads[r], state, alone, rate_R[r], decay_R[r])
        of_r = jax.tree.map(lambda x, r=r: x[r], (stacked, update.averaged(stacked, opt)))
        close = partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-6)
        jax.tree.map(close, of_r, (alone, update.averaged(alone, state)))


@pytest.mark.mesh
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_an_update_of_sharded_weights_equals_that_of_whole_weights(name):
    update = Update(Optimizer(name=name, ema=0.5), LR_SCALE, DECAY)
    mesh = jax.make_mesh((2, 4), ("fsdp", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    spread = {"hidden": jax.P(None, "fsdp", "tensor"), "table": jax.P(None, "fsdp"), "norm": jax.P()}
    where = {name: jax.sharding.NamedSharding(mesh, spec) for name, spec in spread.items()}
    placed = update.placed(where, jax.sharding.NamedSharding(mesh, jax.P()))
    params, grads = tree(0), tree(1)
    there = jax.jit(update.init, out_shardings=placed)(jax.device_put(params, where))
    step = jax.jit(update.apply, out_shardings=(where, placed, None))
    sharded = step(jax.device_put(grads, where), there, jax.device_put(params, where), 0.1, 0.1)
    whole = jax.jit(update.apply)(grads, update.init(params), params, 0.1, 0.1)
    assert sharded[0]["hidden"].sharding.is_equivalent_to(where["hidden"], 3)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-6), sharded, whole)


def test_the_average_weights_every_step_by_its_age():
    update = Update(Optimizer(ema=0.9), LR_SCALE, DECAY)
    states = taken(update, 5)
    weight_S = 0.9 ** np.arange(4, -1, -1)
    for name in DECAY:
        found = update.averaged(*states[-1][:2])[name]
        expected = sum(
            w * np.asarray(params[name], np.float64) for w, (params, _, _) in zip(weight_S, states, strict=True)
        )
        np.testing.assert_allclose(found, expected / weight_S.sum(), rtol=1e-5, atol=1e-6)


def test_without_an_average_the_weights_are_evaluated():
    update = Update(Optimizer(), LR_SCALE, DECAY)
    params, opt, _ = taken(update, 1)[-1]
    assert update.averaged(params, opt) is params


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_entries_are_placed_where_the_state_is_shaped_like_parameters(name):
    update = Update(Optimizer(name=name, ema=0.5), LR_SCALE, DECAY)
    placed = update.placed({n: n for n in DECAY}, "whole")
    params = tree(0)
    shape_of = {n: p.shape for n, p in params.items()} | {"whole": None}
    found = jax.tree.map(lambda entry, x: shape_of[entry] in (None, x.shape), placed, update.init(params))
    assert all(jax.tree.leaves(found))
    named = [entry for entry in jax.tree.leaves(placed) if entry != "whole"]
    assert sorted(named) == sorted([*DECAY] * 3 if name == "adamw" else [*DECAY] * 2 + ["norm", "table"])


def trained(optimizer: Optimizer, config: Model, store: TokenStore, steps: int, batch: int = 16) -> float:
    """Mean training loss over the last ten steps on the code of the store, in nats per token."""
    graph, state = nnx.split(Transformer(config, store.vocab_size, nnx.Rngs(0)))
    is_param = lambda x: isinstance(x, nnx.Variable)  # noqa: E731
    about = (jax.tree.map(lambda p, a=a: getattr(p, a), state, is_leaf=is_param) for a in ("lr_scale", "decay"))
    update = Update(optimizer, *map(nnx.to_pure_dict, about))

    def loss(params, rows_BxT1):
        full = jax.tree.map(lambda x: x, state)
        nnx.replace_by_pure_dict(full, params)
        logits_BxTxV = nnx.merge(graph, full)(rows_BxT1[:, :-1])
        return optax.softmax_cross_entropy_with_integer_labels(logits_BxTxV, rows_BxT1[:, 1:]).mean()

    @jax.jit
    def step(params, opt, rows_BxT1, rate):
        value, grads = jax.value_and_grad(loss)(params, rows_BxT1)
        return *update.apply(grads, opt, params, rate, jnp.float32(0.1))[:2], value

    params, opt = nnx.to_pure_dict(state), None
    opt, rng, losses = update.init(params), np.random.default_rng(0), []
    rows_RxT1 = np.asarray(store.rows("code", "train"), np.int32)
    for s in range(steps):
        rate = optimizer.learning_rate * min(1.0, (s + 1) / 5)
        params, opt, value = step(params, opt, rng.choice(rows_RxT1, batch), jnp.float32(rate))
        losses.append(float(value))
    return float(np.mean(losses[-10:]))


@pytest.mark.mesh
@pytest.mark.slow
def test_a_run_with_muon_and_an_average_resumes_on_another_mesh(small, store, tmp_path):
    optimizer = replace(small.optimizer, name="muon", ema=0.8)
    model = replace(small.models["tiny"], kv_heads=2)
    run = Run(
        Constant(Mixture({"code": 0.6, "romance": 0.4})), "tiny", model, optimizer, small.train, seed=1, store=store.id
    )
    one = Trainer(run, store, small.corpus.seed, small.machine)
    four = Trainer(run, store, small.corpus.seed, replace(small.machine, mesh=Mesh(data=1, fsdp=2, tensor=2)))
    uncut = train_run(one, run, tmp_path / "uncut", lambda _: None)[-1]

    def cut(progress: Progress) -> None:
        if progress.done > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(one, run, tmp_path / "cut", cut)
    reports = []
    row = train_run(four, run, tmp_path / "cut", reports.append)[-1]
    assert 8 < reports[0].done < 40
    assert [row[f"loss/{d}"] for d in store.domains] == pytest.approx(
        [uncut[f"loss/{d}"] for d in store.domains], rel=1e-4
    )


def test_muon_learns_at_least_as_fast_as_adamw_at_the_default_rate(store):
    config = Model(d_model=32, layers=2, heads=2, kv_heads=1)
    muon, adamw = (trained(Optimizer(name=name), config, store, steps=80) for name in ("muon", "adamw"))
    assert muon < adamw < 0.75 * np.log(store.vocab_size)
