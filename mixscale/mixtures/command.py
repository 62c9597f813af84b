"""What `mixscale design` does: reads what it is given by name, asks for a design, and says what came out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mixscale.errors import InputError
from mixscale.laws.result import LawFit
from mixscale.mixture import Mixture
from mixscale.mixture_file import as_mixture, table_weights
from mixscale.mixtures.following import next_runs
from mixscale.mixtures.optimal import optimal_design, optimal_subset
from mixscale.run_table import read_frame

SHOWN = 12
"""Domains of which every weight is printed; of more only the largest weights."""


def first(domains: str, runs: int, natural, lower, upper, seed: int) -> pd.DataFrame:
    """The first runs over domains that are set apart by commas."""
    centre = as_mixture(natural, "--natural")
    names = tuple(d.strip() for d in domains.split(",") if d.strip()) or tuple(centre or ())
    if not names:
        raise InputError("`mixscale design` needs a fit, --domains such as web,code,books, or --candidates")
    return optimal_design(names, runs, centre, lower or None, upper or None, seed)


def first_of(candidates: Path, runs: int, seed: int) -> pd.DataFrame:
    """The first runs, chosen among the mixtures of a file."""
    frame = read_frame(candidates)
    h_NxK, domains = _mixtures(frame, None)
    chosen, left_R = optimal_subset(h_NxK, runs, seed=seed)
    return frame.iloc[chosen].reset_index(drop=True).assign(doubt=left_R)


def following(fit: Path, candidates: Path | None, **asked) -> pd.DataFrame:
    """The next runs, chosen among the mixtures of a file, or among all."""
    loaded = LawFit.load(fit)
    h_NxK = None if candidates is None else _mixtures(read_frame(candidates), loaded.domains)[0]
    return next_runs(loaded, candidates=h_NxK, **asked)


def refuse(given: dict[str, object], where: str) -> None:
    """Raises for an option that means nothing where it is used."""
    for name, value in given.items():
        if value:
            raise InputError(f"--{name.replace('_', '-')} means nothing {where}; leave it out")


def described(chosen: pd.DataFrame) -> str:
    """The runs as lines a person can read, and what is in doubt before and after them."""
    weights = chosen[[c for c in chosen if c.startswith("mix/")]].rename(columns=lambda c: c.removeprefix("mix/"))
    shown = weights.map("{:.1%}".format) if weights.shape[1] <= SHOWN else _largest(weights)
    for column in ("n_params", "n_tokens", "flops"):
        if column in chosen and chosen[column].notna().all():
            shown = shown.assign(**{column: chosen[column].map("{:.3g}".format)})
    shown = shown.assign(doubt=chosen["doubt"].map("{:.3g}".format))
    lines = [shown.rename(index=lambda i: i + 1).to_string()]
    if "reduction" in chosen:
        lines += [
            "",
            f"Which mixture is best is in doubt by {chosen.attrs['doubt']:.3g} in the objective; after these runs, by "
            f"{chosen['doubt'].iloc[-1]:.3g}: {chosen['reduction'].iloc[-1]:.0%} of the variance gone.",
        ]
        if chosen["flops"].notna().all():
            lines.append(f"Together they cost {chosen['flops'].sum():.3g} FLOPs.")
    else:
        left = chosen["doubt"].iloc[-1]
        lines += ["", f"After them, by the prior, {left:.1%} of the variance of an unseen mixture's loss is left."]
    return "\n".join(lines)


def _largest(weights: pd.DataFrame) -> pd.DataFrame:
    """The five largest weights of every mixture, in words."""
    tops = [row[row > 5e-4].nlargest(5).items() for _, row in weights.iterrows()]
    return pd.DataFrame({"largest weights": [", ".join(f"{d} {w:.1%}" for d, w in top) for top in tops]})


def _mixtures(frame: pd.DataFrame, domains: Sequence[str] | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Weights of a table's rows in the order of `domains`, or of its columns where none are needed."""
    weights = table_weights(frame, "--candidates", domains)
    names = tuple(weights)
    return np.stack([Mixture.from_array(names, h_K).array(names) for h_K in weights.to_numpy()]), names
