"""What of a diagnosis a person should worry about, in sentences.

Parameters of a domain are counted, not listed, and targets too: a fit of many has few lines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mixscale.laws.diagnosis import Diagnosis, Finding

GAIN, BEHIND = 0.5, 1.0
"""Cost beyond which a fit is not at rest, and not the best; one half is one standard error."""
CONDITION = 1e13
"""Beyond it sums of squares in float64 no longer tell the parameters apart."""
OUTLIERS = 0.1
"""Share of the rows; normal errors give 0.007, more where few rows tell the noise."""
NOISE = 0.5
FEW = 3
"""So many names are listed."""
WELL = "nothing to worry about: the fit is at rest, no start ended lower, and the data tell every parameter"

_KINDS: dict[str, tuple[Callable[[Finding], bool], Callable[[Finding], str]]] = {
    "a start ends lower than the fit; fit again with another seed": (
        lambda f: f.behind > BEHIND,
        lambda f: f"lower by {f.behind:.2g} in log likelihood",
    ),
    "hardly a start ended where the fit is; another seed may find a better one": (
        lambda f: f.starts is not None and f.best is not None and f.best <= 1 < f.starts,
        lambda f: f"{f.best} of {f.starts}, in {f.basins} basins",
    ),
    "the fit is not at rest": (
        lambda f: f.to_gain > GAIN,
        lambda f: f"{f.to_gain:.2g} of log likelihood to gain",
    ),
    "parameters cannot be told apart": (
        lambda f: f.condition > CONDITION,
        lambda f: f"condition number {f.condition:.1e}",
    ),
    "many rows are outliers and count little": (
        lambda f: (f.outliers or 0) > OUTLIERS * f.rows,
        lambda f: f"{f.outliers} of {f.rows}",
    ),
    "most of what varies is noise": (
        lambda f: (f.noise or 0.0) > NOISE,
        lambda f: f"{f.noise:.0%}",
    ),
}


def told(diagnosis: Diagnosis) -> str:
    """One line a worry, or one that says there is none."""
    laws = tuple(dict.fromkeys(f.law for f in diagnosis.findings))
    lines = []
    for law in laws:
        findings = [f for f in diagnosis.findings if f.law == law]
        lead = f"{law}: " if len(laws) > 1 else ""
        lines += [lead + line for line in _lines(findings, len(diagnosis.domains))]
    return "\n".join(lines) or WELL


def _lines(findings: list[Finding], domains: int) -> Iterator[str]:
    for what, (fit_warnings, how) in _KINDS.items():
        found = [f for f in findings if fit_warnings(f)]
        if found:
            one = f"{found[0].target}: " if len(found) > 1 else ""
            yield f"{what} for {_targets([f.target for f in found], len(findings))} ({one}{how(found[0])})"
    for kind, what in (("pressed", "pressed against a bound by the data"), ("untold", "not told by the data")):
        for block in dict.fromkeys(n.split("/", 1)[0] for f in findings for n in getattr(f, kind)):
            yield _of_block(block, kind, what, findings, domains)


def _of_block(block: str, kind: str, what: str, findings: list[Finding], domains: int) -> str:
    """`gamma of 5 of 17 domains is not told by the data for target arxiv`."""
    count = Counter({f.target: sum(n.split("/", 1)[0] == block for n in getattr(f, kind)) for f in findings})
    targets = [t for t, n in count.items() if n]
    worst, most = count.most_common(1)[0]
    names = next(getattr(f, kind) for f in findings if f.target == worst)
    of = [n.split("/", 1)[1] for n in names if n.startswith(f"{block}/")]
    if not of:
        return f"{block} is {what} for {_targets(targets, len(findings))}"
    which = f"{block} of {' and '.join(of) if most <= FEW else f'{most} of {domains} domains'}"
    if len(targets) == 1:
        return f"{which} is {what} for target {worst}"
    return f"{block} of some domains is {what} for {_targets(targets, len(findings))}; for {worst}, {which}"


def _targets(names: list[str], all_targets: int) -> str:
    if len(names) == 1:
        return f"target {names[0]}"
    listed = f" ({', '.join(names)})" if len(names) <= FEW else ""
    return f"{len(names)} of {all_targets} targets{listed}" if len(names) < all_targets else "all targets"
