"""Parses the words of a command line: tyro makes the options from dataclasses and signatures.

This module adds mappings (`--upper code 0.3 wiki 0.2`, once or several times), mixtures from files, groups, and errors
of one sentence.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import io
import itertools
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from mixscale.config import Experiment, load
from mixscale.constraints import Group
from mixscale.errors import InputError
from mixscale.mixture import split_names

MIXTURES = ("current", "prior", "natural")  # options that are a mixture and may be a file
TOLERANCES = ("keep",)  # options in which a name without a number has the number 0
REGISTRY = ConstructorRegistry()


def call(command: Callable[..., Any], words: Sequence[str], prog: str) -> Any:
    """Calls a command with the arguments in `words`."""

    @functools.wraps(command)
    def bound(*values: Any, **named: Any) -> Callable[[], Any]:
        return functools.partial(command, *values, **named)

    hints = typing.get_type_hints(command)
    options: dict[str, tuple[Any, Any]] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        if dataclasses.is_dataclass(parameter.default):
            options |= _options(parameter.default)
        else:
            options[_option(name)] = hints[name], parameter.default
    return _parse(bound, _canonical(words, options), prog)()


def load_config(command: str, description: str, words: Sequence[str]) -> Experiment:
    """The experiment of the config that the first word names, with overrides."""
    if not words or words[0].startswith("-"):
        if words and words[0] in ("-h", "--help"):
            print(
                f"usage: mixscale {command} CONFIG [--FIELD VALUE ...]\n\n{description}\n\nFor example:\n\n"
                f"  mixscale {command} configs/quickstart.py --train.tokens 1000000\n\n"
                f"`mixscale {command} CONFIG --help` lists the fields of a config, with their values."
            )
            raise SystemExit(0)
        raise InputError(f"`mixscale {command}` needs a config first, for example configs/quickstart.py")
    config = load(words[0])
    canonical = _canonical(words[1:], _options(config))
    return _parse(Experiment, canonical, f"mixscale {command} {words[0]}", default=config, description=description)


def parse_groups(words: Sequence[str]) -> dict[str, Group]:
    """Groups from `NAME=DOMAIN+DOMAIN:LOW:HIGH`, `NAME=DOMAIN+DOMAIN:tied` or both, `...:LOW:HIGH:tied`.

    A domain whose name has a + is in double quotes.
    """
    found: dict[str, Group] = {}
    for text in words:
        match = re.fullmatch(r"([^=]+)=(.+?)(?::([^:]+):([^:]+))?(:tied)?", text)
        limits = [_number(limit) for limit in match.group(3, 4) if limit] if match else []
        domains = split_names(match[2], "+") if match else []
        if not domains or "" in domains or None in limits or not (limits or match[5]):
            raise InputError(
                f"group '{text}' cannot be read; write NAME=DOMAIN+DOMAIN:LOW:HIGH, for example "
                f"text=web+wiki:0.2:0.5, or NAME=DOMAIN+DOMAIN:tied, and a domain that has a + in its name in double "
                "quotes, as in 'code=\"C++\"+rust:0:0.3'"
            )
        low, high = typing.cast("tuple[float, float]", limits or (0.0, 1.0))
        group = Group(tuple(domains), low, high, tied=bool(match[5]))
        if found.setdefault(match[1], group) != group:
            raise InputError(f"group '{match[1]}' has two values; give one")
    return found


def _parse(target: Any, words: Sequence[str], prog: str, **options: Any) -> Any:
    """The words parsed by tyro, whose boxed errors become one sentence."""
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown):
            return tyro.cli(
                target, args=words, prog=prog, registry=REGISTRY, config=(tyro.conf.AvoidSubcommands,), **options
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        cause: BaseException | None = stop
        while cause := cause.__context__:
            if isinstance(cause, InputError):
                raise cause from None
        raise InputError(_sentence(shown.getvalue(), prog)) from None


def _sentence(box: str, prog: str) -> str:
    """The first paragraph of an error box and the option that it recommends, as one sentence."""
    rows = [line.strip("│╭╮╰╯ ") for line in box.splitlines()[1:]]
    first = list(itertools.takewhile(lambda row: row.strip("─"), rows))
    message = " ".join(first).rstrip(".")
    similar = [row.split()[0].rstrip(",") for row in rows[len(first) :] if row.startswith("--")]
    hint = f"; did you mean {similar[0]}?" if similar and message.startswith("Unrecognized") else ";"
    return f"{message[:1].lower()}{message[1:]}{hint} see `{prog} --help`"


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _options(config: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """The options of a dataclass, with type and default."""
    hints = typing.get_type_hints(type(config))
    found: dict[str, tuple[Any, Any]] = {}
    for field in dataclasses.fields(config):
        name, default = prefix + field.name, getattr(config, field.name)
        if dataclasses.is_dataclass(default):
            found |= _options(default, f"{name}.")
        else:
            found[_option(name)] = hints[field.name], default
    return found


def _item(hint: Any) -> Any:
    """Type of the values of a mapping; None for another type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return next((item for a in arguments if (item := _item(a)) is not None), None)
    return arguments[1] if origin is dict and arguments[1] in (float, str, Group) else None


def _canonical(words: Sequence[str], options: Mapping[str, tuple[Any, Any]]) -> list[str]:
    """The words with each option once, because tyro keeps only the last of a repeated option.

    Lists and mappings are merged; `--option.NAME VALUE` changes one value of a mapping. Raises InputError if another
    option has two values.
    """
    mappings = {o: about for o, about in options.items() if _item(about[0]) is not None}
    result: list[str] = []
    given: dict[str, list[str]] = {}
    changed: dict[str, list[str]] = {}
    others: dict[str, list[list[str]]] = {}
    values = result  # to which the next word belongs
    for word in words:
        if not word.startswith("--"):
            values.append(word)
            continue
        name, equals, value = word.partition("=")
        values = [value] * bool(equals)
        option = next((o for o in mappings if f"{_option(name[2:])}.".startswith(f"{o}.")), None)
        if option is None:
            others.setdefault(_option(name[2:]), []).append(values)
        else:
            key = name[len(option) + 1 :]
            values = (changed if key else given).setdefault(option, [])
            values += [key] * bool(key) + [value] * bool(equals)
    for option, several in others.items():
        hint = options.get(option, (None, None))[0]
        words, opposite = _once(option, several, hint), re.sub(r"(--|\.)([^.]+)$", r"\1no-\2", option)
        if {opposite, option.replace("--", "--no-", 1)} & {*others}:
            raise InputError(f"{option} and {opposite} contradict each other; give one")
        if hint is bool and words[:1] in (["True"], ["False"]):  # tyro's flags take no value
            option, words = option if words[0] == "True" else opposite, words[1:]
        result += [option, *words]
    for option in {**given, **changed}:
        hint, default = mappings[option]
        edits = changed.get(option, [])
        kept = default if edits and option not in given and isinstance(default, Mapping) else {}
        unchanged = [w for name, v in kept.items() if name not in edits[::2] for w in (name, str(v))]
        result += [option, *_pairs(option, [*unchanged, *given.get(option, []), *edits], hint)]
    return result


def _once(option: str, several: list[list[str]], hint: Any) -> list[str]:
    """The words after all occurrences of an option: a list's joined, another's if they agree."""
    kinds = [a for a in (hint, *typing.get_args(hint)) if typing.get_origin(a) in (tuple, list)]
    if any(Ellipsis in typing.get_args(a) or typing.get_origin(a) is list for a in kinds):
        return [word for words in several for word in words]
    longest = max(several, key=len)
    for words in several:
        if words != longest[: len(words)]:
            raise InputError(f"{option} is given as {' '.join(several[0])} and as {' '.join(words)}; give it once")
    return longest


def _pairs(option: str, words: list[str], hint: Any) -> list[str]:
    """The words of one mapping, each name once; raises InputError if a name has two values or none."""
    if _item(hint) is Group or not words or (hint == float | dict[str, float] and len(words) == 1):
        return words
    field = option.rpartition(".")[2].removeprefix("--")
    if field in TOLERANCES:
        names = [_number(word) is None for word in (*words, "end")]
        words = [w for i, word in enumerate(words) for w in ([word, "0"] if names[i] and names[i + 1] else [word])]
    if field in MIXTURES and len(words) == 1:
        return [w for domain, weight in _mixture(words, option).items() for w in (domain, repr(weight))]
    wrong = _item(hint) is float and any(_number(value) is None for value in words[1::2])
    if len(words) % 2 or wrong:
        file = ", or a file" if field in MIXTURES else ""
        raise InputError(f"{option} {' '.join(words)}: cannot be read; write NAME VALUE NAME VALUE{file}")
    found: dict[str, str] = {}
    for name, value in zip(words[::2], words[1::2], strict=True):
        if found.setdefault(name, value) != value:
            raise InputError(f"{option} gives '{name}' two values, {found[name]} and {value}; give one")
    words = [w for pair in found.items() for w in pair]
    if field in MIXTURES:
        _mixture(words, option)
    return words


def _mixture(words: list[str], option: str) -> Mapping[str, float]:
    from mixscale.mixture_file import as_mixture  # loads pandas, which few commands need

    return as_mixture(words, option) or {}


@REGISTRY.primitive_rule
def _mapping_rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    item = _item(info.type)
    if item is None:
        return None
    number = "NUMBER|" if float in typing.get_args(info.type)[:1] else ""

    def read(words: list[str]) -> Any:
        if not words and type(None) in typing.get_args(info.type):
            return None
        if item is Group:
            return parse_groups(words)
        if len(words) == 1:
            return float(words[0])
        return {name: item(value) for name, value in zip(words[::2], words[1::2], strict=True)}

    def write(value: Any) -> list[str]:
        if not isinstance(value, Mapping):
            return [] if value is None else [f"{value:g}"]
        if item is Group:
            quoted = {n: "+".join(f'"{d}"' if "+" in d else d for d in g.domains) for n, g in value.items()}
            return [f"{n}={quoted[n]}:{g.low:g}:{g.high:g}" + ":tied" * g.tied for n, g in value.items()]
        return [w for name, number in value.items() for w in (name, str(number))]

    return PrimitiveConstructorSpec(
        nargs="*",
        metavar="[NAME=DOMAIN+DOMAIN:LOW:HIGH ...]" if item is Group else f"{number}[NAME VALUE ...]",
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, Mapping | float | None),
        str_from_instance=write,
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
