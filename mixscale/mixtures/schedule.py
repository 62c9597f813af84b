"""Schedules: the mixture at each step of a run, `Constant` or `Staged`.

A schedule is frozen and hashable. It has the `mixture` of the whole run (the mean of its stages, weighted by tokens);
its `config` as JSON, which `training/run.py` hashes and which does not depend on the order of domains; the `spans` of
a run, as pairs of steps and mixture; and the `columns` that it adds to the run table. It knows nothing of samplers,
devices or files. A new kind has the same members and joins `Schedule`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from mixscale.config import Stage
from mixscale.errors import InputError
from mixscale.mixture import Mixture


@dataclass(frozen=True)
class Constant:
    """One mixture from the first step to the last."""

    mixture: Mixture

    @property
    def config(self) -> dict[str, Any]:
        return {"kind": "constant", "mixture": _sorted(self.mixture)}

    def spans(self, steps: int) -> tuple[tuple[int, Mixture], ...]:
        return ((steps, self.mixture),)

    def columns(self, domains: Sequence[str]) -> dict[str, float]:
        return {}


@dataclass(frozen=True)
class Staged:
    """One mixture after another.

    Args:
        stages: (share of the run's tokens, mixture) of each stage, in order. Shares are positive and sum to one.

    Raises:
        InputError: there is no stage, or the shares are not such.
    """

    stages: tuple[tuple[float, Mixture], ...]

    def __post_init__(self) -> None:
        shares = [share for share, _ in self.stages]
        if not all(share > 0 for share in shares) or abs(sum(shares) - 1.0) > 1e-6:
            raise InputError(
                f"a schedule has stages with shares {', '.join(f'{s:g}' for s in shares) or '(no stages)'}; "
                "give positive shares of the run's tokens that sum to 1"
            )

    @classmethod
    def of(cls, stages: Sequence[Stage]) -> Staged:
        """From the stages of a config."""
        return cls(tuple((stage.share, Mixture(stage.mixture)) for stage in stages))

    @cached_property
    def mixture(self) -> Mixture:
        names = {domain: None for _, mixture in self.stages for domain in mixture}
        return Mixture.normalized({d: sum(share * m.get(d, 0.0) for share, m in self.stages) for d in names})

    @property
    def config(self) -> dict[str, Any]:
        return {"kind": "staged", "stages": [[float(share), _sorted(mixture)] for share, mixture in self.stages]}

    def spans(self, steps: int) -> tuple[tuple[int, Mixture], ...]:
        """(number of steps, mixture) of each stage.

        Raises:
            InputError: a stage is shorter than one step.
        """
        ends = [0, *(round(float(share) * steps) for share in np.cumsum([share for share, _ in self.stages]))]
        lengths = [last - first for first, last in pairwise(ends)]
        for (share, _), length in zip(self.stages, lengths, strict=True):
            if length < 1:
                raise InputError(
                    f"a stage with {share:g} of the tokens is shorter than one step (the run has {steps}); "
                    "train on more tokens, or give the stage a larger share"
                )
        return tuple((length, mixture) for length, (_, mixture) in zip(lengths, self.stages, strict=True))

    def columns(self, domains: Sequence[str]) -> dict[str, float]:
        """`stage/<i>/share` and `stage/<i>/mix/<domain>`, counted from 0."""
        columns = {}
        for i, (share, mixture) in enumerate(self.stages):
            columns |= {f"stage/{i}/share": share} | {f"stage/{i}/mix/{d}": mixture.get(d, 0.0) for d in domains}
        return columns


Schedule = Constant | Staged


def _sorted(mixture: Mixture) -> dict[str, float]:
    return {domain: float(weight) for domain, weight in sorted(mixture.items())}
