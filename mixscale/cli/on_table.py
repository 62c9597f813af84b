"""Commands on a table of runs, or on a fit; they never load the training half."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from mixscale.errors import InputError
from mixscale.io import atomic_write

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
    question: Literal["mixtures", "larger-n", "larger-d", "both"] = "mixtures",
    bootstrap: int = 200,
    diagnose: bool = False,
    seed: int = 0,
) -> None:
    """Fits a law to every target of a run table and saves it.

    For example:
      mixscale fit runs/quickstart --law auto --out runs/quickstart/fit

    Args:
        runs: a sweep's folder, a CSV or a Parquet file with columns run, mix/DOMAIN and loss/TARGET.
        out: folder to write the fit to.
        law: name of a law, stack(LAW, LAW) for a weighted mean of several, or auto to choose by cross-validation.
        target: columns to fit, for example loss/code or score/qa; all losses where none is given, or all metrics and
            scores where there are no losses.
        question: what the fit will be asked about: other mixtures, a larger N, a larger D, or a larger N of other
            mixtures (both). Runs that look like it are left out to choose the law and to size the intervals, so give
            larger-n where the optimum is wanted for a model larger than any in the table.
        resamples: refits that say how sure the fit is, at least 2; more make the intervals less random.
        diagnose: tell whether each fit is at rest and the best there is, which parameters are at a bound and which
            the data could not tell; all of it is written to diagnosis.csv in --out.
        seed: of starts, folds and resamples.
    """
    from mixscale import laws
    from mixscale.run_table import RunTable

    must_be(out, "folder")
    table = RunTable.read(runs)
    asked = {"question": question, "bootstrap": bootstrap, "seed": seed}
    fitted = laws.fit(table, law=law, targets=target or None, progress=True, **asked)
    fitted.save(out)
    print(fitted.summary())
    print(f"\nfit saved to {out}")
    if diagnose:
        found = fitted.diagnosis()
        found.table().to_csv(out / "diagnosis.csv", index=False)
        (out / "diagnosis.txt").write_text(found.summary() + "\n", encoding="utf-8")
        print(f"\n{found.summary()}\ndiagnosis saved to {out / 'diagnosis.csv'}")


def laws() -> None:
    """Lists the laws by name, with their formulas and sources; `auto` compares those marked with a star."""
    from mixscale.laws.selection import described

    print(described())


def predict(fit: Fit, mixtures: Mixtures, /, out: Path, level: float = 0.9) -> None:
    """Predicts the losses of a table of mixtures: columns pred/TARGET, lo/TARGET, hi/TARGET.

    For example:
      mixscale predict runs/quickstart/fit ask.csv --out predicted.csv

    Args:
        fit: folder written by `mixscale fit`.
        mixtures: CSV or Parquet with columns mix/DOMAIN (and n_params, n_tokens where the law uses them).
        out: CSV to write: the table and the predictions.
        level: share of runs that the interval should hold, of seeds that were fitted; a new seed adds its noise.
    """
    from mixscale.laws import LawFit
    from mixscale.run_table import read_frame

    must_be(out, "file")
    predicted = LawFit.load(fit).predict_table(read_frame(mixtures), level=level)
    with atomic_write(out) as file:
        predicted.to_csv(file, index=False)
    print(predicted.head(20).to_string(index=False))
    print(f"\n{len(predicted)} predictions saved to {out}")


def optimize(
    fit: Fit,
    /,
    weights: dict[str, float] = {},  # noqa: B006  (tyro reads it, nothing writes it)
    worst: bool = False,
    relative_to: Literal["current", "best"] | None = None,
    robust: Literal["point", "mean", "quantile", "worst"] = "point",
    level: float = 0.9,
    lower: dict[str, float] = {},  # noqa: B006
    upper: dict[str, float] = {},  # noqa: B006
    fixed: dict[str, float] = {},  # noqa: B006
    group: tuple[str, ...] = (),
    available: dict[str, float] = {},  # noqa: B006
    epochs: float = 4.0,
    current: tuple[str, ...] = (),
    keep: tuple[str, ...] = (),
    tolerance: float = 0.0,
    prior: tuple[str, ...] = (),
    max_kl: float | None = None,
    max_tv: float | None = None,
    kl_weight: float = 0.0,
    pareto: tuple[str, str] | None = None,
    points: int = 11,
    n_params: float | None = None,
    n_tokens: float | None = None,
    out: Path | None = None,
    seed: int = 0,
) -> None:
    """Solves for the mixture with the lowest weighted mean loss (a score counts negatively), prints and saves it.

    For example:
      mixscale optimize runs/quickstart/fit --upper wiki 0.3 --weights code 2 docs 1 --out another.json

    Args:
        fit: folder written by `mixscale fit`.
        weights: weight of each target, as in `--weights code 2 wiki 1`; those not named count nothing, and
            all count the same where none is named.
        worst: minimize the worst target in place of the weighted mean.
        relative_to: what the worst target is counted from: its loss at the current mixture, or its own best.
        robust: over the resamples of the law: the point fit alone, their mean, the mean of the worst of them
            (quantile: CVaR at --level), or the worst of them.
        level: of --robust quantile: 0.9 looks at the worst tenth.
        lower: least weight of a domain in the mixture, as in `--lower code 0.1`.
        upper: greatest weight of a domain in the mixture, as in `--upper code 0.5`.
        fixed: exact weight of a domain, as in `--fixed code 0.1`.
        group: bounds on a sum of weights, as in `--group text=web+wiki:0.2:0.5`; with `text=web+wiki:tied` they keep
            their proportions in the prior or the current mixture.
        available: unique tokens of a domain, as in `--available code 3e9 wiki 5e8`; needs --n-tokens. Domains not
            named are not capped, and have what they had in the table where the law counts repeats.
        epochs: how often available tokens may be read.
        current: the mixture in use, as in `--current web 0.5 code 0.5`, or a JSON or CSV file of it.
        keep: targets that must not be worse than at the current mixture, as in `--keep code wiki`.
        tolerance: how much worse these may be, in their own unit.
        prior: a mixture to stay near, written as --current is.
        max_kl: greatest divergence KL(mixture || prior), in nats.
        max_tv: greatest total variation distance from the prior, 0 to 1.
        kl_weight: loss added for each nat of divergence from the prior.
        pareto: two targets; also writes the front between them to pareto.csv beside the optimum.
        points: mixtures on that front.
        n_params: N to solve for, where the law uses it.
        n_tokens: D to solve for, where the law uses it or available tokens are given.
        out: file to write; optimum.json beside the fit where none is given.
        seed: of the starts.
    """
    from mixscale import optimization as room
    from mixscale.laws import LawFit
    from mixscale.mixture_file import as_mixture
    from mixscale.optimization import asked

    near = max_kl is not None or max_tv is not None or kl_weight or any(g.tied for g in asked.groups(group).values())
    _refuse_idle(
        ("--tolerance", tolerance != 0 and not keep, "--keep TARGET"),
        ("--epochs", epochs != 4 and not available, "--available DOMAIN TOKENS"),
        ("--level", level != 0.9 and robust != "quantile", "--robust quantile"),
        ("--points", points != 11 and not pareto, "--pareto TARGET TARGET"),
        ("--prior", prior and not near, "--max-kl, --max-tv, --kl-weight or a tied --group"),
    )
    fitted, path = LawFit.load(fit), out or fit.parent / "optimum.json"
    must_be(path, "file")
    constraints = room.Constraints(
        lower=lower, upper=upper, fixed=fixed, groups=asked.groups(group), available=available, epochs=epochs,
        keep=dict.fromkeys(keep, tolerance), prior=as_mixture(prior, "--prior"),
        max_kl=max_kl, max_tv=max_tv, kl_weight=kl_weight,
    )  # fmt: skip
    goal = room.Objective(weights or None, worst, relative_to, robust, level)
    given = {"n_params": n_params, "n_tokens": n_tokens, "current": as_mixture(current, "--current"), "seed": seed}
    solved = room.solve(fitted, goal=goal, constraints=constraints, **given)
    solved.save(path)
    print(solved.summary())
    print(f"\noptimum saved to {path}")
    # A front of other constraints must not stand beside this optimum.
    path.with_name("pareto.csv").unlink(missing_ok=True)
    if pareto:
        front = room.pareto(fitted, *pareto, constraints, points, **given)
        front.to_csv(path.with_name("pareto.csv"), index=False)
        print(f"\n{front.to_string(index=False, float_format=lambda v: f'{v:.4f}')}")
        print(f"\nfront between {pareto[0]} (first) and {pareto[1]} (second) saved to {path.with_name('pareto.csv')}")


def design(
    fit: Annotated[Positional[Path | None], arg(metavar="[FIT]")] = None,
    /,
    domains: str = "",
    runs: int = 8,
    budget_flops: float | None = None,
    sizes: tuple[float, ...] = (),
    tokens: tuple[float, ...] = (),
    candidates: Path | None = None,
    natural: tuple[str, ...] = (),
    weights: dict[str, float] = {},  # noqa: B006
    lower: dict[str, float] = {},  # noqa: B006
    upper: dict[str, float] = {},  # noqa: B006
    n_params: float | None = None,
    n_tokens: float | None = None,
    anywhere: bool = False,
    out: Path | None = None,
    seed: int = 0,
) -> None:
    """Chooses the mixtures to run: the first ones, from the names of domains, or the next ones, from a fit.

    Without a table, the runs after which all mixtures are predicted best:
      mixscale design --domains web,code,books --runs 12 --out mixtures.csv

    With a fit, the runs within a budget after which its optimum is least uncertain:
      mixscale design FIT --runs 8 --budget-flops 1e18 --sizes 1e7 1e8 --tokens 1e9 --n-params 1e9 --n-tokens 2e10

    The most informative run comes first. The column `uncertainty` is the share of the variance that remains after
    each run; with a fit, `standard_error` is that of the objective near the optimum. Start with about 3 (K + 1) runs
    of K domains.

    Args:
        fit: folder written by `mixscale fit`; leave it out before there is a table.
        domains: names separated by commas, if there is no fit.
        runs: most mixtures.
        budget_flops: most FLOPs of all runs together, 6 N D each.
        sizes: N that can be run; by default those of the table.
        tokens: D that can be run; by default those of the table.
        candidates: CSV or Parquet file with columns mix/DOMAIN to choose from; by default any mixture.
        natural: without a fit, a mixture around which the design spreads, as in `--natural web 0.7 code 0.3`, or a
            JSON or CSV file of it.
        weights: with a fit, weight of each target in the objective.
        lower: least weight of a domain, as in `--lower code 0.1`.
        upper: greatest weight of a domain, as in `--upper code 0.5`.
        n_params: N for which the optimum is wanted, if the law uses it.
        n_tokens: D for which the optimum is wanted, if the law uses it.
        anywhere: with a fit, also consider mixtures far from those that were run.
        out: CSV file to write the mixtures to.
        seed: of the candidates.
    """
    from mixscale import api
    from mixscale.laws import LawFit
    from mixscale.mixture_file import as_mixture
    from mixscale.run_table import read_frame

    scale = {"sizes": sizes, "tokens": tokens, "n_params": n_params, "n_tokens": n_tokens}
    for_fit = {"budget_flops": budget_flops, "weights": weights, "anywhere": anywhere, **scale}
    _refuse_idle(*((f"--{n.replace('_', '-')}", fit is None and v, "a fit") for n, v in for_fit.items()))
    names = [d.strip() for d in domains.split(",") if d.strip()]
    if fit is None and not (names or natural or candidates):
        raise InputError("`mixscale design` needs a fit, --domains such as web,code,books, or --candidates")
    if fit is not None and names:
        raise InputError("--domains has no effect with a fit; leave it out")
    if out is not None:
        must_be(out, "file")
    chosen = api.design(
        names if fit is None else LawFit.load(fit), runs, lower=lower, upper=upper, seed=seed,
        candidates=None if candidates is None else read_frame(candidates),
        natural=as_mixture(natural, "--natural"), **for_fit,
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
        told = f"After these runs {last[column]:.1%} of the prior variance of an unseen mixture's loss remains."
    else:
        told = (
            f"Standard error of the objective near the optimum: {chosen.attrs[column]:.3g} now, {last[column]:.3g} "
            f"after these runs ({last['reduction']:.0%} of the variance gone)."
        )
    cost = f"\nTotal cost: {chosen['flops'].sum():.3g} FLOPs." if "flops" in numbers else ""
    return f"{shown.rename(index=lambda i: i + 1).to_string()}\n\n{told}{cost}"


def export(
    optimum: Solved,
    /,
    to: Literal["maxtext", "levanter", "olmo-core", "olmix", "megatron", "nemo", "torchtitan", "hf", "yaml", "json"],
    paths: tuple[str, ...] = (),
    mean_tokens: dict[str, float] = {},  # noqa: B006
    epochs: float | None = None,
    out: Path | None = None,
) -> None:
    """Writes a mixture as another trainer reads it.

    For example:
      mixscale export optimum.json --to megatron --paths web=/data/web_text code=/data/code_text --out blend.txt

    Args:
        optimum: optimum.json, or a JSON or CSV file of a mixture.
        to: the trainer: MaxText (Grain mixture), Levanter (train_weights), OLMo-core and olmix (YAML), Megatron-LM and
            NeMo (blend of prefixes), TorchTitan and Hugging Face datasets (interleaved probabilities), or the plain
            weights.
        paths: where the domains lie, as the trainer takes it: `--paths web=gs://b/web/*.array_record code=...`; a
            domain may come several times where the trainer takes several paths.
        mean_tokens: mean tokens an example of each domain, for trainers that draw examples and not tokens (maxtext,
            torchtitan, hf), as in `--mean-tokens web 900 code 2400`.
        epochs: how often text may be read, for olmo-core and olmix, which refuse more.
        out: file to write; standard output where none is given.
    """
    from mixscale.interop.exporters import command

    if out is not None:
        must_be(out, "file")
    command.run(optimum, to, paths, mean_tokens, epochs, out)


def report(directory: Folder, /) -> None:
    """Writes figures, result.json and the page of a folder with runs, fit and optimum.

    For example:
      mixscale report runs/quickstart

    Args:
        directory: folder that holds runs.parquet or runs.csv, fit/ and optimum.json.
    """
    from mixscale import report as report_room

    print(f"page: {report_room.write(directory)}")


def _refuse_idle(*options: tuple[str, object, str]) -> None:
    """Refuses an option that was given without the one that it depends on."""
    for name, idle, beside in options:
        if idle:
            raise InputError(f"{name} has no effect without {beside}; give {beside} too, or leave {name} out")


def must_be(out: Path, kind: str) -> None:
    """Refuses, before any work is done, an output that cannot be written."""
    if out.exists() and out.is_dir() != (kind == "folder"):
        raise InputError(f"--out {out} is a {'folder' if out.is_dir() else 'file'}; give a {kind}")
