"""The metrics of a run, read from its logs."""

from __future__ import annotations

import gzip
import json
import sys
import time
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from mixscale.config import Model, Optimizer, Train
from mixscale.errors import InputError
from mixscale.mixture import Mixture
from mixscale.mixtures.schedule import Constant
from mixscale.training.metrics import SKIPPED, WINDOW, MetricLog, Profile, Speed, Spikes, observers, peak_flops
from mixscale.training.run import Run

RUN = Run(Constant(Mixture({"web": 0.5, "code": 0.5})), "tiny", Model(), Optimizer(), Train(), seed=1, store="none")


def written(directory: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of the event files in `directory`, by tag; checksums of TFRecords are ignored."""
    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(directory.glob("events.*")):
        data, first = path.read_bytes(), 0
        while first < len(data):
            size = int.from_bytes(data[first : first + 8], "little")
            event = Event.FromString(data[first + 12 : first + 12 + size])
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
            first += size + 16
    return found


def metrics(loss: list[float], grad_norm: list[float] | None = None) -> dict[str, np.ndarray]:
    norm = np.ones(len(loss)) if grad_norm is None else np.array(grad_norm)
    return {"loss": np.array(loss, np.float32), "grad_norm": norm.astype(np.float32)}


def test_every_step_is_recorded_with_its_number(tmp_path):
    log = MetricLog(9.0, observers(RUN, tmp_path, 0, ""))
    log.record(metrics([4.0, 3.5, 3.0]), before=0)
    log.record(metrics([2.5]), before=3)
    log.write({"held_out/web": 2.0}, 4)
    log.close()
    found = written(tmp_path / "tensorboard")
    assert found["train/loss"] == [(1, 4.0), (2, 3.5), (3, 3.0), (4, 2.5)]
    assert found["held_out/web"] == [(4, 2.0)]


def test_the_steps_of_a_thinned_log_do_not_depend_on_dispatches(tmp_path):
    log = MetricLog(9.0, observers(RUN, tmp_path, 0, ""), every=3)
    for before, after in pairwise((0, 2, 3, 4, 9, 10)):
        log.record(metrics([float(s) for s in range(before + 1, after + 1)]), before)
    log.close()
    assert written(tmp_path / "tensorboard")["train/loss"] == [(3, 3.0), (6, 6.0), (9, 9.0)]


@pytest.mark.parametrize(
    ("loss", "norm"),
    [([2.0, 9.5, 2.0], [1, 1, 1]), ([2.0, np.nan, 9.9], [1, 1, 1]), ([2.0, 2.0, 2.0], [1, np.inf, 1])],
)
def test_the_first_step_that_diverges_is_kept(loss, norm):
    log = MetricLog(limit=9.0)
    assert log.record(metrics([2.0, 2.0]), before=0) == 2
    assert log.diverged_at is None
    assert log.record(metrics(loss, norm), before=2) == 1
    log.record(metrics([99.0]), before=5)
    assert log.diverged_at == 4


def falling(steps: int = 400) -> np.ndarray:
    """A loss that falls as a proxy's does, with the noise of its batches."""
    return 2.0 + 4.0 * np.arange(1, steps + 1) ** -0.5 + 0.05 * np.random.default_rng(0).standard_normal(steps)


def test_only_planted_spikes_are_counted():
    loss_S, spikes = falling(), Spikes()
    spikes.take(loss_S)
    assert spikes.count == 0
    loss_S[[150, 300, 301, 302, 380]] += [1.0, 0.8, 2.0, 0.9, 0.7]
    spikes, count_S = Spikes(), [0]
    for s in range(len(loss_S)):
        spikes.take(loss_S[s : s + 1])
        count_S.append(spikes.count)
    assert np.flatnonzero(np.diff(count_S)).tolist() == [150, 300, 380]


def test_the_count_of_spikes_does_not_depend_on_interruptions():
    """Through JSON, as a checkpoint keeps them; one cut is in the middle of a spike."""
    loss_S = falling()
    loss_S[[150, 300, 301, 302]] += 1.0
    whole, cut = Spikes(), Spikes()
    whole.take(loss_S)
    for before, after in pairwise((0, 1, 30, WINDOW, WINDOW + 1, 301, 301, 399, 400)):
        cut = Spikes(**json.loads(json.dumps(asdict(cut))))
        cut.take(loss_S[before:after])
    assert cut == whole
    assert whole.count == 2


def test_speed_is_measured_from_the_second_reading():
    speed = Speed(1e3, jax.devices()[:1], "float32")
    assert speed.read(1_000_000) == {}
    assert speed.mfu is None
    read = speed.read(5_000)
    assert read["mfu"] == speed.mfu
    assert read["mfu"] == pytest.approx(read["tokens_per_second"] * 1e3 / peak_flops(jax.devices()[:1], "float32"))


def test_the_peak_of_a_cpu_does_not_depend_on_its_number_of_devices():
    one, all_of_it = peak_flops(jax.devices()[:1], "float32"), peak_flops(jax.devices(), "float32")
    assert one == all_of_it
    # Faster than a core with one product per cycle, and slower than any CPU.
    assert 1e9 < one < 1e15


def test_the_dispatches_after_the_first_two_are_traced(tmp_path):
    def dispatch(x):
        return x @ x

    # Each dispatch has its own name, by which it is found in the trace.
    named = [partial(dispatch) for _ in range(SKIPPED + 5)]
    for number, function in enumerate(named):
        function.__name__ = f"number_{number}"
    with Profile(tmp_path, dispatches=3) as profile:
        for function in named:
            jax.jit(function)(jnp.ones((64, 64))).block_until_ready()
            profile.step()
    (trace,) = (gzip.decompress(path.read_bytes()) for path in tmp_path.rglob("perfetto_trace.json.gz"))
    traced = [n for n in range(len(named)) if f"(number_{n})".encode() in trace]
    assert traced == [SKIPPED, SKIPPED + 1, SKIPPED + 2]
    assert len(list(tmp_path.rglob("*.xplane.pb"))) == 1


def test_a_resumed_run_keeps_its_id_on_weights_and_biases(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for before in (0, 2):
        log = MetricLog(9.0, observers(RUN, tmp_path, before, "proxies"))
        log.record(metrics([4.0 - before, 3.5 - before]), before)
        log.close()
    kept = list((tmp_path / "wandb").glob(f"offline-run-*-{RUN.id}*/run-{RUN.id}.wandb"))
    assert len(kept) == 2
    # wandb's process writes the end of a file shortly after the run.
    patience = time.monotonic() + 60
    while any(b"train/loss" not in path.read_bytes() for path in kept) and time.monotonic() < patience:
        time.sleep(0.1)
    assert all(b"train/loss" in path.read_bytes() and b"proxies" in path.read_bytes() for path in kept)


def test_a_project_without_the_package_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match="'proxies'.*not installed"):
        observers(RUN, tmp_path, 0, "proxies")
