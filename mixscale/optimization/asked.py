"""Constraints and mixtures as they are written on a command line or in a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mixscale.constraints import Group
from mixscale.errors import InputError
from mixscale.mixture import Mixture
from mixscale.run_table import numeric, read_frame

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


def mixture(written: Sequence[str], what: str) -> Mixture | None:
    """A mixture from `DOMAIN WEIGHT DOMAIN WEIGHT ...`, or from one file; None where nothing is written.

    A file is JSON (weights by domain, or an optimum) or a table whose first row has columns mix/DOMAIN.

    Raises:
        InputError: it cannot be read, or is no mixture; the message begins with `what`.
    """
    if not written:
        return None
    try:
        if len(written) == 1:
            return _from_file(Path(written[0]))
        weights = [_number(v) for v in written[1::2]]
        if len(written) % 2 or None in weights:
            raise InputError(f"'{' '.join(written)}' cannot be read; write DOMAIN WEIGHT DOMAIN WEIGHT, or one file")
        return Mixture(dict(zip(written[::2], weights, strict=True)))  # type: ignore
    except InputError as error:
        raise InputError(f"{what}: {error}") from error


def _from_file(path: Path) -> Mixture:
    if not path.is_file():
        raise InputError(f"there is no file '{path}'; write DOMAIN WEIGHT DOMAIN WEIGHT, or a file")
    if path.suffix != ".json":
        frame = read_frame(path)
        names = [str(c) for c in frame.columns if str(c).startswith("mix/")]
        if not names or not len(frame):
            raise InputError(f"'{path}' has no {'row' if names else 'columns mix/DOMAIN'}, and its first row is taken")
        return Mixture.normalized({c.removeprefix("mix/"): float(numeric(frame[c]).iloc[0]) for c in names})
    try:
        about = json.loads(path.read_text())
        if not isinstance(about, dict):
            raise InputError(
                f'\'{path}\' holds no mixture; write weights by domain, such as {{"web": 0.7, "code": 0.3}}'
            )
        return Mixture({str(d): float(w) for d, w in about.get("mixture", about).items()})
    except InputError:
        raise
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"'{path}' holds no mixture: {error}") from error


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
