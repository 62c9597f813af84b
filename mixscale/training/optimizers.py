"""AdamW and Muon as pure functions of arrays, with the learning rate and the weight decay of each call as arguments.

The directions come from Optax. What is added here is the step along them: the scale that every parameter brings with
it, the decoupled decay, and the average of the weights where one is asked for. Nothing here knows parameters by name.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers, scale_by_muon

from mixscale.config import Optimizer

Pytree = Any

MUON_SCALE = 3.2
"""Spectral norm of Muon's direction for a square matrix: 0.4·sqrt(64).

At the width of 64, to which learning rates refer, entries then move by 0.4 of the rate, as they do under AdamW (0.2 to
0.4; Liu et al., arXiv 2502.16982, section 2.2), so that one learning rate serves both. Of 0.8, 1.6 and 3.2 it
gave byte-level proxies, 64 and 128 wide, the smallest loss at the default rate of 0.01.
"""


class OptState(NamedTuple):
    """What an optimizer carries from step to step."""

    moments: Pytree
    """of Optax"""
    step: jax.Array
    """updates made, int32 ()"""
    average: Pytree
    """of the weights, shaped like them; None where none is asked for"""


class Update:
    """One optimizer for one shape of model.

    Args:
        optimizer: its settings; the learning rate and the weight decay in it are not read.
        lr_scale: factor on the learning rate of each parameter, a tree like the parameters'. Muon's matrices have
            their own: Muon's direction has a known spectral norm at every width, so that it needs none.
        decay: whether a parameter is a hidden matrix (..., in, out), which alone are decayed and go to Muon. Leading
            axes count matrices.
    """

    def __init__(self, optimizer: Optimizer, lr_scale: Pytree, decay: Pytree):
        self._lr_scale, self._decay = lr_scale, decay
        self._kept, self._clip = optimizer.ema, optimizer.clip
        self._muon = optimizer.name == "muon"
        adam = optax.scale_by_adam(b1=optimizer.b1, b2=optimizer.b2)
        self._direction = self._muon_and(adam, optimizer.momentum) if self._muon else adam

    def init(self, params: Pytree) -> OptState:
        """State before the first update."""
        # A copy, because the caller may donate parameters and state, and a buffer can be given away only once.
        average = jax.tree.map(lambda p: jnp.array(p, jnp.float32), params) if self._kept else None
        return OptState(self._direction.init(params), jnp.zeros((), jnp.int32), average)

    def apply(
        self, grads: Pytree, opt: OptState, params: Pytree, learning_rate: jax.Array, weight_decay: jax.Array
    ) -> tuple[Pytree, OptState, dict[str, jax.Array]]:
        """One update: p - learning_rate · (scale · direction + weight_decay · p), the second term on matrices only.

        Args:
            learning_rate: of this step, ().
            weight_decay: multiplied by the learning rate (decoupled; Loshchilov and Hutter, arXiv 1711.05101), ().

        Returns:
            Parameters, state, and the norms of the gradient before it was clipped and of the new parameters.
        """
        grad_norm = optax.tree.norm(grads)
        # One factor, where optax.clip_by_global_norm divides every entry: XLA keeps a division's result for its three
        # readers, and a product not.
        shrunk = jnp.minimum(1.0, self._clip / grad_norm)
        direction, moments = self._direction.update(jax.tree.map(lambda g: g * shrunk, grads), opt.moments)

        def moved(p: jax.Array, u: jax.Array, lr_scale: float, decay: bool) -> jax.Array:
            scale = _muon_scale(p) if decay and self._muon else lr_scale
            return p - learning_rate * (scale * u + (weight_decay * p if decay else 0.0))

        params = jax.tree.map(moved, params, direction, self._lr_scale, self._decay)
        step = opt.step + 1
        # Of the new ones: nothing orders a norm of the old before they are overwritten, and it would cost a copy.
        metrics = {"grad_norm": grad_norm, "param_norm": optax.tree.norm(params)}
        return params, OptState(moments, step, self._averaged_with(opt.average, params, step)), metrics

    def averaged(self, params: Pytree, opt: OptState) -> Pytree:
        """The weights to be evaluated: their exponential average, or `params` where none is kept."""
        return opt.average if self._kept else params

    def placed(self, entries: Pytree, other: Any) -> OptState:
        """A tree like the state, for instance of shardings: `entries` for what is shaped like the parameters.

        Args:
            entries: one entry a parameter, in a tree like the parameters'.
            other: for everything else.
        """
        by_path = dict(jax.tree_util.tree_flatten_with_path(entries)[0])
        like = jax.eval_shape(self.init, jax.tree.map(lambda _: jax.ShapeDtypeStruct((1, 1), jnp.float32), entries))

        def entry(path: tuple[Any, ...], _: Any) -> Any:
            ends = (path[n:] for n in range(len(path) + 1))
            return next((by_path[end] for end in ends if end in by_path), other)

        return jax.tree_util.tree_map_with_path(entry, like)

    def _muon_and(self, adam: optax.GradientTransformation, momentum: float) -> optax.GradientTransformation:
        """Muon for the hidden matrices (Jordan, kellerjordan.github.io/posts/muon), and `adam` for what is left."""
        kinds = jax.tree.map(lambda hidden: "muon" if hidden else "adam", self._decay)

        def matrices(updates: Pytree) -> Pytree:
            return jax.tree.map(lambda _: MuonDimensionNumbers(-2, -1), updates)

        muon = scale_by_muon(beta=momentum, weight_dimension_numbers=matrices)
        return optax.partition({"muon": muon, "adam": adam}, kinds)

    def _averaged_with(self, average: Pytree, params: Pytree, step: jax.Array) -> Pytree:
        """The average of all weights since the first update, each counting `ema` times the one after it.

        Divided by the sum of the weights, as Adam's moments are, so that a short run's average forgets where it began.
        """
        if not self._kept:
            return None
        new = (1.0 - self._kept) / -jnp.expm1(step * math.log(self._kept))
        return jax.tree.map(lambda a, p: a + new * (p - a), average, params)


def _muon_scale(matrix: jax.Array) -> float:
    """Factor on the orthogonal direction of a matrix (..., in, out).

    With sqrt(max(1, out/in)) an update moves the outputs alike at every width (Jordan's post; Yang et al., arXiv
    2310.17813), because widths grow in proportion.
    """
    fan_in, fan_out = matrix.shape[-2:]
    return MUON_SCALE * max(1.0, fan_out / fan_in) ** 0.5
