"""Rooms that can be called by their name, as `mixscale.optimum(fit)` calls `mixscale.api.optimum`.

The interface has functions of the same names as two of its rooms. A package attribute is one object, whichever is
imported first, so the room itself is made callable and stays a module: `mixscale.optimum.pareto` is what it was.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class CallableRoom(ModuleType):
    """A module that passes a call on to the function of its name in `mixscale.api`."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        from mixscale import api

        return getattr(api, self.__name__.rpartition(".")[2])(*args, **options)


def make_callable(name: str) -> None:
    """Lets the module `name`, which is being imported, be called."""
    sys.modules[name].__class__ = CallableRoom
