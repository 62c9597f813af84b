"""The report's figures. Each function returns a matplotlib figure; `draw_all` makes and saves them all."""

from __future__ import annotations

from pathlib import Path

from mixscale.report.figures import accuracy, answer, front, landscape, style
from mixscale.report.findings import Findings
from mixscale.report.material import Material

NAMES = ("optimum", "front", "verification", "predicted_observed", "slices", "interaction", "noise", "swarm")
"""Every figure, in the order of the page; each is saved as NAME.png and NAME.pdf."""


def draw_all(material: Material, found: Findings, folder: Path) -> dict[str, Path]:
    """Draw and save every figure there is data for; gives the PNG of each by name."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {
        "optimum": answer.optimum(material, found),
        "front": front.front(material, found),
        "verification": answer.verification(found),
        "predicted_observed": accuracy.predicted_observed(material, found),
        "slices": landscape.slices(material),
        "interaction": landscape.interaction(material),
        "noise": accuracy.noise(material, found),
        "swarm": answer.swarm(material),
    }
    for name in NAMES:
        if drawn[name] is None:  # one of an earlier report would be taken for this one's
            (folder / f"{name}.png").unlink(missing_ok=True)
            (folder / f"{name}.pdf").unlink(missing_ok=True)
    return {name: style.save(drawn[name], folder / name)[0] for name in NAMES if drawn[name] is not None}
