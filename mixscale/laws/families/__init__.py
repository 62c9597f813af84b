"""The laws themselves: small pure JAX functions from parameters, mixture and scale to a loss.

A family says what its parameters are, where they may lie and what is plausible before any data; it knows nothing of
tables, fitting or intervals, which are written once for all of them. `law` says what a family is, `shapes` what they
share; `mixture`, `scale`, `mixing_laws` and `historical` hold them, and `repetition` widens them by repeats. A new
family is one function and one `register`.
"""

from mixscale.laws.families import historical, mixing_laws, mixture, scale  # noqa: F401 (they register their laws)
from mixscale.laws.families.law import ALIASES, LAWS, UNLIMITED, Block, Law, Points
from mixscale.laws.families.repetition import REPEATS, constrained, repeated
from mixscale.laws.families.shapes import SMALL

__all__ = ["ALIASES", "LAWS", "REPEATS", "SMALL", "UNLIMITED", "Block", "Law", "Points", "constrained", "repeated"]
