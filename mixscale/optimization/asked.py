"""Groups of domains as they are written on a command line."""

from __future__ import annotations

from collections.abc import Sequence

from mixscale.constraints import Group
from mixscale.errors import InputError

TIED = "tied"


def groups(written: Sequence[str]) -> dict[str, Group]:
    """Groups from `NAME=DOMAIN+DOMAIN:LOW:HIGH`, from `NAME=DOMAIN+DOMAIN:tied` or from both, `...:LOW:HIGH:tied`.

    Raises:
        InputError: it is written otherwise, or a name comes twice.
    """
    found: dict[str, Group] = {}
    for text in written:
        name, equals, rest = text.partition("=")
        domains, *limits = rest.split(":")
        tied = limits[-1:] == [TIED]
        numbers = [_number(v) for v in (limits[:-1] if tied else limits)]
        if not (name and equals and domains) or None in numbers or len(numbers) not in ((0, 2) if tied else (2,)):
            raise InputError(
                f"group '{text}' cannot be read; write NAME=DOMAIN+DOMAIN:LOW:HIGH, for example "
                f"text=web+wiki:0.2:0.5, or NAME=DOMAIN+DOMAIN:{TIED}"
            )
        if name in found:
            raise InputError(f"group '{name}' is given twice")
        low, high = numbers or (0.0, 1.0)
        found[name] = Group(tuple(domains.split("+")), low or 0.0, 1.0 if high is None else high, tied)
    return found


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
