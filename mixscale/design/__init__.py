"""Which mixtures to train: draws from the simplex around a prior, spread evenly, or at its corners."""

from mixscale.design.mixtures import Drawn, draw

__all__ = ["Drawn", "draw"]
