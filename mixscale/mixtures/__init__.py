"""Which mixtures to train: draws from the simplex, an optimal design before any table, and which runs come next."""

from mixscale.mixtures.following import next_runs
from mixscale.mixtures.mixtures import Drawn, draw
from mixscale.mixtures.optimal import optimal_design, optimal_subset

__all__ = ["Drawn", "draw", "next_runs", "optimal_design", "optimal_subset"]
