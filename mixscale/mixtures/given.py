"""Mixtures from a file: those that a fit asked for next, or the optimum of a smaller experiment."""

from __future__ import annotations

from mixscale.errors import InputError, listed
from mixscale.mixture import Mixture
from mixscale.mixture_file import read_mixtures


def given(path: str, domains: tuple[str, ...]) -> list[Mixture]:
    """The mixtures of a file over `domains`; none for an empty path.

    Args:
        path: a table with columns mix/DOMAIN (what `mixscale design --out` writes), or JSON of weights by domain or
            of an optimum (what `mixscale optimize` writes).

    Raises:
        InputError: it cannot be read, or names other domains.
    """
    if not path:
        return []
    rows = read_mixtures(path, "design.given")
    if strange := [domain for domain in rows[0] if domain not in domains]:
        raise InputError(f"design.given '{path}' names {listed(strange)}, but the domains are {listed(list(domains))}")
    return [Mixture.from_array(domains, row.array(domains)) for row in rows]
