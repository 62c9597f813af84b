"""Laws by name, and which of them are compared on a table.

A name is one of `LAWS`, with a suffix of `REPEATS` for repeated text, or `stack(NAME, NAME)` for a weighted mean.
"""

from __future__ import annotations

import numpy as np

from mixscale.errors import InputError, did_you_mean
from mixscale.laws.dataset import Dataset, build_dataset, scale_of, unique_known
from mixscale.laws.families import ALIASES, LAWS, REPEATS, Law
from mixscale.laws.gp import MAX_RUNS, Process
from mixscale.laws.stacking import Stack
from mixscale.run_table import RunTable


def get_law(name: str) -> Law:
    """The law of a name, for example `additive`, `additive-scale+repeats`, `gp` or `stack(additive, gp)`.

    Raises:
        InputError: there is no such law (the error gives the nearest name), or it cannot have that suffix.
    """
    if name.startswith("stack(") and name.endswith(")"):
        members = tuple(get_law(n.strip()) for n in name[6:-1].split(","))
        if len(members) < 2 or any(isinstance(m, Stack) for m in members):
            raise InputError(f"'{name}' is not a stack; give two laws or more, as in 'stack(power-additive, gp)'")
        if len({m.uses_scale for m in members}) > 1:
            raise InputError(f"'{name}' mixes laws with and without scale; choose one kind")
        return Stack(members)
    suffix = next((s for s in REPEATS if name.endswith(s)), "")
    bare = name.removesuffix(suffix)
    bare = ALIASES.get(bare, bare)
    if bare not in LAWS:
        raise InputError(f"law '{name}' is unknown{did_you_mean(bare, [*LAWS, *ALIASES, 'auto'])}")
    if not suffix:
        return LAWS[bare]
    forms = repeat_forms(LAWS[bare])
    if not forms:
        raise InputError(f"law '{bare}' has no form for repeated text; remove '{suffix}'")
    if suffix not in forms:
        others = " or ".join(f"'{bare}{s}'" for s in forms)
        raise InputError(f"law '{bare}' has no term A/N^alpha, which '{suffix}' needs; use {others}")
    return forms[suffix]


def repeat_forms(law: Law) -> dict[str, Law]:
    """The forms of a law for repeated text, by suffix; none for a law that is not a formula."""
    forms = {suffix: make(law) for suffix, make in REPEATS.items()} if isinstance(law, Law) else {}
    return {suffix: form for suffix, form in forms.items() if form is not None}


def describe_laws() -> str:
    """A line for every law with its formula and source; 'auto' compares those with a star."""
    lines = [f"{'*' if law.auto else ' '} {name:<22}{law.source}" for name, law in LAWS.items()]
    lines += [f"  {f'NAME{suffix}':<22}a law of that name for repeated text" for suffix in REPEATS]
    lines += [
        f"  {'stack(NAME, NAME)':<22}weighted mean of laws",
        "* compared by auto, which also compares their stack",
    ]
    return "\n".join(lines)


def check_runs(law: Law, dataset: Dataset) -> str | None:
    """Why a law cannot be fitted to these rows (too many parameters or runs), and the remedy; None if it can."""
    if isinstance(law, Stack):
        return next(filter(None, (check_runs(m, dataset) for m in law.members)), None)
    if isinstance(law, Process) and dataset.points.count > MAX_RUNS:
        return f"law '{law.name}' takes at most {MAX_RUNS} runs, and the table has {dataset.points.count}; drop some"
    needed = law.n_params(len(dataset.domains))
    if dataset.distinct >= needed:
        return None
    what = "mixtures at a size and token count" if law.uses_scale else "mixtures"
    return (
        f"fewer runs than parameters: law '{law.name}' has {needed} parameters for {len(dataset.domains)} domains, "
        f"and the table has {dataset.distinct} distinct {what}; add runs"
    )


def candidate_laws(rows: RunTable, name: str, targets) -> tuple[Dataset, list[Law], list[str]]:
    """The rows as arrays, the laws to compare (only the named one, or as `laws.fit` describes for 'auto'), and notes.

    Raises:
        InputError: there is no such law, or too few runs for any; as `build_dataset`.
    """
    if name != "auto":
        law = get_law(name)
        dataset = build_dataset(rows, law.uses_scale, targets, law.uses_mixture, law.uses_unique)
        if problem := check_runs(law, dataset):
            similar = [other for other in LAWS.values() if other.uses_scale == law.uses_scale and other.auto]
            smaller = [other.name for other in similar if check_runs(other, dataset) is None]
            raise InputError(problem + (f" or use {' or '.join(smaller)}" if smaller else ""))
        return dataset, list(getattr(law, "members", [law])), list(dataset.notes)
    sizes, tokens = scale_of(rows)
    uses_scale = min(sizes, tokens) > 0 and max(sizes, tokens) > 1
    varied = len(np.unique(np.round(rows.mixtures_RxK, 9), axis=0)) > 1
    # Without mixtures that differ, only a law of scale alone can be fitted.
    laws = [f for f in LAWS.values() if f.uses_scale == uses_scale and (f.auto if varied else not f.uses_mixture)]
    dataset = build_dataset(rows, uses_scale, targets, varied or not laws, unique_known(rows))
    if dataset.has_repeats:
        forms = [repeat_forms(law) for law in laws]
        laws += [form[suffix] for suffix in REPEATS for form in forms if suffix in form]
        laws.sort(key=lambda law: not isinstance(law, Law))  # formulas first
    problems = {law: check_runs(law, dataset) for law in laws}
    laws, skipped = [law for law in laws if not problems[law]], [p for p in problems.values() if p]
    if not laws:
        raise InputError(min(skipped, key=len))
    return dataset, laws, [*dataset.notes, *(f"not compared: {problem}" for problem in skipped)]
