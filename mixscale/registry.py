"""`Registry`: choices by name (launchers, sources, exporters, laws, optimizers), each registered where it is defined.

A misspelt name is answered with the nearest one. It knows nothing of what it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from mixscale.errors import InputError, did_you_mean

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """Choices by name, in the order in which they were registered.

    Args:
        what: the kind of choice in the singular, as errors name it: `law`, `exporter`.
    """

    def __init__(self, what: str):
        self._what = what
        self._choices: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that registers a choice; a name can be taken once."""

        def add(choice: T) -> T:
            if name in self._choices:
                raise ValueError(f"{self._what} '{name}' is registered twice")
            self._choices[name] = choice
            return choice

        return add

    def __getitem__(self, name: str) -> T:
        """The choice of that name.

        Raises:
            InputError: there is none; the nearest names are given.
        """
        if name not in self._choices:
            raise InputError(f"there is no {self._what} '{name}'{did_you_mean(name, self._choices)}")
        return self._choices[name]

    def __contains__(self, name: object) -> bool:
        return name in self._choices

    def __iter__(self) -> Iterator[str]:
        return iter(self._choices)

    def __len__(self) -> int:
        return len(self._choices)
