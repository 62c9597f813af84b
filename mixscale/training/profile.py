"""A trace of a few dispatches, for TensorBoard's profile tab (.xplane.pb) and Perfetto (perfetto_trace.json.gz)."""

from __future__ import annotations

from pathlib import Path

import jax

SKIPPED = 2
"""Dispatches before the first that is traced: they compile, and fill the device's queue."""


class Profile:
    """Traces dispatches SKIPPED to SKIPPED + `dispatches` of this process; nothing where that is none.

    Args:
        directory: of the trace.
        dispatches: how many are traced.
    """

    def __init__(self, directory: Path, dispatches: int):
        self._directory, self._first, self._last = directory, SKIPPED, SKIPPED + dispatches
        self._seen, self._tracing = 0, False

    def __enter__(self) -> Profile:
        return self

    def step(self) -> None:
        """After each dispatch has been handed over, while the device works on it."""
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
