"""A domain as a trainer sees it: its weight, and where its text or tokens lie.

Trainers count differently. Most draw a share of *tokens* or of rows of one length, which is what a mixture means; some
draw a share of *examples*, and where the documents of one domain are longer than those of another, that is another
mixture. `counted` turns the one into the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mixscale.errors import InputError, did_you_mean, listed
from mixscale.mixture import Mixture


@dataclass(frozen=True)
class Source:
    """A domain with a positive weight."""

    domain: str
    weight: float
    """share of the tokens, all summing to one"""
    paths: tuple[str, ...] = ()
    """files, globs or prefixes, as the trainer takes them"""

    def one_path(self, trainer: str) -> str:
        """Its path, for a trainer that takes one for each weight.

        Raises:
            InputError: it has none, or several.
        """
        if len(self.paths) != 1:
            has = f"has {len(self.paths)} paths" if self.paths else "has no path"
            raise InputError(
                f"domain '{self.domain}' {has}, and {trainer} takes one a weight; give --paths {self.domain}=PATH"
                + (" once, with a glob or a merged file in place of several" if self.paths else "")
            )
        return self.paths[0]


def sources(mixture: Mixture, paths: Mapping[str, str | Sequence[str]] | None = None) -> list[Source]:
    """The domains with a positive weight, in the mixture's order; trainers refuse a weight of zero or never end.

    Args:
        paths: a path, or several, of each domain that has any.

    Raises:
        InputError: a path is given for what is no domain of the mixture.
    """
    given = {d: (p,) if isinstance(p, str) else tuple(p) for d, p in (paths or {}).items()}
    for domain in given:
        if domain not in mixture:
            raise InputError(
                f"--paths names '{domain}', which is no domain of the mixture{did_you_mean(domain, mixture)}"
            )
    return [Source(d, w, given.get(d, ())) for d, w in mixture.items() if w > 0]


def counted(found: Sequence[Source], mean_tokens: Mapping[str, float]) -> list[Source]:
    """Weights that give the same shares of tokens where a trainer draws examples: `w_k / tokens_k`, normalized.

    Args:
        mean_tokens: mean tokens an example of each domain, in one unit for all of them.

    Raises:
        InputError: a domain has no length, or one that is not positive.
    """
    if lost := [s.domain for s in found if s.domain not in mean_tokens]:
        raise InputError(f"--mean-tokens lacks {listed(lost)}; give the mean tokens an example of every domain")
    for domain, tokens in mean_tokens.items():
        if not 0 < tokens < float("inf"):
            raise InputError(f"--mean-tokens of '{domain}' is {tokens:g}; an example has a positive number of tokens")
    shares = [s.weight / mean_tokens[s.domain] for s in found]
    return [replace(s, weight=share / sum(shares)) for s, share in zip(found, shares, strict=True)]
