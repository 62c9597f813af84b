"""Commands on a table of runs, a fit or an optimum. Docstrings are help; none of them loads the training half."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, arg

from mixscale.constraints import Constraints
from mixscale.errors import InputError, listed
from mixscale.interop.exporters import EXPORTERS
from mixscale.io import DIAGNOSTICS_FILE, OPTIMUM_FILE, atomic_write, check_output, front_file
from mixscale.objective import Objective

Runs = Annotated[Positional[Path], arg(metavar="RUNS")]
Fit = Annotated[Positional[Path], arg(metavar="FIT")]
Mixtures = Annotated[Positional[Path], arg(metavar="MIXTURES")]
Solved = Annotated[Positional[Path], arg(metavar="OPTIMUM")]
Folder = Annotated[Positional[Path], arg(metavar="DIR")]


def fit(
    runs: Runs,
    /,
    out: Path,
    law: str = "auto",
    target: tuple[str, ...] = (),
    holdout: Literal["mixtures", "larger-n", "larger-d", "both"] = "mixtures",
    bootstrap: int = 200,
    diagnose: bool = False,
    seed: int = 0,
) -> None:
    """Fits a law to every target of a run table and saves the fit.

    For example:
      mixscale fit runs/quickstart --out runs/quickstart/fit

    Args:
        runs: a sweep's folder, or a CSV or Parquet file with columns run, mix/DOMAIN and loss/TARGET.
        out: folder for the fit.
        law: name of a law, stack(LAW, LAW) for a weighted mean of laws, or auto to choose by cross-validation;
            `mixscale laws` lists the names.
        target: columns to fit, such as loss/code; by default all losses, or else all metrics and scores.
        holdout: what you will predict: new mixtures, a larger N, a larger D, or new mixtures at a larger N (both);
            cross-validation holds out such runs to choose the law and to calibrate the intervals.
        bootstrap: bootstrap refits for the intervals, at least 2; with more, the intervals vary less.
        diagnose: report convergence, competing minima, and parameters that are unidentified or at a bound;
            also saved to diagnostics.csv in --out.
        seed: seed of optimizer starts, folds and bootstrap.
    """
    from mixscale import laws
    from mixscale.run_table import RunTable

    check_output(out, "folder")
    options = {"holdout": holdout, "bootstrap": bootstrap, "seed": seed}
    fitted = laws.fit(RunTable.read(runs), law=law, targets=target or None, progress=True, **options)
    fitted.save(out)
    print(f"{fitted.summary()}\n\nfit saved to {out}")
    if diagnose:
        found, file = fitted.diagnostics(), out / DIAGNOSTICS_FILE
        with atomic_write(file) as table, atomic_write(file.with_suffix(".txt")) as text:
            found.table().to_csv(table, index=False)
            text.write_text(found.summary() + "\n", encoding="utf-8")
        print(f"\n{found.summary()}\ndiagnostics saved to {file}")


def laws() -> None:
    """Lists the laws by name, with their formulas and sources; law `auto` compares those marked with a star.

    For example:
      mixscale laws
    """
    from mixscale.laws.catalogue import describe_laws

    print(describe_laws())


def predict(fit: Fit, mixtures: Mixtures, /, out: Path, level: float = 0.9) -> None:
    """Predicts the losses of a table of mixtures: columns pred/TARGET, lo/TARGET, hi/TARGET.

    A row that cannot be predicted stays empty, and a column note gives the reason.

    For example:
      mixscale predict runs/quickstart/fit mixtures.csv --out predicted.csv

    Args:
        fit: folder written by `mixscale fit`.
        mixtures: CSV or Parquet with columns mix/DOMAIN, and n_params and n_tokens if the law uses them.
        out: CSV to write: the table with the predictions.
        level: coverage of the intervals of the mean over fitted seeds, without the noise of a new seed.
    """
    from mixscale.laws import LawFit
    from mixscale.table_file import read_frame

    check_output(out, "file")
    fitted, frame = LawFit.load(fit), read_frame(mixtures)
    with warnings.catch_warnings(record=True, action="always", category=UserWarning) as caught:
        predicted = fitted.predict_table(frame, level=level)
    with atomic_write(out) as file:
        predicted.to_csv(file, index=False)
    print(f"{predicted.head(20).to_string(index=False, na_rep='')}\n\n{len(predicted)} rows saved to {out}")
    for warning in caught:
        if warning.category is UserWarning:
            print(f"warning: {warning.message}; column note of {out} has the reason of each", file=sys.stderr)


def optimize(
    fit: Fit,
    /,
    objective: OmitArgPrefixes[Objective] = Objective(),  # noqa: B008
    constraints: OmitArgPrefixes[Constraints] = Constraints(),  # noqa: B008
    current: dict[str, float] = {},  # noqa: B006  (tyro reads it, nothing writes it)
    pareto: tuple[str, str] | None = None,
    points: int = 11,
    n_params: float | None = None,
    n_tokens: float | None = None,
    out: Path | None = None,
    seed: int = 0,
) -> None:
    """Finds the mixture with the best predicted objective under constraints, and prints the cost of each constraint.

    For example:
      mixscale optimize runs/quickstart/fit --upper wiki 0.3 --weights code 2 docs 1 --out another.json

    Args:
        fit: folder written by `mixscale fit`.
        current: the mixture in use: `--current web 0.5 code 0.5`, or a JSON or CSV file.
        pareto: two targets; writes their Pareto front next to the optimum, to pareto.csv or, for --out NAME.json, to
            NAME.pareto.csv.
        points: number of mixtures on the Pareto front.
        n_params: N of the target run, if the law uses it.
        n_tokens: D of the target run, if the law uses it or available tokens are given.
        out: file to write; by default optimum.json, next to the fit.
        seed: seed of the optimizer starts.
    """
    from mixscale import optimization
    from mixscale.laws import LawFit

    if points != 11 and not pareto:
        raise InputError("--points has no effect without --pareto TARGET TARGET; give both, or leave out --points")
    fitted, path = LawFit.load(fit), out or fit.parent / OPTIMUM_FILE
    check_output(path, "file")
    scale = {"n_params": n_params, "n_tokens": n_tokens, "current": current or None, "seed": seed}
    solved = optimization.optimize(fitted, objective, constraints, **scale)
    solved.save(path)
    print(f"{solved.summary()}\n\noptimum saved to {path}")
    # The front of an earlier problem does not belong to this optimum.
    (file := front_file(path)).unlink(missing_ok=True)
    if pareto:
        front = optimization.pareto(fitted, *pareto, constraints, points, **scale)
        with atomic_write(file) as temporary:
            front.to_csv(temporary, index=False)
        print(f"\n{front.to_string(index=False, float_format=lambda v: f'{v:.4f}')}")
        print(f"\nPareto front of {pareto[0]} (first) and {pareto[1]} (second) saved to {file}")


def design(
    fit: Annotated[Positional[Path | None], arg(metavar="[FIT]")] = None,
    /,
    domains: str = "",
    runs: int = 8,
    budget_flops: float | None = None,
    sizes: tuple[float, ...] = (),
    tokens: tuple[float, ...] = (),
    candidates: Path | None = None,
    natural: dict[str, float] = {},  # noqa: B006
    weights: dict[str, float] = {},  # noqa: B006
    lower: dict[str, float] = {},  # noqa: B006
    upper: dict[str, float] = {},  # noqa: B006
    n_params: float | None = None,
    n_tokens: float | None = None,
    anywhere: bool = False,
    out: Path | None = None,
    seed: int = 0,
) -> None:
    """Chooses the first mixtures to run, given the names of the domains, or the next ones, given a fit.

    Without a fit, the runs from which all mixtures are predicted best:
      mixscale design --domains web,code,books --runs 12 --out mixtures.csv

    With a fit, the runs within a budget that reduce the uncertainty of its optimum most:
      mixscale design FIT --runs 8 --budget-flops 1e18 --sizes 1e7 1e8 --tokens 1e9 --n-params 1e9 --n-tokens 2e10

    The most informative run comes first. The column `uncertainty` is the share of variance that remains after each
    run; with a fit, `standard_error` is that of the objective near the optimum. Start with about 3 (K + 1) runs for
    K domains.

    Args:
        fit: folder written by `mixscale fit`; leave it out before there is a table.
        domains: names separated by commas, if there is no fit; a name with a comma in double quotes.
        runs: number of mixtures, at most.
        budget_flops: total FLOPs of all runs, at most; each has 6 N D.
        sizes: values of N to choose from; by default those of the table.
        tokens: values of D to choose from; by default those of the table.
        candidates: CSV or Parquet file with columns mix/DOMAIN to choose from; by default any mixture.
        natural: without a fit, the centre of the design: `--natural web 0.7 code 0.3`, or a JSON or CSV file.
        weights: with a fit, weight of each target in the objective.
        lower: minimum weight of a domain, as in `--lower code 0.1`.
        upper: maximum weight of a domain, as in `--upper code 0.5`.
        n_params: N of the target run, if the law uses it.
        n_tokens: D of the target run, if the law uses it.
        anywhere: with a fit, also consider mixtures far from those that were run.
        out: CSV file to write the mixtures to.
        seed: seed of the candidates.
    """
    from mixscale import api
    from mixscale.laws import LawFit
    from mixscale.mixture import split_names
    from mixscale.table_file import read_frame

    names = [name for name in split_names(domains, ",") if name]
    if fit is None and not (names or natural or candidates):
        raise InputError("`mixscale design` needs a fit, --domains such as web,code,books, or --candidates")
    if fit is not None and names:
        raise InputError("--domains has no effect with a fit; leave it out")
    if out is not None:
        check_output(out, "file")
    chosen = api.design(
        names if fit is None else LawFit.load(fit), runs, weights=weights, lower=lower, upper=upper, seed=seed,
        candidates=None if candidates is None else read_frame(candidates), natural=natural or None, sizes=sizes,
        tokens=tokens, budget_flops=budget_flops, n_params=n_params, n_tokens=n_tokens, anywhere=anywhere,
    )  # fmt: skip
    print(_described(chosen))
    if out is not None:
        with atomic_write(out) as file:
            chosen.to_csv(file, index=False)
        print(f"\n{len(chosen)} mixtures saved to {out}")


def _described(chosen) -> str:
    """The runs of a design, and the uncertainty before and after them."""
    weights = chosen[[c for c in chosen if c.startswith("mix/")]].rename(columns=lambda c: c.removeprefix("mix/"))
    if weights.shape[1] <= 12:
        shown = weights.map("{:.1%}".format)
    else:
        largest = [row[row > 5e-4].nlargest(5).items() for _, row in weights.iterrows()]
        shown = weights[[]].assign(**{"largest weights": [", ".join(f"{d} {w:.1%}" for d, w in r) for r in largest]})
    numbers = [c for c in ("n_params", "n_tokens", "flops") if c in chosen and chosen[c].notna().all()]
    [column] = {"standard_error", "uncertainty"} & set(chosen)
    shown = shown.assign(**{c: chosen[c].map("{:.3g}".format) for c in (*numbers, column)})
    last = chosen.iloc[-1]
    if column == "uncertainty":
        result = f"After these runs {last[column]:.1%} of the prior variance of an unseen mixture's loss remains."
    else:
        result = (
            f"Standard error of the objective near the optimum: {chosen.attrs[column]:.3g} now, {last[column]:.3g} "
            f"after these runs (the variance falls by {last['reduction']:.0%})."
        )
    cost = f"\nTotal cost: {chosen['flops'].sum():.3g} FLOPs." if "flops" in numbers else ""
    return f"{shown.rename(index=lambda i: i + 1).to_string()}\n\n{result}{cost}"


def export(
    optimum: Solved,
    /,
    to: Annotated[str, arg(metavar="|".join(EXPORTERS))],
    paths: tuple[str, ...] = (),
    mean_tokens: dict[str, float] = {},  # noqa: B006
    epochs: float | None = None,
    out: Path | None = None,
) -> None:
    """Writes a mixture in the format of another trainer.

    For example:
      mixscale export optimum.json --to megatron --paths web=/data/web_text code=/data/code_text --out blend.txt

    Args:
        optimum: optimum.json, or a JSON or CSV file of a mixture.
        to: MaxText (Grain mixture), Levanter (train_weights), OLMo-core and olmix (YAML),
            Megatron-LM and NeMo (blend of prefixes), TorchTitan and Hugging Face datasets (probabilities),
            or plain weights (json, yaml).
        paths: location of each domain: `--paths web=gs://b/web/*.array_record code=...`;
            repeat a domain that has several.
        mean_tokens: mean tokens per example of each domain: `--mean-tokens web 900 code 2400`;
            for trainers that draw examples (maxtext, torchtitan, hf).
        epochs: how often text may be repeated, for olmo-core and olmix.
        out: file to write; by default standard output.
    """
    from mixscale.interop.exporters import export, parse_paths
    from mixscale.mixture import RESOLUTION
    from mixscale.mixture_file import as_mixture

    if out is not None:
        check_output(out, "file")
    mixture, form = as_mixture(optimum, "mixture"), EXPORTERS[to]
    text = export(mixture, to, parse_paths(paths, mixture), mean_tokens or None, epochs)
    if tiny := [d for d, weight in mixture.items() if 0 < weight < RESOLUTION]:
        print(f"note: weights below {RESOLUTION:g} are exported as zero: {listed(tiny)}", file=sys.stderr)
    if not form.zeros and (unused := [d for d, weight in mixture.resolved().items() if weight == 0]):
        print(f"note: domains of weight zero are left out: {listed(unused)}", file=sys.stderr)
    if form.examples and not mean_tokens:
        print(
            f"note: the weights are shares of tokens, but {form.trainer} draws examples; if the examples of the "
            "domains differ in length, give --mean-tokens",
            file=sys.stderr,
        )
    if out is None:
        print(text, end="")
        return
    with atomic_write(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"mixture saved to {out}; {form.trainer} reads it as: {form.use.replace('FILE', str(out))}")


def report(directory: Folder, /) -> None:
    """Writes figures, result.json and the page of a folder with runs, fit and optimum.

    For example:
      mixscale report runs/quickstart

    Args:
        directory: folder that holds runs.parquet or runs.csv, fit/ and optimum.json.
    """
    from mixscale.report import write

    print(f"page: {write(directory)}")
