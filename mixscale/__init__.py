"""mixscale decides in what ratio to mix training data before the expensive run starts.

    from mixscale import RunTable, design, fit, optimize, predict

    fitted = fit(RunTable.read("runs.csv"))
    best = optimize(fitted, upper={"code": 0.4})
    predict(fitted, [best.mixture, {"web": 0.5, "code": 0.5}])
    design(fitted, runs=4)

Names are imported when they are first used, so that `import mixscale` is instant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mixscale import plots
    from mixscale.api import design, predict
    from mixscale.constraints import Constraints, Group
    from mixscale.errors import InputError
    from mixscale.interop.exporters import export
    from mixscale.laws import LawFit, fit
    from mixscale.mixture import Mixture
    from mixscale.mixtures import baselines
    from mixscale.objective import Objective
    from mixscale.optimization import Optimum, optimize
    from mixscale.run_table import RunTable

__version__ = "0.1.0"
__all__ = [
    "Constraints", "Group", "InputError", "LawFit", "Mixture", "Objective", "Optimum", "RunTable", "__version__",
    "baselines", "design", "export", "fit", "optimize", "plots", "predict",
]  # fmt: skip

_MODULE_OF = {
    "Constraints": "constraints", "Group": "constraints", "InputError": "errors", "LawFit": "laws",
    "Mixture": "mixture", "Objective": "objective", "Optimum": "optimization", "RunTable": "run_table",
    "design": "api", "export": "interop.exporters", "fit": "laws", "optimize": "optimization", "predict": "api",
}  # fmt: skip
_MODULES = {"baselines": "mixtures.baselines", "plots": "plots"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"mixscale.{_MODULES[name]}")
    if name in _MODULE_OF:
        return getattr(importlib.import_module(f"mixscale.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module 'mixscale' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
