"""`Status` of a run's row, apart from `run_table.py` so that `mixscale status` does not load pandas."""

from enum import StrEnum


class Status(StrEnum):
    """State of a run when a row was measured; only a complete row needs every loss."""

    COMPLETE = "complete"
    DIVERGED = "diverged"
    STOPPED = "stopped"
    """ended early, by its owner or by a failure"""
