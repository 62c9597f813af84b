"""Every shape of mesh against one device, on eight forced host devices."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from mixscale.config import Mesh, Model, Optimizer
from mixscale.errors import InputError
from mixscale.models import Compute
from mixscale.training.mesh import make_layout
from mixscale.training.step import Program, StepInputs
from mixscale.training.tasks import LanguageModelling
from mixscale.training.trainer import abstract

pytestmark = pytest.mark.mesh
MODEL = Model(d_model=32, layers=2, heads=4, kv_heads=2)
ROWS, LENGTH, VOCAB, BATCH, STEPS = 64, 17, 50, 8, 20


def losses(mesh: Mesh, runs: int = 1, accumulate: int = 1, name: str = "adamw", **how) -> np.ndarray:
    """Training losses (R, S) of 20 steps; checks that the state is placed as the mesh requires."""
    layout = make_layout(mesh, MODEL, BATCH, accumulate, runs)
    optimizer = Optimizer(name=name, ema=0.9 if name == "muon" else 0.0)
    program = Program(
        LanguageModelling(), MODEL, VOCAB, optimizer, Compute(constrain=layout.constrain, **how), runs, accumulate
    )
    places = jax.tree.map(lambda x: x.sharding, abstract(program, layout, runs))
    rng = np.random.default_rng(0)
    tokens_NxT1 = rng.integers(0, VOCAB, (ROWS, LENGTH)).astype(np.uint16)
    inputs = StepInputs(
        layout.put(rng.integers(0, ROWS, (runs, STEPS, BATCH)).astype(np.int32), "run", None, "batch"),
        layout.put(np.full((runs, STEPS), 0.01, np.float32), "run", None),
        layout.put(np.full(runs, 0.1, np.float32), "run"),
        layout.put(np.full(runs, STEPS, np.int32), "run"),
    )
    state = jax.jit(program.init, out_shardings=places)(layout.put(np.arange(runs, dtype=np.uint32), "run"))
    tokens = layout.put(tokens_NxT1, None, None)
    step = jax.jit(program.steps, donate_argnums=0, out_shardings=(places, layout.placed()))
    with jax.transfer_guard("disallow"):
        state, metrics = step(state, tokens, inputs)
    largest = max(jax.tree.leaves(state.params), key=lambda x: x.size)
    shard = largest.addressable_shards[0].data.size
    over = mesh.run * mesh.fsdp * mesh.tensor if mesh.tensor * mesh.fsdp > 1 else mesh.run
    assert shard * over == largest.size
    return np.asarray(metrics["loss"])


@pytest.fixture(scope="module")
def one_device() -> np.ndarray:
    return losses(Mesh(data=1))


MESHES = [
    Mesh(data=8),
    Mesh(data=1, fsdp=8),
    Mesh(data=2, fsdp=2, tensor=2),
    pytest.param(Mesh(data=1, tensor=2), marks=pytest.mark.slow),
    pytest.param(Mesh(data=4, tensor=2), marks=pytest.mark.slow),
    pytest.param(Mesh(data=2, fsdp=4), marks=pytest.mark.slow),
    pytest.param(Mesh(data=1, fsdp=4, tensor=2), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("mesh", MESHES)
def test_a_mesh_gives_the_losses_of_one_device(mesh, one_device):
    np.testing.assert_allclose(losses(mesh), one_device, rtol=1e-5)


@pytest.mark.parametrize(
    "mesh",
    [
        Mesh(run=2, data=2, tensor=2),
        pytest.param(Mesh(run=4, data=2), marks=pytest.mark.slow),
        pytest.param(Mesh(run=2, data=1, fsdp=4), marks=pytest.mark.slow),
        pytest.param(Mesh(run=2, data=1, fsdp=2, tensor=2), marks=pytest.mark.slow),
    ],
)
def test_a_population_on_a_mesh_gives_the_losses_of_one_device(mesh):
    np.testing.assert_allclose(losses(mesh, runs=4), losses(Mesh(data=1), runs=4), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("how", [{"scan": True}, {"remat": True}, {"accumulate": 2}, {"loss_chunk": 4}])
def test_ways_to_compute_agree_up_to_rounding(how, one_device):
    np.testing.assert_allclose(losses(Mesh(data=2), **how), one_device, rtol=1e-5)


@pytest.mark.slow
def test_muon_and_an_average_are_sharded_like_the_weights():
    np.testing.assert_allclose(
        losses(Mesh(data=2, fsdp=2, tensor=2), name="muon"), losses(Mesh(data=1), name="muon"), rtol=1e-5
    )


def test_idle_devices_of_a_mesh_are_a_warning(caplog):
    make_layout(Mesh(data=2, fsdp=2), MODEL, BATCH, 1, 1)
    make_layout(Mesh(), MODEL, BATCH, 1, 1)
    assert [record.getMessage() for record in caplog.records] == [
        "mesh run=1 x data=2 x fsdp=2 x tensor=1 leaves 4 of 8 devices idle"
    ]


@pytest.mark.parametrize(
    ("mesh", "population", "accumulate", "words"),
    [
        (Mesh(data=3), 1, 1, ["data=3", "8 devices", "3 does not divide"]),
        (Mesh(data=2, tensor=3), 1, 1, ["8 devices", "6 does not divide"]),
        (Mesh(data=99), 1, 1, ["data=99", "99 devices", "there are 8"]),
        (Mesh(data=-1, fsdp=3), 1, 1, ["8 devices", "3 does not divide"]),
        (Mesh(data=-1, fsdp=-1), 1, 1, ["only one axis may be -1"]),
        (Mesh(data=0), 1, 1, ["data=0", "at least 1"]),
        (Mesh(data=1, tensor=4), 1, 1, ["kv_heads 2", "mesh.tensor=4"]),
        (Mesh(run=2, data=1), 3, 1, ["population of 3", "mesh.run=2"]),
        (Mesh(data=8), 1, 2, ["train.batch 8", "accumulate=2", "multiple of 16"]),
    ],
)
def test_a_mesh_that_does_not_fit_is_an_error_with_its_sizes(mesh, population, accumulate, words):
    with pytest.raises(InputError) as caught:
        make_layout(mesh, MODEL, BATCH, accumulate, population)
    assert all(word in str(caught.value) for word in words), caught.value
