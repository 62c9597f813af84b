"""Checkpoints: written while training continues, damaged, and restored on other devices."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from mixscale.config import Model
from mixscale.errors import InputError
from mixscale.training import manifest
from mixscale.training.checkpoint import Checkpoints
from mixscale.training.step import State

ABOUT = {"model": Model(), "tokenizer": {"hash": "0123456789", "vocab_size": 257}}


def on_mesh(state: State, **axes: int) -> State:
    """The state spread over a mesh: vectors whole, matrices by the first and the last of the axes."""
    names = tuple(axes)
    devices = jax.devices()[: int(np.prod(list(axes.values())))]
    mesh = jax.make_mesh(
        tuple(axes.values()), names, axis_types=(jax.sharding.AxisType.Auto,) * len(names), devices=devices
    )
    matrix = jax.P(None, names[0], names[-1] if len(names) > 1 else None)

    def placed(x: jax.Array) -> jax.Array:
        return jax.device_put(x, jax.sharding.NamedSharding(mesh, matrix if x.ndim == 3 else jax.P()))

    return jax.tree.map(placed, state)


@pytest.fixture(scope="module")
def state() -> State:
    rng = np.random.default_rng(0)
    params = {"a": {"w": rng.standard_normal((1, 8, 16), np.float32)}, "scale": np.ones((1, 16), np.float32)}
    return State(params, optax.scale_by_adam().init(jax.tree.map(jax.numpy.asarray, params)))


def equal(one: State, other: State) -> bool:
    same = jax.tree.map(lambda a, b: np.array_equal(np.asarray(a), np.asarray(b)), one, other)
    return bool(jax.tree.all(same))


def shapes_of(state: State) -> State:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


@pytest.mark.mesh
def test_a_state_saved_on_one_mesh_is_the_same_on_another(state, tmp_path):
    there = on_mesh(state, fsdp=2, tensor=2)
    with closing(Checkpoints(tmp_path, ABOUT)) as checkpoints:
        checkpoints.save(8, on_mesh(state, data=4), on_mesh(state, data=4), {"segment": 1})
        found = checkpoints.restore(shapes_of(there))
    assert (found.done, found.position) == (8, {"segment": 1})
    assert equal(found.live, state)
    assert equal(found.trunk, state)
    assert jax.tree.map(lambda x: x.sharding, found.live) == jax.tree.map(lambda x: x.sharding, there)


@pytest.mark.mesh
def test_a_save_keeps_the_state_of_that_moment_even_if_it_is_donated_at_once(tmp_path):
    """As in the loop: the next step reuses the memory that is being written."""
    step = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)
    for mesh in ({"data": 1}, {"data": 4}):
        live = on_mesh(State({"w": np.zeros((1, 512, 512), np.float32)}, None), **mesh)
        with closing(Checkpoints(tmp_path / str(mesh), {})) as checkpoints:
            position = {"rows": []}
            for done in range(3):
                checkpoints.save(done, live, None, position)
                like = shapes_of(live)
                for _ in range(10):
                    live = step(live)
                position["rows"].append(done)
                found = checkpoints.restore(like)
                assert found.position == {"rows": list(range(done))}
                assert np.unique(found.live.params["w"]).tolist() == [10.0 * done]


def test_the_newest_two_the_best_and_the_last_stable_are_kept(state, tmp_path):
    live = on_mesh(state, data=1)
    with closing(Checkpoints(tmp_path, ABOUT)) as checkpoints:
        best, stable = {10: 3.0, 30: 2.0, 40: 2.5}, (10, 20)
        for done in (10, 20, 30, 40, 50, 60, 70):
            checkpoints.save(done, live, None, {}, best.get(done), done in stable)
        checkpoints.wait()
        assert checkpoints.numbers() == [20, 30, 60, 70]
        assert checkpoints.restore(shapes_of(live), stable=True).done == 20
        checkpoints.keep_newest()
        assert checkpoints.numbers() == [20, 30, 70]


@contextmanager
def unreadable(file: Path) -> Iterator[None]:
    """Makes opening the file fail, as on an unreachable file server, by a link to itself."""
    aside = file.rename(file.with_name("aside"))
    file.symlink_to(file)
    yield
    file.unlink()
    aside.rename(file)


@pytest.mark.parametrize("name", [manifest.FILE, "_METADATA"])
def test_an_unreadable_checkpoint_is_not_a_damaged_one(name, state, tmp_path):
    live = on_mesh(state, data=1)
    with closing(Checkpoints(tmp_path, ABOUT)) as checkpoints:
        checkpoints.save(8, live, None, {})
    with (
        unreadable(tmp_path / "8" / name),
        closing(Checkpoints(tmp_path, ABOUT)) as checkpoints,
        pytest.raises(OSError, match=f"rerun once it can be read.*{name}"),
    ):
        checkpoints.restore(shapes_of(live))
    with closing(Checkpoints(tmp_path, ABOUT)) as checkpoints:
        assert checkpoints.restore(shapes_of(live)).done == 8


def test_pruning_keeps_a_checkpoint_that_cannot_be_read(state, tmp_path):
    live = on_mesh(state, data=1)
    with closing(Checkpoints(tmp_path, ABOUT)) as checkpoints:
        checkpoints.save(8, live, None, {}, best=1.0)
        checkpoints.wait()
        with unreadable(tmp_path / "8" / manifest.FILE):
            for done in (16, 24, 32):
                checkpoints.save(done, live, None, {}, best=2.0)
            checkpoints.wait()
        checkpoints.keep_newest()
        assert checkpoints.numbers() == [8, 32]


def test_a_resumed_checkpoint_stays_until_its_replacement_is_complete(state, tmp_path):
    live = on_mesh(state, data=1)
    with closing(Checkpoints(tmp_path, ABOUT)) as checkpoints:
        checkpoints.save(8, live, None, {"segment": 0})
    with closing(Checkpoints(tmp_path, ABOUT)) as checkpoints:
        checkpoints.restore(shapes_of(live))
        # Leaves only a part, as a kill would.
        checkpoints.save(8, State({"w": np.array([open])}, None), None, {})
        with pytest.raises(ValueError, match="Unsupported data type"):
            checkpoints.wait()
    with closing(Checkpoints(tmp_path, ABOUT)) as checkpoints:
        assert checkpoints.restore(shapes_of(live)).position == {"segment": 0}
        checkpoints.save(8, live, None, {"segment": 1})
        checkpoints.save(8, live, None, {"segment": 2})
    with closing(Checkpoints(tmp_path, ABOUT)) as checkpoints:
        assert checkpoints.restore(shapes_of(live)).position == {"segment": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["8"]


def test_the_newer_of_two_checkpoints_with_equal_steps_is_restored(state, tmp_path):
    """A kill may come after it is complete, and before the other is removed."""
    live = on_mesh(state, data=1)
    for name, segment in (("other", 1), ("here", 0)):
        with closing(Checkpoints(tmp_path / name, ABOUT)) as checkpoints:
            checkpoints.save(8, live, None, {"segment": segment})
    shutil.copytree(tmp_path / "other" / "8", tmp_path / "here" / "8.1")
    with closing(Checkpoints(tmp_path / "here", ABOUT)) as checkpoints:
        assert checkpoints.restore(shapes_of(live)).position == {"segment": 1}
        checkpoints.keep_newest()
        assert checkpoints.restore(shapes_of(live)).position == {"segment": 1}
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["8"]


def test_a_checkpoint_of_another_run_is_refused_with_every_different_field(state, tmp_path):
    like = shapes_of(on_mesh(state, data=1))
    with closing(Checkpoints(tmp_path, ABOUT)) as checkpoints:
        checkpoints.save(8, on_mesh(state, data=1), None, {})
    other = {"model": replace(Model(), d_model=128, qk_norm=False), "tokenizer": {"hash": "abc", "vocab_size": 257}}
    with closing(Checkpoints(tmp_path, other)) as checkpoints, pytest.raises(InputError) as caught:
        checkpoints.restore(like)
    wrong = (
        "model.d_model is 128 in this run and 64 in the checkpoint",
        "model.qk_norm is False",
        "tokenizer.hash is 'abc'",
    )
    assert all(words in str(caught.value) for words in wrong), caught.value
    assert "vocab_size" not in str(caught.value)
    # Without `made_with`, other shapes are still refused.
    wide = State({**like.params, "scale": jax.ShapeDtypeStruct((1, 8), np.float32)}, None)
    with closing(Checkpoints(tmp_path)) as checkpoints, pytest.raises(InputError) as caught:
        checkpoints.restore(wide)
    assert "scale is 'float32[1, 8]' in this run and 'float32[1, 16]' in the checkpoint" in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to mount a small disk")
def test_a_disk_that_fills_up_during_a_save_is_an_os_error_and_the_previous_checkpoint_stays(state, tmp_path):
    """Enough bytes but too few files, so that only the writing thread fails."""
    live = on_mesh(state, data=1)
    mount = ["mount", "-t", "tmpfs", "-o", "size=100m,nr_inodes=40", "none", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        folder = tmp_path / "checkpoints"
        with closing(Checkpoints(folder, ABOUT)) as checkpoints:
            checkpoints.save(8, live, None, {})
        while os.statvfs(tmp_path).f_ffree > 4:
            (tmp_path / str(os.statvfs(tmp_path).f_ffree)).touch()
        with pytest.raises(OSError, match="No space left on device"), closing(Checkpoints(folder, ABOUT)) as full:
            full.save(16, live, None, {})
        with closing(Checkpoints(folder, ABOUT)) as checkpoints:
            assert checkpoints.restore(shapes_of(live)).done == 8
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
