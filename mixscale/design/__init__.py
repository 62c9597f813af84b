"""Which mixtures to train: draws from the simplex, an optimal design before any table, and which runs come next."""

from mixscale.design.following import next_runs
from mixscale.design.mixtures import Drawn, draw
from mixscale.design.optimal import optimal_design, optimal_subset
from mixscale.rooms import make_callable

__all__ = ["Drawn", "draw", "next_runs", "optimal_design", "optimal_subset"]

make_callable(__name__)
