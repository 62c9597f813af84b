"""The proxy: a decoder-only transformer that knows nothing of data, mixtures or meshes."""

from mixscale.models.compute import Compute
from mixscale.models.shape import count_parameters, flops_per_token
from mixscale.models.transformer import Transformer

__all__ = ["Compute", "Transformer", "count_parameters", "flops_per_token"]
