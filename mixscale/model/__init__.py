"""The proxy: a decoder-only transformer that knows nothing of data, mixtures or meshes."""

from mixscale.model.compute import Compute
from mixscale.model.shape import count_parameters, flops_per_token
from mixscale.model.transformer import Transformer

__all__ = ["Compute", "Transformer", "count_parameters", "flops_per_token"]
