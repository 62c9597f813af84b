"""Optimizers as pure functions of arrays, with the learning rate and the weight decay of each call as arguments.

Each of `OPTIMIZERS` gives a direction, from Optax, and the scale of a step along it. `Update` adds clipping, decoupled
weight decay and the average of the weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers, scale_by_muon

from mixscale.config import Optimizer
from mixscale.registry import Registry

Pytree = Any

# Spectral norm of Muon's direction for a square matrix, 0.4·sqrt(64). At the width of 64, to which learning rates
# refer, entries then move by 0.4 of the rate, as under AdamW (Liu et al., arXiv 2502.16982, section 2.2). Of 0.8, 1.6
# and 3.2 it gave byte-level proxies, 64 and 128 wide, the lowest loss at the default rate of 0.01.
MUON_SCALE = 3.2


class Direction(NamedTuple):
    transformation: optax.GradientTransformation  # from gradients to directions
    # Factor on a parameter's step, from the parameter, its `lr_scale` and whether it is a hidden matrix.
    scale: Callable[[jax.Array, float, bool], float]


# Each takes the settings and a tree like the parameters that marks hidden matrices (..., in, out).
OPTIMIZERS: Registry[Callable[[Optimizer, Pytree], Direction]] = Registry("optimizer")


@OPTIMIZERS.register("adamw")
def adamw(settings: Optimizer, hidden: Pytree) -> Direction:
    """Adam (Kingma and Ba, arXiv 1412.6980); `Update` decays the weights."""
    return Direction(optax.scale_by_adam(b1=settings.b1, b2=settings.b2), lambda p, lr_scale, hidden: lr_scale)


@OPTIMIZERS.register("muon")
def muon(settings: Optimizer, hidden: Pytree) -> Direction:
    """Muon for the hidden matrices (Jordan, kellerjordan.github.io/posts/muon), Adam for everything else.

    With the factor sqrt(max(1, out/in)) an update moves the outputs alike at every width (Jordan's post; Yang et al.,
    arXiv 2310.17813), so `lr_scale` is not used.
    """

    def matrices(updates: Pytree) -> Pytree:
        return jax.tree.map(lambda _: MuonDimensionNumbers(-2, -1), updates)

    def scale(p: jax.Array, lr_scale: float, hidden: bool) -> float:
        return MUON_SCALE * max(1.0, p.shape[-1] / p.shape[-2]) ** 0.5 if hidden else lr_scale

    kinds = jax.tree.map(lambda is_hidden: "muon" if is_hidden else "adam", hidden)
    orthogonal = scale_by_muon(beta=settings.momentum, weight_dimension_numbers=matrices)
    return Direction(optax.partition({"muon": orthogonal, "adam": adamw(settings, hidden)[0]}, kinds), scale)


class OptState(NamedTuple):
    moments: Pytree  # of Optax
    step: jax.Array  # updates made, int32 ()
    average: Pytree  # of the weights, shaped like them; None without `ema`


class Update:
    """One optimizer for one shape of model; the learning rate and the weight decay in `optimizer` are not read.

    Trees like the parameters': `lr_scale`, a factor on the learning rate, and `decay`, whether it is a hidden matrix
    (..., in, out); only these decay.
    """

    def __init__(self, optimizer: Optimizer, lr_scale: Pytree, decay: Pytree):
        self._lr_scale, self._decay = lr_scale, decay
        self._ema, self._clip = optimizer.ema, optimizer.clip
        self._direction, self._scale = OPTIMIZERS[optimizer.name](optimizer, decay)

    def init(self, params: Pytree) -> OptState:
        # A copy, because the caller may donate parameters and state, and a buffer can be donated only once.
        average = jax.tree.map(lambda p: jnp.array(p, jnp.float32), params) if self._ema else None
        return OptState(self._direction.init(params), jnp.zeros((), jnp.int32), average)

    def apply(
        self, grads: Pytree, opt: OptState, params: Pytree, learning_rate: jax.Array, weight_decay: jax.Array
    ) -> tuple[Pytree, OptState, dict[str, jax.Array]]:
        """One update: p - learning_rate · (scale · direction + weight_decay · p), the second term on matrices only.

        The decay is decoupled (Loshchilov and Hutter, arXiv 1711.05101). Returns parameters, state, and the norms of
        the gradient before clipping and of the new parameters.
        """
        grad_norm = optax.tree.norm(grads)
        # One factor, where optax.clip_by_global_norm divides every entry: XLA stores the result of a division for its
        # three readers, and recomputes a product.
        shrunk = jnp.minimum(1.0, self._clip / grad_norm)
        direction, moments = self._direction.update(jax.tree.map(lambda g: g * shrunk, grads), opt.moments)

        def moved(p: jax.Array, u: jax.Array, lr_scale: float, decay: bool) -> jax.Array:
            return p - learning_rate * (self._scale(p, lr_scale, decay) * u + (weight_decay * p if decay else 0.0))

        params = jax.tree.map(moved, params, direction, self._lr_scale, self._decay)
        step = opt.step + 1
        # Of the new parameters: a norm of the old ones would cost a copy, since nothing orders it before the update.
        metrics = {"grad_norm": grad_norm, "param_norm": optax.tree.norm(params)}
        return params, OptState(moments, step, self._average(opt.average, params, step)), metrics

    def averaged(self, params: Pytree, opt: OptState) -> Pytree:
        """The weights to evaluate: their exponential average, or `params` without `ema`."""
        return opt.average if self._ema else params

    def placed(self, entries: Pytree, other: Any) -> OptState:
        """A tree like the state, of `entries` for what is shaped like the parameters, otherwise of `other`."""
        by_path = dict(jax.tree_util.tree_flatten_with_path(entries)[0])
        like = jax.eval_shape(self.init, jax.tree.map(lambda _: jax.ShapeDtypeStruct((1, 1), jnp.float32), entries))

        def entry(path: tuple[Any, ...], _: Any) -> Any:
            ends = (path[n:] for n in range(len(path) + 1))
            return next((by_path[end] for end in ends if end in by_path), other)

        return jax.tree_util.tree_map_with_path(entry, like)

    def _average(self, average: Pytree, params: Pytree, step: jax.Array) -> Pytree:
        """The average of the weights since the first update, each weighted `ema` times the next (debiased)."""
        if not self._ema:
            return None
        new = (1.0 - self._ema) / -jnp.expm1(step * math.log(self._ema))
        return jax.tree.map(lambda a, p: a + new * (p - a), average, params)
