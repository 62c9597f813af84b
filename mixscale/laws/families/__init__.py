"""The laws: small pure JAX functions from parameters, mixture and scale to a loss.

A family states its formula, parameters, bounds and priors. It knows nothing of tables, fitting or intervals. To add
a law, write one function with the decorator `register` in `mixture` or `scale`. `repetition` extends laws to repeats.
"""

from mixscale.laws.families import mixture, scale  # noqa: F401 (they register their laws)
from mixscale.laws.families.law import ALIASES, LAWS, UNLIMITED, Block, Law, Points, register
from mixscale.laws.families.repetition import REPEATS, constrained, repeated

__all__ = [
    "ALIASES", "LAWS", "REPEATS", "UNLIMITED", "Block", "Law", "Points", "constrained", "register", "repeated",
]  # fmt: skip
