"""`Registry`: choices by name (sources, exporters, laws, optimizers), each registered where it is defined."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, TypeVar

from mixscale.errors import InputError, did_you_mean

T = TypeVar("T")


class Registry(dict[str, T]):
    """Choices in the order in which they were registered; looking up an unknown name raises InputError.

    Args:
        what: the kind of choice in the singular, as errors name it: `law`, `exporter`.
    """

    def __init__(self, what: str):
        super().__init__()
        self._what = what

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that registers a choice under a name that is not taken."""

        def add(choice: T) -> T:
            if name in self:
                raise ValueError(f"{self._what} '{name}' is registered twice")
            self[name] = choice
            return choice

        return add

    def __missing__(self, name: str) -> NoReturn:
        raise InputError(f"there is no {self._what} '{name}'{did_you_mean(name, self)}")
