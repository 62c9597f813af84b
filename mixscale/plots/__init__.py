"""Every figure: for notebooks, for the report's page and for `analysis/figures.py`, in one print-ready style.

A function takes tables, fits or plain arrays and returns a figure that shows itself in a notebook; `save` writes one
as PDF and PNG. Knows nothing of the report.
"""

from mixscale.plots.accuracy import Points, agreement, noise, predicted_observed, spearman
from mixscale.plots.effects import interaction, interactions, proportion, scale_of, slices, ternary
from mixscale.plots.learning import learning, learning_curve, optimum_by_scale
from mixscale.plots.runs import parallel, ranks, swarm
from mixscale.plots.solution import front, verification, weights
from mixscale.plots.style import LABELS, WIDTH, Picture, save

__all__ = [
    "LABELS", "WIDTH", "Picture", "Points", "agreement", "front", "interaction", "interactions", "learning",
    "learning_curve", "noise", "optimum_by_scale", "parallel", "predicted_observed", "proportion", "ranks", "save",
    "scale_of", "slices", "spearman", "swarm", "ternary", "verification", "weights",
]  # fmt: skip
