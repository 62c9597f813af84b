"""`Validated`: frozen dataclasses whose fields state what they accept; every instance is checked when it is made.

    @dataclass(frozen=True)
    class Train(Validated, section="train"):
        tokens: int = setting(500_000, least=1)

A wrong type, a value out of range and an unknown choice are errors that name the field as a config and the command
line write it (`train.tokens`). Fields of type float accept whole numbers and hold floats. Checks across fields belong
in the class's own `check`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from mixscale.errors import InputError, did_you_mean


def setting(
    default: Any = dataclasses.MISSING,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    factory: Any = dataclasses.MISSING,
) -> Any:
    """A field whose numbers (also those inside of a tuple or a dict) lie in a range.

    Args:
        least, above: lower end, itself allowed or not. most, below: upper end, itself allowed or not.
    """
    limits = {"least": least, "above": above, "most": most, "below": below}
    return dataclasses.field(default=default, default_factory=factory, metadata={"limits": limits})


class Validated:
    """Base of dataclasses that are checked when they are made; `section` is the dotted place in a config."""

    section: ClassVar[str] = ""

    def __init_subclass__(cls, section: str = "", **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.section = section or cls.section

    def __post_init__(self) -> None:
        for name, hint, limits in _fields(type(self)):
            value = getattr(self, name)
            where = f"{self.section}.{name}" if self.section else name
            checked = _typed(value, hint, where)
            if checked is not value:
                object.__setattr__(self, name, checked)
            if limits:
                _check_range(checked, limits, where)
        self.check()

    def check(self) -> None:
        """Checks across fields; raises InputError."""


@functools.cache
def _fields(cls: type) -> tuple[tuple[str, Any, dict[str, float | None]], ...]:
    hints = typing.get_type_hints(cls)
    return tuple((f.name, hints[f.name], f.metadata.get("limits", {})) for f in dataclasses.fields(cls))


NAMES = {int: "a whole number", float: "a number", str: "text", bool: "True or False", type(None): "None"}


def _typed(value: Any, hint: Any, where: str) -> Any:
    """The value as the hint has it: a float for a whole number where a float is wanted, tuples for lists."""
    found = _matched(value, hint)
    if found is not _NO_MATCH:
        return found
    if (choices := _choices(hint)) and isinstance(value, str):
        raise InputError(f"{where} is '{value}'; it must be one of {', '.join(choices)}{did_you_mean(value, choices)}")
    raise InputError(f"{where} is {value!r}, of type {type(value).__name__}; it must be {_described(hint)}")


_NO_MATCH = object()


def _matched(value: Any, hint: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if hint is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return (value if type(value) is float else float(value)) if number else _NO_MATCH
    if hint is int:
        return value if isinstance(value, int) and not isinstance(value, bool) else _NO_MATCH
    if origin is Literal:
        return value if value in arguments and not isinstance(value, bool) else _NO_MATCH
    if origin in (typing.Union, types.UnionType):
        exact = [a for a in arguments if type(value) is a]
        tries = (_matched(value, option) for option in [*exact, *arguments])
        return next((found for found in tries if found is not _NO_MATCH), _NO_MATCH)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return _NO_MATCH
        options = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        items = [_matched(v, h) for v, h in zip(value, options, strict=False)]
        return _NO_MATCH if len(value) != len(options) or _NO_MATCH in items else _kept(value, tuple(items))
    if origin is dict:
        if not isinstance(value, Mapping):
            return _NO_MATCH
        items = {k: _matched(v, arguments[1]) for k, v in value.items()}
        right = all(isinstance(k, str) for k in items) and not any(v is _NO_MATCH for v in items.values())
        return _kept(value, items) if right else _NO_MATCH
    return value if isinstance(value, origin or hint) else _NO_MATCH


def _kept(old: Any, new: Any) -> Any:
    """The old object where nothing had to be converted."""
    same = type(old) is type(new) and len(old) == len(new)
    pairs = zip(old.values(), new.values(), strict=True) if isinstance(new, dict) and same else ()
    pairs = zip(old, new, strict=True) if isinstance(new, tuple) and same else pairs
    return old if same and all(a is b for a, b in pairs) else new


def _choices(hint: Any) -> list[str]:
    if typing.get_origin(hint) is Literal:
        return [a for a in typing.get_args(hint) if isinstance(a, str)]
    return [c for a in typing.get_args(hint) for c in _choices(a)]


def _described(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_described(a) for a in arguments)
    if origin is tuple:
        return f"a tuple; each item must be {_described(arguments[0])}"
    if origin is dict:
        return f"a dict by name; each value must be {_described(arguments[1])}"
    return NAMES.get(hint) or f"{'an' if hint.__name__[0] in 'AEIOU' else 'a'} {hint.__name__}(...)"


def _check_range(value: Any, limits: dict[str, float | None], where: str) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_range(item, limits, f"{where} of '{key}'")
        return
    if isinstance(value, tuple):
        for item in value:
            _check_range(item, limits, where)
        return
    if isinstance(value, str | bool | None) or dataclasses.is_dataclass(value):
        return
    tests = {"least": "at least", "above": "above", "most": "at most", "below": "below"}
    keeps = {
        "least": lambda end: value >= end, "above": lambda end: value > end,
        "most": lambda end: value <= end, "below": lambda end: value < end,
    }  # fmt: skip
    ends = {name: end for name, end in limits.items() if end is not None}
    if math.isnan(value) or not all(keeps[name](end) for name, end in ends.items()):
        wanted = " and ".join(f"{tests[name]} {end:g}" for name, end in ends.items())
        raise InputError(f"{where} is {value:g}; it must be {wanted or 'a number'}")
