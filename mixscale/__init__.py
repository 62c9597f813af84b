"""mixscale decides in what ratio to mix training data before the expensive run starts.

    from mixscale import RunTable, design, fit, optimize, predict

    fitted = fit(RunTable.read("runs.csv"))
    best = optimize(fitted, upper={"code": 0.4})
    predict(fitted, [best.mixture, {"web": 0.5, "code": 0.5}])
    design(fitted, runs=4)

Names are imported when they are first used, so that `import mixscale` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mixscale import plots as plots
    from mixscale.api import design as design
    from mixscale.api import predict as predict
    from mixscale.constraints import Constraints as Constraints
    from mixscale.constraints import Group as Group
    from mixscale.errors import InputError as InputError
    from mixscale.interop.exporters import export as export
    from mixscale.laws import LawFit as LawFit
    from mixscale.laws import fit as fit
    from mixscale.mixture import Mixture as Mixture
    from mixscale.mixtures import baselines as baselines
    from mixscale.objective import Objective as Objective
    from mixscale.optimization import Optimum as Optimum
    from mixscale.optimization import optimize as optimize
    from mixscale.run_table import RunTable as RunTable

__version__ = "0.1.0"

_MODULE_OF = {
    "Constraints": "constraints",
    "Group": "constraints",
    "InputError": "errors",
    "LawFit": "laws",
    "Mixture": "mixture",
    "Objective": "objective",
    "Optimum": "optimization",
    "RunTable": "run_table",
    "baselines": "mixtures",
    "design": "api",
    "export": "interop.exporters",
    "fit": "laws",
    "optimize": "optimization",
    "predict": "api",
}

__all__ = ["__version__", "plots", *_MODULE_OF]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name == "plots":
        return importlib.import_module("mixscale.plots")
    if name == "baselines":
        return importlib.import_module("mixscale.mixtures.baselines")
    if name in _MODULE_OF:
        return getattr(importlib.import_module(f"mixscale.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module 'mixscale' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
