"""The proxy: a decoder-only transformer. It knows nothing of data, mixtures, tasks or meshes."""

from mixscale.models.kernels import Compute
from mixscale.models.transformer import Transformer, count_parameters, flops_per_token

__all__ = ["Compute", "Transformer", "count_parameters", "flops_per_token"]
