"""The proxy: a decoder-only transformer that knows nothing of data, mixtures or meshes."""

from mixscale.model.transformer import Transformer, count_parameters, flops_per_token

__all__ = ["Transformer", "count_parameters", "flops_per_token"]
