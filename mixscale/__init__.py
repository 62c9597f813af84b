"""mixscale decides in what ratio to mix training data before the expensive run starts.

    from mixscale import RunTable, fit, predict, optimum, design

    fitted = fit(RunTable.read("runs.csv"))
    best = optimum(fitted, upper={"code": 0.4})
    predict(fitted, [best.mixture, {"web": 0.5, "code": 0.5}])
    design(fitted, runs=4)

Names are imported when they are first used, so that `import mixscale` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mixscale import figures as figures
    from mixscale import starting as starting
    from mixscale.api import design as design
    from mixscale.api import optimum as optimum
    from mixscale.api import predict as predict
    from mixscale.errors import InputError as InputError
    from mixscale.exporters import export as export
    from mixscale.laws import LawFit as LawFit
    from mixscale.laws import fit as fit
    from mixscale.mixture import Mixture as Mixture
    from mixscale.optimum import Constraints as Constraints
    from mixscale.optimum import Goal as Goal
    from mixscale.optimum import Group as Group
    from mixscale.optimum import Optimum as Optimum
    from mixscale.runs import RunTable as RunTable

__version__ = "0.1.0"

_HOMES = {
    "Constraints": "optimum",
    "Goal": "optimum",
    "Group": "optimum",
    "InputError": "errors",
    "LawFit": "laws",
    "Mixture": "mixture",
    "Optimum": "optimum",
    "RunTable": "runs",
    "export": "exporters",
    "fit": "laws",
    "predict": "api",
}
"""Module of each name."""
_ROOMS = ("design", "figures", "optimum", "starting")
"""Modules that are names of the interface themselves; `rooms` tells how two of them are called."""

__all__ = ["__version__", *_HOMES, *_ROOMS]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"mixscale.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(f"mixscale.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'mixscale' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
