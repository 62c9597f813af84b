"""The figures of the field, from a run table or a fit, in one print-ready style.

Each function returns a figure that shows itself in a notebook; `save` writes one as PDF and PNG. The report has
figures of its own, of one experiment and its answer; these are of the runs and the law. Reads tables and fits only.
"""

from mixscale.plots.answers import drift, learning, learning_curve
from mixscale.plots.canvas import Picture, save
from mixscale.plots.fitted import predicted_observed, proportion, scale_of
from mixscale.plots.swarm import parallel, ranks
from mixscale.plots.ternary import ternary

__all__ = [
    "Picture", "drift", "learning", "learning_curve", "parallel", "predicted_observed", "proportion", "ranks", "save",
    "scale_of", "ternary",
]  # fmt: skip
