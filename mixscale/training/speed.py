"""How fast a run trains: tokens a second, and the share of the arithmetic that its devices could do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache

import jax
import jax.numpy as jnp

# Dense bfloat16 products without sparsity, FLOP/s a device as JAX counts devices; the makers' data sheets. The first
# name found in the device's kind counts, so the longer names come first.
PEAKS = {
    "B200": 2.25e15,
    "H200": 989.4e12,
    "GH200": 989.4e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989.4e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "TPU v6": 918e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v4 lite": 138e12,
    "TPU v4": 275e12,
    "TPU v3": 61.5e12,
    "TPU v2": 22.5e12,
}


class Speed:
    """Measures between one reading and the next.

    Args:
        flops_per_token: training FLOPs of the model, without those of recomputation.
        devices: that train together.
        dtype: of the computation; on a CPU the peak is that of products of this type.

    Attributes:
        mfu: share of the devices' peak at the latest reading (Chowdhery et al., arXiv 2204.02311); None before the
            second, and where the peak is not known.
    """

    def __init__(self, flops_per_token: float, devices: Sequence[jax.Device], dtype: str):
        self._flops = flops_per_token
        self._peak = peak_flops(devices, dtype)
        self._last: float | None = None
        self.mfu: float | None = None

    def read(self, tokens: int) -> dict[str, float]:
        """tokens_per_second, and mfu where it is known.

        Args:
            tokens: trained since the last reading, of all runs together. Nothing is said at the first reading, before
                which the program was compiled.
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
    """Most FLOP/s of all `devices` together; None where their kind is not in PEAKS.

    An accelerator's is that of dense bfloat16 products, whatever the dtype, as the field counts; a CPU's is measured.
    """
    if devices[0].platform == "cpu":
        # However many devices XLA is told to make of it, it is one CPU.
        return _measured(dtype)
    kind = devices[0].device_kind
    return next((peak * len(devices) for name, peak in PEAKS.items() if name in kind), None)


@lru_cache
def _measured(dtype: str, size: int = 1024, times: int = 5) -> float:
    """FLOP/s of a product of square matrices on this process's cores, the best of a few."""
    x = jnp.ones((size, size), dtype, device=jax.local_devices(backend="cpu")[0])
    product = jax.jit(jnp.matmul)
    product(x, x).block_until_ready()
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        product(x, x).block_until_ready()
        seconds.append(time.perf_counter() - began)
    return 2.0 * size**3 / min(seconds)
