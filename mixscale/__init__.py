"""mixscale decides in what ratio to mix training data before the expensive run starts."""

__version__ = "0.1.0"
