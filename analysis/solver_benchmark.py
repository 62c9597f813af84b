"""Compares mixscale's interior-point solver with SciPy's SLSQP, which gets the same exact gradients from JAX.

    python analysis/solver_benchmark.py DATA_DIR
    python analysis/solver_benchmark.py DATA_DIR --law power-additive --bootstrap 50

The law is fitted to RegMix's 512 runs (17 domains). Both solvers find the optimum of the fitted law and of every
bootstrap refit, under four sets of constraints. SLSQP starts where the interior-point method does, at the centre of
the mixtures that satisfy the linear constraints. Times are the second call's, so that nothing compiles.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import tyro
from benchmark.tables import regmix
from scipy import optimize as scipy_optimize

from mixscale.constraints import Constraint, Curved, Linear, TargetLimit
from mixscale.laws import fit
from mixscale.laws.families import Points
from mixscale.optimization import Constraints, Group, Problem, build_problem, optimize

TOLERANCE = 1e-6
"""Largest violation of a constraint that counts as none."""


@dataclass(frozen=True)
class Options:
    data: tyro.conf.Positional[Path]
    """folder that holds the folder regmix"""
    law: str = "power-additive"
    """law to fit; a convex one, so that one start is enough"""
    bootstrap: int = 200
    """bootstrap refits, whose optima are solved too"""


def main(options: Options) -> None:
    """Prints one row for each set of constraints."""
    fitted = fit(regmix(options.data, "train"), options.law, bootstrap=options.bootstrap, progress=True)
    natural = dict(zip(fitted.domains, fitted.dataset.points.h_RxK.mean(axis=0), strict=True))
    *_, first, second = fitted.domains
    cases = {
        "none": (Constraints(), None),
        "bounds and a group": (
            Constraints(upper={d: 0.2 for d in fitted.domains}, groups={"pair": Group((first, second), high=0.1)}),
            None,
        ),
        "KL divergence": (Constraints(prior=natural, max_kl=0.05), None),
        "all, and two kept targets": (
            Constraints(
                upper={d: 0.2 for d in fitted.domains}, prior=natural, max_kl=0.1,
                keep=dict.fromkeys(fitted.targets[:2], 0.05), groups={"pair": Group((first, second), high=0.1)},
            ),
            natural,
        ),
    }  # fmt: skip
    rows = [_row(fitted, name, *case) for name, case in cases.items()]
    print(f"\n{options.law}, 512 runs, 17 domains, {len(fitted.targets)} targets, {options.bootstrap} refits\n")
    print(pd.DataFrame(rows).set_index("constraints").T.to_string(float_format="{:.3g}".format))


def _row(fitted, name: str, constraints: Constraints, current: dict[str, float] | None) -> dict:
    problem = build_problem(fitted, None, constraints, current)
    optimize(fitted, constraints=constraints, current=current)
    began = time.perf_counter()
    ours = optimize(fitted, constraints=constraints, current=current)
    our_seconds = time.perf_counter() - began
    slsqp = Slsqp(problem)
    slsqp.solve(fitted.theta_TxP)
    began = time.perf_counter()
    point = slsqp.solve(fitted.theta_TxP)
    point_seconds = time.perf_counter() - began
    draws = [slsqp.solve(theta_TxP) for theta_TxP in fitted.theta_SxTxP]
    all_seconds = time.perf_counter() - began
    our_K, their_K = ours.mixture.array(), np.maximum(point.x, 0)
    value_2 = problem.values(fitted.theta_TxP[None], np.stack([our_K, their_K]))[0]
    broken = sum(not (d.success and slsqp.excess(np.maximum(d.x, 0)) <= TOLERANCE) for d in [point, *draws])
    return {
        "constraints": name,
        "interior point, all (s)": our_seconds,
        "SLSQP, all (s)": all_seconds,
        "SLSQP, fitted law alone (s)": point_seconds,
        "objective, interior point − SLSQP": value_2[0] - value_2[1],
        "largest violation, interior point": max(0.0, *problem.residuals(our_K).values(), 0.0),
        "SLSQP failures": f"{broken} of {1 + len(draws)}",
    }


class Slsqp:
    """SciPy's solver on a `Problem` with a mean objective; the constraint objects give residuals and derivatives."""

    def __init__(self, problem: Problem):
        self.problem, fit = problem, problem.fit
        value, unit_T = problem.objective.value, problem.unit_T
        n, d, unique_K = problem.points.n_R, problem.points.d_R, problem.points.u_RxK

        def costs(h_K, theta_TxP):
            points = Points(h_K[None], n, d, unique_K)
            return jax.vmap(lambda theta_P: fit.family.f(theta_P, points)[0])(theta_TxP) * unit_T + problem.offset_T

        self.costs = jax.jit(costs)
        self.value = jax.jit(jax.value_and_grad(lambda h_K, theta_TxP: value(costs(h_K, theta_TxP))))
        self.target = jax.jit(
            jax.value_and_grad(lambda h_K, theta_TxP, index: costs(h_K, theta_TxP)[index]), static_argnums=2
        )

    def solve(self, theta_TxP: np.ndarray) -> scipy_optimize.OptimizeResult:
        with jax.enable_x64(True):
            return scipy_optimize.minimize(
                lambda h_K: tuple(map(np.asarray, self.value(h_K, theta_TxP))), self.problem.polytope.centre_X,
                method="SLSQP", jac=True, bounds=[(0, 1)] * len(self.problem.fit.domains),
                constraints=[{"type": "eq", "fun": lambda h_K: h_K.sum() - 1, "jac": np.ones_like},
                             *map(self._constraint, self.problem.parts)],
                options={"ftol": 1e-12, "maxiter": 500},
            )  # fmt: skip

    def _constraint(self, c: Constraint) -> dict:
        if isinstance(c, Linear):
            kind = "eq" if c.equal else "ineq"
            return {"type": kind, "fun": lambda h_K: c.limit_J - c.rows_JxK @ h_K, "jac": lambda h_K: -c.rows_JxK}
        if isinstance(c, Curved):
            slope = jax.jit(jax.grad(lambda h_K: c.curve(h_K, c.parameter_K, jnp)))
            return {
                "type": "ineq",
                "fun": lambda h_K: -c.residual(np.maximum(h_K, 0)[None])[0],
                "jac": lambda h_K: -np.asarray(slope(np.maximum(h_K, 1e-12))),
            }
        assert isinstance(c, TargetLimit)
        theta_TxP = self.problem.fit.theta_TxP
        return {
            "type": "ineq",
            "fun": lambda h_K: c.limit - float(self.target(h_K, theta_TxP, c.index)[0]),
            "jac": lambda h_K: -np.asarray(self.target(h_K, theta_TxP, c.index)[1]),
        }

    def excess(self, h_K: np.ndarray) -> float:
        return max(0.0, *self.problem.residuals(h_K).values(), 0.0)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
