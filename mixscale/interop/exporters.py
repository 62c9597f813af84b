"""A mixture written as another trainer reads it: one function for each format, registered in `EXPORTERS`.

Formats know mixtures and paths, nothing of laws, of corpora or of how the mixture was found. Floats are written with
the fewest digits that read back as the same number, so no weight changes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mixscale.errors import InputError, did_you_mean, listed
from mixscale.mixture import Mixture
from mixscale.registry import Registry


@dataclass(frozen=True)
class Source:
    """A domain as a trainer sees it."""

    domain: str
    weight: float
    """share of the tokens, or of the examples for a trainer that draws examples; all weights sum to one"""
    paths: tuple[str, ...] = ()
    """files, globs or prefixes, in the form that the trainer reads"""
    epochs: float = 1.0
    """how often its text may be repeated"""

    def some_paths(self, trainer: str) -> list[str]:
        """Its paths, for a trainer that needs at least one."""
        if not self.paths:
            raise InputError(
                f"domain '{self.domain}' has no path, and {trainer} needs one; give --paths {self.domain}=PATH"
            )
        return list(self.paths)

    def one_path(self, trainer: str) -> str:
        """Its path, for a trainer that takes one path for each weight."""
        if len(self.some_paths(trainer)) > 1:
            raise InputError(
                f"domain '{self.domain}' has {len(self.paths)} paths, and {trainer} takes one for each weight; give "
                f"--paths {self.domain}=PATH once, with a glob or a merged file"
            )
        return self.paths[0]

    def one_prefix(self, trainer: str) -> str:
        """Its path, for a trainer that reads paths from a list separated by spaces."""
        path = self.one_path(trainer)
        if path.split() != [path]:
            raise InputError(f"path '{path}' of domain '{self.domain}' has spaces, which separate {trainer}'s paths")
        return path


@dataclass(frozen=True)
class Exporter:
    """A format."""

    write: Callable[[list[Source]], str]
    """from the sources to the text of the file"""
    trainer: str
    use: str
    """how to give the file, FILE, to the trainer"""
    repeats: bool = False
    """whether the format limits how often text may be repeated"""
    examples: bool = False
    """whether the trainer draws shares of examples instead of tokens"""
    zeros: bool = False
    """whether domains of weight zero are written; trainers reject a weight of zero, or never finish with one"""


EXPORTERS: Registry[Exporter] = Registry("export format")
"""Every format by its name on the command line."""


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
    """The mixture as the text of a file that a trainer reads.

    Args:
        to: name of a format, a key of `EXPORTERS`.
        paths: where the text or tokens of each domain are: a path, or several if the trainer takes several.
        mean_tokens: mean number of tokens in an example of each domain, for trainers that draw examples: weights
            `w_k / tokens_k`, normalized, give the mixture's shares of tokens.
        epochs: how often text may be repeated, for formats with such a limit; 1 by default.

    Raises:
        InputError: there is no such format, a path is missing or names no domain, or the format does not use an
            argument.
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
    weights = {d: w for d, w in mixture.items() if w > 0 or form.zeros}
    if mean_tokens:
        weights = _shares_of_examples(weights, mean_tokens)
    return form.write([Source(d, w, given.get(d, ()), epochs or 1.0) for d, w in weights.items()])


def parse_paths(words: Sequence[str]) -> dict[str, list[str]]:
    """Paths from `DOMAIN=PATH`; a domain may have several.

    Raises:
        InputError: a word has another form.
    """
    found: dict[str, list[str]] = {}
    for word in words:
        domain, _, path = word.partition("=")
        if not (domain and path):
            raise InputError(f"path '{word}' cannot be read; write DOMAIN=PATH, for example web=/data/web/*.npy")
        found.setdefault(domain, []).append(path)
    return found


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


@exporter("maxtext", "MaxText", "grain_train_mixture_config_path=FILE", examples=True)
def maxtext(sources: list[Source]) -> str:
    """JSON by domain of `path` (an ArrayRecord glob) and `weight`, by which MaxText's Grain pipeline mixes.

    Source: MaxText, docs on the Grain input pipeline, option grain_train_mixture_config_path.
    """
    return _json({s.domain: {"path": s.one_path("MaxText"), "weight": s.weight} for s in sources})


@exporter("levanter", "Levanter", "the section `data` of its config")
def levanter(sources: list[Source]) -> str:
    """YAML of `data.train_weights`, and of `data.components` with the URLs of the domains that have paths.

    Source: Levanter's LmDataConfig, in which weights must name components.
    """
    components = {s.domain: {"source": {"type": "url", "train_urls": list(s.paths)}} for s in sources if s.paths}
    data = {"components": components} if components else {}
    return _yaml({"data": {**data, "train_weights": {s.domain: s.weight for s in sources}}})


@exporter("olmo-core", "OLMo-core", "SourceMixtureList, from its YAML", repeats=True)
def olmo_core(sources: list[Source]) -> str:
    """YAML of a SourceMixtureList: `source_name`, `target_ratio`, `paths` and `max_repetition_ratio` of each source.

    Source: OLMo-core, olmo_core.data.source_mixture.
    """
    entries = [
        {
            "source_name": s.domain,
            "target_ratio": s.weight,
            "paths": s.some_paths("OLMo-core"),
            "max_repetition_ratio": s.epochs,
        }
        for s in sources
    ]
    return _yaml({"sources": entries})


@exporter("olmix", "olmix", "the sections `data` and `mix` of a launch config", repeats=True)
def olmix(sources: list[Source]) -> str:
    """YAML of `mix`, and of `data.sources` if there are paths; topics, `dclm:games`, are nested in their source.

    The weight of a topic is its share of its source. Source: olmix, examples of launch configs.
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
    if not any(s.paths for s in sources):
        return _yaml({"mix": mix})
    for source in sources:
        source.some_paths("olmix")
    return _yaml({"data": {"sources": list(data.values())}, "mix": mix})


@exporter("megatron", "Megatron-LM", "--data-args-path FILE")
def megatron(sources: list[Source]) -> str:
    """Alternating weights and dataset prefixes, separated by spaces: the argument of --data-path, in a file.

    Source: Megatron-LM, option --data-args-path and megatron.core's get_blend_from_list.
    """
    return "\n".join(f"{s.weight!r} {s.one_prefix('Megatron-LM')}" for s in sources) + "\n"


@exporter("nemo", "NeMo", "PreTrainingDataModule(paths=...)")
def nemo(sources: list[Source]) -> str:
    """YAML of `paths`: alternating weights and dataset prefixes, as NeMo's PreTrainingDataModule takes them.

    Source: NeMo 2.0, guide to migrating the data configuration.
    """
    return _yaml({"paths": [part for s in sources for part in (s.weight, s.one_prefix("NeMo"))]})


@exporter("torchtitan", "TorchTitan", "an HFDataSource for each of `sources`", examples=True)
def torchtitan(sources: list[Source]) -> str:
    """JSON of `sources`, each with the fields of an HFDataSource: dataset, dataset_path, weight and infinite.

    Source: TorchTitan, docs/datasets.md, interleaved dataloaders.
    """
    paths = [{"dataset_path": s.one_path("TorchTitan")} if s.paths else {} for s in sources]
    entries = zip(sources, paths, strict=True)
    return _json({"sources": [{"dataset": s.domain, **p, "weight": s.weight, "infinite": True} for s, p in entries]})


@exporter("hf", "datasets", "interleave_datasets([...], **interleave)", examples=True)
def hf(sources: list[Source]) -> str:
    """JSON of the domains in their order, their paths, and the arguments of `datasets.interleave_datasets` for them.

    Source: Hugging Face datasets, interleave_datasets.
    """
    data_files = {s.domain: list(s.paths) for s in sources if s.paths}
    return _json(
        {
            "domains": [s.domain for s in sources],
            **({"data_files": data_files} if data_files else {}),
            "interleave": {"probabilities": [s.weight for s in sources], "stopping_strategy": "all_exhausted"},
        }
    )


@exporter("json", "mixscale", "`--current FILE` or `--prior FILE` of mixscale optimize", zeros=True)
def as_json(sources: list[Source]) -> str:
    """JSON of the weights by domain, including zeros."""
    return _json({s.domain: s.weight for s in sources})


@exporter("yaml", "any reader of YAML", "FILE", zeros=True)
def as_yaml(sources: list[Source]) -> str:
    """YAML of the weights by domain, including zeros."""
    return _yaml({s.domain: s.weight for s in sources})


def _json(content: object) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _yaml(content: object) -> str:
    import yaml

    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=False)
