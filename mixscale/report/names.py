"""What the compared mixtures are called: one short label for tables and figures, one phrase for sentences."""

from __future__ import annotations

LABELS = {
    "optimum": "optimum", "current": "current", "best": "best of the grid", "natural": "natural",
    "uniform": "uniform", "unconstrained": "unconstrained", "temperature": "temperature",
    "class-balanced": "class-balanced", "quality": "by quality", "relevance": "by relevance", "unimax": "UniMax",
    "given": "given",
}  # fmt: skip
PHRASES = {
    "optimum": "the optimum",
    "current": "the current mixture",
    "best": "the best mixture of the grid",
    "natural": "the natural mixture",
    "uniform": "the uniform mixture",
    "unconstrained": "the optimum without constraints",
    "temperature": "the tempered natural mixture",
    "class-balanced": "the class-balanced mixture",
    "quality": "the mixture by quality",
    "relevance": "the mixture by relevance",
    "unimax": "the UniMax mixture",
    "given": "the given mixture",
}


def label(name: str, swept: bool) -> str:
    """`best of the grid`, or `best of the table` where no sweep of ours made it."""
    return LABELS[name] if swept else LABELS[name].replace("grid", "table")


def phrase(name: str, swept: bool) -> str:
    """`the best mixture of the grid`, or `of the table` where no sweep of ours made it."""
    return PHRASES[name] if swept else PHRASES[name].replace("grid", "table")
