"""`Validated`: frozen dataclasses whose fields state what they accept; every instance is checked when it is made.

    @dataclass(frozen=True)
    class Train(Validated, section="train"):
        tokens: int = setting(500_000, least=1)

An unknown field, a wrong type, a value out of range and an unknown choice are errors that name the field as a config
and the command line write it (`train.tokens`). Fields of type float also accept whole numbers. Checks across fields
belong in the class's own `check`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
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
    finite: bool = True,
    factory: Any = dataclasses.MISSING,
) -> Any:
    """A field whose numbers, also those inside a tuple or a dict, lie in a range; it includes `least` and `most`.

    All numbers must be finite, also in fields without a range, unless `finite` is false.
    """
    limits = {"least": least, "above": above, "most": most, "below": below}
    limits = {name: end for name, end in limits.items() if end is not None}
    return dataclasses.field(default=default, default_factory=factory, metadata={"limits": limits, "finite": finite})


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
            checked = _converted(value, field.hint, field.where)
            if checked is not value:
                object.__setattr__(self, name, checked)
            _check_range(checked, field)
        self.check()

    def check(self) -> None:
        """Checks across fields; raises InputError."""


class _Field(NamedTuple):
    hint: Any
    limits: dict[str, float]
    finite: bool
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
            f.metadata.get("finite", True),
            f"{cls.section}.{f.name}" if cls.section else f.name,
            f.default is nothing and f.default_factory is nothing,
        )
        for f in sorted(dataclasses.fields(cls), key=lambda f: f.kw_only)
    }


NAMES = {int: "a whole number", float: "a number", str: "text", bool: "True or False", type(None): "None"}


def _converted(value: Any, hint: Any, where: str) -> Any:
    """The value in the type of the hint: a float for a whole number, a tuple for a list; else raises InputError."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if hint in (int, float):
        if isinstance(value, int if hint is int else int | float) and not isinstance(value, bool):
            return value if type(value) is hint else hint(value)
    elif origin is Literal:
        if value in arguments and not isinstance(value, bool):
            return value
    elif origin in (typing.Union, types.UnionType):
        for option in sorted(arguments, key=lambda a: type(value) is not a):
            with contextlib.suppress(InputError):
                return _converted(value, option, where)
    elif origin is tuple:
        if isinstance(value, list | tuple):
            hints = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
            if len(value) == len(hints):
                return tuple(_converted(v, h, where) for v, h in zip(value, hints, strict=True))
    elif origin is dict:
        if isinstance(value, Mapping) and all(isinstance(k, str) for k in value):
            return {k: _converted(v, arguments[1], f"{where} of '{k}'") for k, v in value.items()}
    elif isinstance(value, origin or hint):
        return value
    if (choices := _choices(hint)) and isinstance(value, str):
        raise InputError(f"{where} is '{value}'; it must be one of {', '.join(choices)}{did_you_mean(value, choices)}")
    shown = repr(value) if len(repr(value)) < 80 else f"{repr(value)[:76]} ..."
    raise InputError(f"{where} is {shown}, of type {type(value).__name__}; it must be {_described(hint)}")


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


def _check_range(value: Any, field: _Field, where: str = "") -> None:
    where = where or field.where
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_range(item, field, f"{where} of '{key}'")
    elif isinstance(value, tuple):
        for item in value:
            _check_range(item, field, where)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        # NaN is outside any range.
        if not all(LIMITS[name][1](value, end) for name, end in field.limits.items()):
            wanted = " and ".join(f"{LIMITS[name][0]} {end:g}" for name, end in field.limits.items())
            raise InputError(f"{where} is {value}; it must be {wanted}")
        if field.finite and not math.isfinite(value):
            raise InputError(f"{where} is {value}; it must be finite")
