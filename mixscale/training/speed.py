"""How fast a run trains: tokens per second, the share of its devices' peak arithmetic (MFU), and traces of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import jax
import jax.numpy as jnp

# Dense bfloat16 FLOP/s per JAX device, from data sheets. The first name that is part of a device's kind counts.
PEAKS = {
    "B200": 2.25e15, "H200": 989.4e12, "GH200": 989.4e12, "H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989.4e12,
    "A100": 312e12, "L40S": 362e12, "L4": 121e12, "A10": 125e12,
    "TPU v6": 918e12, "TPU v5 lite": 197e12, "TPU v5e": 197e12, "TPU v5": 459e12, "TPU v4 lite": 138e12,
    "TPU v4": 275e12, "TPU v3": 61.5e12, "TPU v2": 22.5e12,
}  # fmt: skip
SKIPPED = 2  # dispatches before the first that is traced: they compile, and fill the device's queue


class Speed:
    """Speed between two readings.

    Args:
        flops_per_token: training FLOPs of the model, without recomputation.
        devices: those that train together.
        dtype: of the computation, in which the peak of a CPU is measured.

    Attributes:
        mfu: share of the devices' peak FLOP/s at the latest reading (Chowdhery et al., arXiv 2204.02311); None before
            the second reading, and if the peak is not known.
    """

    def __init__(self, flops_per_token: float, devices: Sequence[jax.Device], dtype: str):
        self._flops, self._peak = flops_per_token, peak_flops(devices, dtype)
        self._last: float | None = None
        self.mfu: float | None = None

    def read(self, tokens: int) -> dict[str, float]:
        """tokens_per_second, and mfu if it is known; nothing at the first reading, which includes compilation.

        `tokens` counts those that all runs together trained since the last reading.
        """
        now, last = time.perf_counter(), self._last
        self._last = now
        if last is None:
            return {}
        per_second = tokens / (now - last)
        if self._peak is None:
            return {"tokens_per_second": per_second}
        self.mfu = per_second * self._flops / self._peak
        return {"tokens_per_second": per_second, "mfu": self.mfu}


def peak_flops(devices: Sequence[jax.Device], dtype: str) -> float | None:
    """Peak FLOP/s of all `devices` together; None if their kind is not in PEAKS.

    For an accelerator, that of dense bfloat16 products whatever the dtype, as is usual; for a CPU, measured.
    """
    if devices[0].platform == "cpu":
        return _measured(dtype)  # all devices that XLA makes of a CPU share its cores
    kind = devices[0].device_kind
    return next((peak * len(devices) for name, peak in PEAKS.items() if name in kind), None)


@lru_cache
def _measured(dtype: str, size: int = 1024, times: int = 5) -> float:
    """FLOP/s of a product of square matrices on this process's cores, the best of several."""
    x = jnp.ones((size, size), dtype, device=jax.local_devices(backend="cpu")[0])
    product = jax.jit(jnp.matmul)
    product(x, x).block_until_ready()
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        product(x, x).block_until_ready()
        seconds.append(time.perf_counter() - began)
    return 2.0 * size**3 / min(seconds)


class Profile:
    """Traces dispatches SKIPPED to SKIPPED + `dispatches` of this process, for TensorBoard and Perfetto."""

    def __init__(self, directory: Path, dispatches: int):
        self._directory, self._first, self._last = directory, SKIPPED, SKIPPED + dispatches
        self._seen, self._tracing = 0, False

    def __enter__(self) -> Profile:
        return self

    def step(self) -> None:
        """Call after each dispatch, while the device works on it."""
        self._seen += 1
        if self._seen == self._first < self._last:
            jax.profiler.start_trace(self._directory, create_perfetto_trace=True)
            self._tracing = True
        elif self._seen == self._last:
            self._stop()

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._tracing:
            self._tracing = False
            jax.profiler.stop_trace()
