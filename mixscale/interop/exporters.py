"""A mixture as another trainer reads it: one function per format, registered in `EXPORTERS`.

Knows mixtures and paths only. Floats are written with the fewest digits that read back as the same number.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mixscale.errors import InputError, did_you_mean, listed
from mixscale.mixture import Mixture
from mixscale.registry import Registry


@dataclass(frozen=True)
class Source:
    """A domain as a trainer reads it."""

    domain: str
    weight: float  # share of the tokens, or of the examples for a trainer that draws examples
    paths: tuple[str, ...] = ()  # files, globs or prefixes, as the trainer takes them
    epochs: float = 1.0  # how often its text may be repeated


@dataclass(frozen=True)
class Exporter:
    """A format."""

    write: Callable[[list[Source]], str]  # makes the text of the file
    trainer: str
    use: str  # how to give FILE to the trainer
    needs_paths: bool = False  # whether every domain needs a path
    all_paths: bool = False  # whether every domain needs a path if one has any
    one_path: bool = False  # whether a domain has at most one path
    no_spaces: bool = False  # whether spaces separate paths
    repeats: bool = False  # whether the format limits how often text may be repeated
    examples: bool = False  # whether the trainer draws shares of examples instead of tokens
    zeros: bool = False  # whether it has domains of weight zero, which trainers reject or never finish with


EXPORTERS: Registry[Exporter] = Registry("export format")


def exporter(name: str, trainer: str, use: str, **traits: bool) -> Callable:
    """Decorator that registers a function as the `write` of an `Exporter`."""

    def register(write: Callable[[list[Source]], str]) -> Callable[[list[Source]], str]:
        EXPORTERS.register(name)(Exporter(write, trainer, use, **traits))
        return write

    return register


def export(
    mixture: Mixture,
    to: str,
    paths: Mapping[str, str | Sequence[str]] | None = None,
    mean_tokens: Mapping[str, float] | None = None,
    epochs: float | None = None,
) -> str:
    """The mixture as the text of a file that a trainer reads. Weights below `mixture.RESOLUTION` are exported as zero.

    Args:
        to: name of a format, a key of `EXPORTERS`.
        paths: of the text or tokens of each domain: one, or several if the trainer takes several.
        mean_tokens: mean tokens in an example of each domain, for trainers that draw examples: weights
            `w_k / tokens_k`, normalized, give the mixture's shares of tokens.
        epochs: how often text may be repeated, for formats with such a limit; 1 by default.

    Raises:
        InputError: the format does not exist or does not use an argument; a path is missing or names no domain.
    """
    form = EXPORTERS[to]
    if epochs is not None and not form.repeats:
        raise InputError(f"--epochs has no effect: {form.trainer} repeats text as the weights require; leave it out")
    if epochs is not None and not 1 <= epochs < float("inf"):
        raise InputError(f"--epochs is {epochs:g}; it must be at least 1 and finite")
    if mean_tokens and not form.examples:
        raise InputError(f"--mean-tokens has no effect: {form.trainer}'s weights count tokens; leave it out")
    given = {d: (p,) if isinstance(p, str) else tuple(p) for d, p in (paths or {}).items()}
    if unknown := [d for d in given if d not in mixture]:
        raise InputError(
            f"--paths names '{unknown[0]}', which is not a domain of the mixture{did_you_mean(unknown[0], mixture)}"
        )
    weights = {d: w for d, w in mixture.resolved().items() if w > 0 or form.zeros}
    if mean_tokens:
        weights = _shares_of_examples(weights, mean_tokens)
    sources = [Source(d, w, given.get(d, ()), epochs or 1.0) for d, w in weights.items()]
    _check_paths(form, sources)
    return form.write(sources)


def parse_paths(words: Sequence[str], domains: Collection[str]) -> dict[str, list[str]]:
    """Paths from `DOMAIN=PATH`, of which a domain may have several; InputError for a word of another form."""
    found: dict[str, list[str]] = {}
    for word in words:
        # A domain's name may have a = in it.
        known = max((d for d in domains if word.startswith(f"{d}=")), key=len, default=word.partition("=")[0])
        path = word[len(known) + 1 :]
        if not (known and path):
            raise InputError(f"path '{word}' cannot be read; write DOMAIN=PATH, for example web=/data/web/*.npy")
        found.setdefault(known, []).append(path)
    return found


def _check_paths(form: Exporter, sources: list[Source]) -> None:
    needed = form.needs_paths or (form.all_paths and any(s.paths for s in sources))
    for domain, paths in ((s.domain, s.paths) for s in sources):
        if needed and not paths:
            raise InputError(
                f"domain '{domain}' has no path, and {form.trainer} needs one; give --paths {domain}=PATH"
            )
        if form.one_path and len(paths) > 1:
            raise InputError(
                f"domain '{domain}' has {len(paths)} paths, and {form.trainer} takes one for each weight; give "
                f"--paths {domain}=PATH once, with a glob or a merged file"
            )
        if form.no_spaces and paths[0].split() != [paths[0]]:
            raise InputError(
                f"path '{paths[0]}' of domain '{domain}' has spaces, which separate {form.trainer}'s paths; rename it"
            )


def _shares_of_examples(weights: Mapping[str, float], mean_tokens: Mapping[str, float]) -> dict[str, float]:
    if missing := [d for d in weights if d not in mean_tokens]:
        raise InputError(f"--mean-tokens lacks {listed(missing)}; give the mean tokens of an example of every domain")
    for domain, tokens in mean_tokens.items():
        if not 0 < tokens < float("inf"):
            raise InputError(f"--mean-tokens of '{domain}' is {tokens:g}; it must be positive and finite")
    shares = {d: w / mean_tokens[d] for d, w in weights.items()}
    total = sum(shares.values())
    return {d: share / total for d, share in shares.items()}


# ------------------------------------------------------------------ the formats; each docstring names its source


@exporter("maxtext", "MaxText", "grain_train_mixture_config_path=FILE", needs_paths=True, one_path=True, examples=True)
def maxtext(sources: list[Source]) -> str:
    """JSON by domain of `path` (an ArrayRecord glob) and `weight`: MaxText, grain_train_mixture_config_path."""
    return _json({s.domain: {"path": s.paths[0], "weight": s.weight} for s in sources})


@exporter("levanter", "Levanter", "the section `data` of its config")
def levanter(sources: list[Source]) -> str:
    """YAML of `data.train_weights`, and of `data.components` with the URLs of the domains: Levanter's LmDataConfig."""
    components = {s.domain: {"source": {"type": "url", "train_urls": list(s.paths)}} for s in sources if s.paths}
    data = {"components": components} if components else {}
    return _yaml({"data": {**data, "train_weights": {s.domain: s.weight for s in sources}}})


@exporter("olmo-core", "OLMo-core", "SourceMixtureList, from its YAML", needs_paths=True, repeats=True)
def olmo_core(sources: list[Source]) -> str:
    """YAML of a SourceMixtureList: OLMo-core, olmo_core.data.source_mixture."""
    entries = [
        {"source_name": s.domain, "target_ratio": s.weight, "paths": list(s.paths), "max_repetition_ratio": s.epochs}
        for s in sources
    ]
    return _yaml({"sources": entries})


@exporter("olmix", "olmix", "the sections `data` and `mix` of a launch config", all_paths=True, repeats=True)
def olmix(sources: list[Source]) -> str:
    """YAML of `mix`, and of `data.sources` if there are paths: olmix's examples of launch configs.

    A topic, `dclm:games`, is nested in its source; its weight is its share of the source.
    """
    mix: dict[str, dict] = {}
    data: dict[str, dict] = {}
    groups: dict[str, list[Source]] = {}
    for source in sources:
        groups.setdefault(source.domain.partition(":")[0], []).append(source)
    for group, members in groups.items():
        total, alone = sum(s.weight for s in members), members[0]
        if alone.domain == group and len(members) == 1:
            mix[group] = {"weight": total, "repetition_factor": alone.epochs}
            data[group] = {"name": group, "paths": list(alone.paths)}
            continue
        if any(s.domain == group for s in members):
            raise InputError(f"domain '{group}' and its topics both have weights; olmix takes one or the other")
        topics = {s.domain.partition(":")[2]: s for s in members}
        shares = {t: {"weight": s.weight / total, "repetition_factor": s.epochs} for t, s in topics.items()}
        mix[group] = {"weight": total, **shares}
        data[group] = {"name": group, "topics": [{"name": t, "paths": list(s.paths)} for t, s in topics.items()]}
    given = {"data": {"sources": list(data.values())}} if any(s.paths for s in sources) else {}
    return _yaml(given | {"mix": mix})


BLEND = {"needs_paths": True, "one_path": True, "no_spaces": True}


@exporter("megatron", "Megatron-LM", "--data-args-path FILE", **BLEND)
def megatron(sources: list[Source]) -> str:
    """Alternating weights and dataset prefixes: Megatron-LM's --data-args-path (get_blend_from_list)."""
    return "\n".join(f"{s.weight!r} {s.paths[0]}" for s in sources) + "\n"


@exporter("nemo", "NeMo", "PreTrainingDataModule(paths=...)", **BLEND)
def nemo(sources: list[Source]) -> str:
    """YAML of `paths`, alternating weights and dataset prefixes: NeMo 2.0, guide to migrating the data config."""
    return _yaml({"paths": [part for s in sources for part in (s.weight, s.paths[0])]})


@exporter("torchtitan", "TorchTitan", "an HFDataSource for each of `sources`", one_path=True, examples=True)
def torchtitan(sources: list[Source]) -> str:
    """JSON of `sources` with the fields of HFDataSource: TorchTitan, docs/datasets.md, interleaved dataloaders."""
    paths = [{"dataset_path": s.paths[0]} if s.paths else {} for s in sources]
    entries = zip(sources, paths, strict=True)
    return _json({"sources": [{"dataset": s.domain, **p, "weight": s.weight, "infinite": True} for s, p in entries]})


@exporter("hf", "datasets", "interleave_datasets([...], **interleave)", examples=True)
def hf(sources: list[Source]) -> str:
    """JSON of the domains in order, their paths, and the arguments of `interleave_datasets`: Hugging Face datasets."""
    data_files = {s.domain: list(s.paths) for s in sources if s.paths}
    return _json({
        "domains": [s.domain for s in sources],
        **({"data_files": data_files} if data_files else {}),
        "interleave": {"probabilities": [s.weight for s in sources], "stopping_strategy": "all_exhausted"},
    })  # fmt: skip


@exporter("json", "mixscale", "`--current FILE` or `--prior FILE` of mixscale optimize", zeros=True)
def as_json(sources: list[Source]) -> str:
    """JSON of the weights by domain, including zeros."""
    return _json({s.domain: s.weight for s in sources})


@exporter("yaml", "any reader of YAML", "FILE", zeros=True)
def as_yaml(sources: list[Source]) -> str:
    """YAML of the weights by domain, including zeros."""
    return _yaml({s.domain: s.weight for s in sources})


def _json(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _yaml(content: Any) -> str:
    import yaml

    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=False)
