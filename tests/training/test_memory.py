"""Memory of a sweep on the devices: the planned state, and the tokens once."""

from __future__ import annotations

import gc
from dataclasses import replace

import jax
import pytest

from mixscale.config import Machine, Mesh, Model
from mixscale.models import count_parameters
from mixscale.sweeps.plan import plan
from mixscale.sweeps.populations import run_bytes
from mixscale.sweeps.worker import work


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        ({"optimizer": {"ema": 0.9}}, 4),
        ({"train": {"measure_at": (32 * 8 * 20,)}}, 12),
        ({"train": {"measure_at": (32 * 8 * 20,)}, "optimizer": {"ema": 0.9}}, 20),
        ({"train": {"measure_at": (32 * 8 * 20,)}, "optimizer": {"schedule": "linear"}}, 0),
    ],
)
def test_planned_memory_includes_the_average_and_the_trunk(changes, more, small, store):
    run, machine = plan(small, store)[0].run, Machine(mesh=Mesh(data=1))
    changed = replace(run, **{name: replace(getattr(run, name), **values) for name, values in changes.items()})
    _, parameters = count_parameters(run.model, store.vocab_size)
    assert run_bytes(changed, machine, store) - run_bytes(run, machine, store) == more * parameters


def test_planned_memory_includes_a_sum_of_gradients(small, store):
    run, wide = plan(small, store)[0].run, Model(d_model=1024, layers=1, heads=2, kv_heads=1)
    run = replace(run, model=wide)
    saved = [run_bytes(run, Machine(mesh=Mesh(data=1), accumulate=parts), store) for parts in (2, 4)]
    _, parameters = count_parameters(wide, store.vocab_size)
    # The memory of a batch halves from two parts to four; in one part it is twice that of two.
    one = saved[0] + 2 * (saved[0] - saved[1]) - 4 * parameters
    assert run_bytes(run, Machine(mesh=Mesh(data=1)), store) == pytest.approx(one)


def test_a_sweep_of_several_shapes_holds_the_tokens_of_one(small, store, tmp_path):
    sizes = {**small.models, "wide": Model(d_model=32, layers=1, heads=2, kv_heads=1)}
    short = replace(small.train, tokens=32 * 8 * 12)
    experiment = replace(small, models=sizes, output=str(tmp_path), train=short)
    planned = {item.run.size: item for item in plan(experiment, store)}
    rows = sum(facts["train_rows"] for facts in store.facts.values()), store.context + 1
    gc.collect()
    held = [sum(x.shape == rows for x in jax.live_arrays())]

    def count(message: object) -> None:
        held.append(sum(x.shape == rows for x in jax.live_arrays()))

    assert len(planned) == 2
    work(experiment, store.path, planned.values(), count)
    assert max(held) == held[0] + 1
