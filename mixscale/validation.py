"""`Validated`: frozen dataclasses whose fields state what they accept; every instance is checked when it is made.

    @dataclass(frozen=True)
    class Train(Validated, section="train"):
        tokens: int = setting(500_000, least=1)

An unknown field, a wrong type, a value out of range and an unknown choice are errors that name the field as a config
and the command line write it (`train.tokens`). Fields of type float accept whole numbers and hold floats. Checks
across fields belong in the class's own `check`.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import types
import typing
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple, Self

from mixscale.errors import InputError, did_you_mean

LIMITS = {
    "least": ("at least", operator.ge),
    "above": ("above", operator.gt),
    "most": ("at most", operator.le),
    "below": ("below", operator.lt),
}


def setting(
    default: Any = dataclasses.MISSING,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    factory: Any = dataclasses.MISSING,
) -> Any:
    """A field whose numbers (also those inside a tuple or a dict) lie in a range.

    Args:
        least, above: lower end, included or not. most, below: upper end, included or not.
    """
    ends = {"least": least, "above": above, "most": most, "below": below}
    limits = {name: end for name, end in ends.items() if end is not None}
    return dataclasses.field(default=default, default_factory=factory, metadata={"limits": limits})


class Validated:
    """Base of dataclasses that are checked when they are made; `section` is the dotted place in a config."""

    section: ClassVar[str] = ""

    def __init_subclass__(cls, section: str = "", **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.section = section or cls.section

    def __new__(cls, *values: Any, **named: Any) -> Self:
        if values or named:  # a copy is made without values and filled afterwards
            fields, what = _fields(cls), cls.section or cls.__name__
            if unknown := [name for name in named if name not in fields]:
                raise InputError(f"{what} has no field '{unknown[0]}'{did_you_mean(unknown[0], fields)}")
            later = list(fields.items())[len(values) :]
            if missing := [name for name, field in later if field.required and name not in named]:
                raise InputError(f"{what} needs a value for '{missing[0]}'")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for name, field in _fields(type(self)).items():
            value = getattr(self, name)
            checked = _typed(value, field.hint, field.where)
            if checked is not value:
                object.__setattr__(self, name, checked)
            if field.limits:
                _check_range(checked, field.limits, field.where)
        self.check()

    def check(self) -> None:
        """Checks across fields; raises InputError."""


class _Field(NamedTuple):
    hint: Any
    limits: dict[str, float]
    where: str
    required: bool


@functools.cache
def _fields(cls: type[Validated]) -> dict[str, _Field]:
    """The fields by name, in the order of the constructor's arguments."""
    hints, nothing = typing.get_type_hints(cls), dataclasses.MISSING
    return {
        f.name: _Field(
            hints[f.name],
            f.metadata.get("limits", {}),
            f"{cls.section}.{f.name}" if cls.section else f.name,
            f.default is nothing and f.default_factory is nothing,
        )
        for f in sorted(dataclasses.fields(cls), key=lambda f: f.kw_only)
    }


NAMES = {int: "a whole number", float: "a number", str: "text", bool: "True or False", type(None): "None"}


def _typed(value: Any, hint: Any, where: str) -> Any:
    """The value as the hint has it: a float for a whole number where a float is wanted, tuples for lists."""
    found = _matched(value, hint)
    if found is not _NO_MATCH:
        return found
    if (choices := _choices(hint)) and isinstance(value, str):
        raise InputError(f"{where} is '{value}'; it must be one of {', '.join(choices)}{did_you_mean(value, choices)}")
    _check_items(value, hint, where)
    shown = repr(value) if len(repr(value)) < 80 else f"{repr(value)[:76]} ..."
    raise InputError(f"{where} is {shown}, of type {type(value).__name__}; it must be {_described(hint)}")


def _check_items(value: Any, hint: Any, where: str) -> None:
    """Raises for the item of a dict or a tuple that has the wrong type, if there is one."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is dict and isinstance(value, Mapping):
        for key, item in value.items():
            _typed(item, arguments[1], f"{where} of '{key}'")
    elif origin is tuple and isinstance(value, list | tuple):
        for item in value:
            _typed(item, arguments[0], where)


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
        size = "" if arguments[-1] is Ellipsis else f" of {len(arguments)} items"
        return f"a tuple{size}; each item must be {_described(arguments[0])}"
    if origin is dict:
        return f"a dict by name; each value must be {_described(arguments[1])}"
    if hint not in NAMES and hint.__subclasses__():
        return " or ".join(map(_described, hint.__subclasses__()))
    return NAMES.get(hint) or f"{'an' if hint.__name__[0] in 'AEIOU' else 'a'} {hint.__name__}(...)"


def _check_range(value: Any, limits: dict[str, float], where: str) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_range(item, limits, f"{where} of '{key}'")
    elif isinstance(value, tuple):
        for item in value:
            _check_range(item, limits, where)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        wrong = [name for name, end in limits.items() if not LIMITS[name][1](value, end)]  # NaN is outside any range
        if wrong:
            wanted = " and ".join(f"{LIMITS[name][0]} {end:g}" for name, end in limits.items())
            raise InputError(f"{where} is {value}; it must be {wanted}")
