"""Constraints as a reader says them, from the short names that solver, prices and errors use."""

from __future__ import annotations

from mixscale.optimization import Constraints
from mixscale.report.wording import amount, listed, number, percent


def in_words(name: str, said: str, bound: float, asked: Constraints) -> str:
    """`upper code` with bound 0.2 as `code at most 20%`.

    Args:
        name, said, bound: as a `Price` has them. asked: all that was asked for.
    """
    kind, _, of = name.partition(" ")
    match kind:
        case "lower":
            return f"{of} at least {percent(bound)}"
        case "upper":
            return f"{of} at most {percent(bound)}"
        case "fixed":
            return f"{of} exactly {percent(bound)}"
        case "group":
            return _group(of, bound, asked)
        case "tie":
            source = "prior" if asked.prior is not None else "current mixture"
            return f"{listed(asked.groups[of].domains)} in the proportions of the {source}"
        case "available":
            text = f"{asked.epochs_of(of):g} epochs of {amount(asked.available[of])} tokens"
            return f"{of} at most {percent(bound)} ({text})"
        case "keep":
            now = said.rsplit(" ", 1)[1]
            room = f"at most {number(bound, bound)} worse" if bound else "no worse"
            return f"{of} {room} than with the current mixture ({now})"
        case "max_kl":
            return f"at most {bound:g} nats of divergence from the prior"
        case "max_tv":
            return f"at most {percent(bound)} of the weight elsewhere than in the prior"
    return said


def hundredth(name: str) -> str:
    """What one hundredth of a constraint's unit is: of weight a point."""
    kind = name.partition(" ")[0]
    if kind == "tie":
        return "a point of weight moved between them"
    return {"keep": "0.01 more", "max_kl": "0.01 nats more"}.get(kind, "a point more")


def _group(of: str, bound: float, asked: Constraints) -> str:
    for name, group in asked.groups.items():
        for tail, words in ((" at least", "at least"), (" at most", "at most"), ("", "exactly")):
            if of == f"{name}{tail}":
                return f"{name} ({' + '.join(group.domains)}) {words} {percent(bound)}"
    return of
