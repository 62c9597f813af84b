"""One function a format: the text of the file that a trainer reads, from the sources and what else it asks for.

Where each format is described is said in its docstring. Floats are written with the fewest digits that read back as
the same number, so no weight changes on the way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mixscale.errors import InputError, did_you_mean
from mixscale.interop.exporters.sources import Source, counted, sources
from mixscale.mixture import Mixture

TOPIC = ":"
"""Between a source and its topic in olmix's names of domains, as in `dclm:games`."""


@dataclass(frozen=True)
class Format:
    """What a trainer reads."""

    trainer: str
    write: Callable[[list[Source], float], str]
    """from the sources, and how often text may be read, to the text of the file"""
    use: str
    """how the file is given to the trainer"""
    caps: bool = False
    """whether it says how often text may be read"""
    examples: bool = False
    """whether the trainer draws shares of examples and not of tokens"""


def export(
    mixture: Mixture,
    to: str,
    paths: Mapping[str, str | Sequence[str]] | None = None,
    mean_tokens: Mapping[str, float] | None = None,
    epochs: float | None = None,
) -> str:
    """The mixture as the text of a file that a trainer reads.

    Args:
        to: name of a format, a key of `FORMATS`.
        paths: where each domain lies, as the trainer takes it: a path, or several where it takes several.
        mean_tokens: mean tokens an example of each domain, for trainers that draw examples (`Format.examples`), so
            that the shares of tokens come out as the mixture says.
        epochs: how often text may be read, for formats that say so (`Format.caps`); once where it is not given.

    Raises:
        InputError: there is no such format, a path is missing or for no domain, or something is given that the format
            has no place for.
    """
    if to not in FORMATS:
        raise InputError(f"there is no format '{to}'{did_you_mean(to, FORMATS)}")
    form = FORMATS[to]
    if epochs is not None and not form.caps:
        raise InputError(f"--epochs means nothing to {form.trainer}, which repeats text as weights ask; leave it out")
    if epochs is not None and not 1 <= epochs < float("inf"):
        raise InputError(f"--epochs is {epochs:g}; text is read at least once")
    if mean_tokens and not form.examples:
        raise InputError(f"--mean-tokens means nothing to {form.trainer}, whose weights count tokens; leave it out")
    found = sources(mixture, paths)
    if mean_tokens:
        found = counted(found, mean_tokens)
    if to in ("json", "yaml"):  # for people and for mixscale itself: every domain, those that are not used too
        unused = [Source(d, 0.0) for d, weight in mixture.items() if weight == 0]
        found = sorted([*found, *unused], key=lambda s: mixture.domains.index(s.domain))
    return form.write(found, epochs or 1.0)


def maxtext(found: list[Source], _: float) -> str:
    """JSON by domain of `path` (an ArrayRecord glob) and `weight`, which MaxText's Grain pipeline mixes by.

    Source: MaxText, docs on the Grain input pipeline, option grain_train_mixture_config_path.
    """
    return _json({s.domain: {"path": s.one_path("MaxText"), "weight": s.weight} for s in found})


def levanter(found: list[Source], _: float) -> str:
    """YAML of `data.train_weights`, and of `data.components` with the URLs of the domains that have paths.

    Source: Levanter's LmDataConfig, whose weights must name components.
    """
    components = {s.domain: {"source": {"type": "url", "train_urls": list(s.paths)}} for s in found if s.paths}
    data = {"components": components} if components else {}
    return _yaml({"data": {**data, "train_weights": {s.domain: s.weight for s in found}}})


def olmo_core(found: list[Source], epochs: float) -> str:
    """YAML of a SourceMixtureList: `source_name`, `target_ratio`, `paths` and `max_repetition_ratio` of each source.

    Source: OLMo-core, olmo_core.data.source_mixture.
    """
    return _yaml(
        {
            "sources": [
                {
                    "source_name": s.domain,
                    "target_ratio": s.weight,
                    "paths": _paths(s, "OLMo-core"),
                    "max_repetition_ratio": epochs,
                }
                for s in found
            ]
        }
    )


def olmix(found: list[Source], epochs: float) -> str:
    """YAML of `mix`, and of `data.sources` where there are paths; topics, `dclm:games`, stand below their source.

    A topic's weight is its share of its source, as olmix nests them. Source: olmix, examples of launch configs.
    """
    mix: dict[str, dict] = {}
    data: dict[str, dict] = {}
    for group, members in _by_source(found).items():
        total = sum(s.weight for s in members)
        if members[0].domain == group:
            mix[group] = {"weight": total, "repetition_factor": epochs}
            data[group] = {"name": group, "paths": list(members[0].paths)}
            continue
        topics = {s.domain.split(TOPIC, 1)[1]: s for s in members}
        shares = {t: {"weight": s.weight / total, "repetition_factor": epochs} for t, s in topics.items()}
        mix[group] = {"weight": total, **shares}
        data[group] = {"name": group, "topics": [{"name": t, "paths": list(s.paths)} for t, s in topics.items()]}
    if not any(s.paths for s in found):
        return _yaml({"mix": mix})
    for s in found:
        _paths(s, "olmix")
    return _yaml({"data": {"sources": list(data.values())}, "mix": mix})


def megatron(found: list[Source], _: float) -> str:
    """Weights and dataset prefixes by turns, set apart by blanks: the argument of --data-path, in a file.

    Source: Megatron-LM, option --data-args-path and megatron.core's get_blend_from_list.
    """
    return "\n".join(f"{s.weight!r} {_prefix(s, 'Megatron-LM')}" for s in found) + "\n"


def nemo(found: list[Source], _: float) -> str:
    """YAML of `paths`: weights and dataset prefixes by turns, as NeMo's PreTrainingDataModule takes them.

    Source: NeMo 2.0, guide to migrating the data configuration.
    """
    return _yaml({"paths": [part for s in found for part in (s.weight, _prefix(s, "NeMo"))]})


def torchtitan(found: list[Source], _: float) -> str:
    """JSON of `sources`, each with the fields of an HFDataSource: dataset, dataset_path, weight and infinite.

    Source: TorchTitan, docs/datasets.md, interleaved dataloaders.
    """
    listed_sources = [
        {"dataset": s.domain, **({"dataset_path": s.one_path("TorchTitan")} if s.paths else {}), "weight": s.weight}
        for s in found
    ]
    return _json({"sources": [source | {"infinite": True} for source in listed_sources]})


def hf(found: list[Source], _: float) -> str:
    """JSON of the domains in their order, their paths, and the arguments of `datasets.interleave_datasets` for them.

    Source: Hugging Face datasets, interleave_datasets.
    """
    data_files = {s.domain: list(s.paths) for s in found if s.paths}
    return _json(
        {
            "domains": [s.domain for s in found],
            **({"data_files": data_files} if data_files else {}),
            "interleave": {"probabilities": [s.weight for s in found], "stopping_strategy": "all_exhausted"},
        }
    )


def as_json(found: list[Source], _: float) -> str:
    """JSON of the weights by domain, zeros too."""
    return _json({s.domain: s.weight for s in found})


def as_yaml(found: list[Source], _: float) -> str:
    """YAML of the weights by domain, zeros too."""
    return _yaml({s.domain: s.weight for s in found})


FORMATS: dict[str, Format] = {
    "maxtext": Format("MaxText", maxtext, "grain_train_mixture_config_path=FILE", examples=True),
    "levanter": Format("Levanter", levanter, "the section `data` of its config"),
    "olmo-core": Format("OLMo-core", olmo_core, "SourceMixtureList, from its YAML", caps=True),
    "olmix": Format("olmix", olmix, "the sections `data` and `mix` of a launch config", caps=True),
    "megatron": Format("Megatron-LM", megatron, "--data-args-path FILE"),
    "nemo": Format("NeMo", nemo, "PreTrainingDataModule(paths=...)"),
    "torchtitan": Format("TorchTitan", torchtitan, "an HFDataSource for each of `sources`", examples=True),
    "hf": Format("datasets", hf, "interleave_datasets([...], **interleave)", examples=True),
    "json": Format("mixscale", as_json, "`--current FILE`, `--prior FILE` of mixscale optimize"),
    "yaml": Format("mixscale", as_yaml, "whatever reads YAML"),
}
"""Every format by its name on the command line."""


def _by_source(found: list[Source]) -> dict[str, list[Source]]:
    """Domains below the source that they are topics of, or below themselves."""
    groups: dict[str, list[Source]] = {}
    for source in found:
        groups.setdefault(source.domain.split(TOPIC, 1)[0], []).append(source)
    for group, members in groups.items():
        if len(members) > 1 and any(s.domain == group for s in members):
            raise InputError(f"domain '{group}' has a weight beside its topics' weights; olmix wants one or the other")
    return groups


def _paths(source: Source, trainer: str) -> list[str]:
    if not source.paths:
        raise InputError(
            f"domain '{source.domain}' has no path, and {trainer} needs one; give --paths {source.domain}=PATH"
        )
    return list(source.paths)


def _prefix(source: Source, trainer: str) -> str:
    """A path that may stand in a list set apart by blanks."""
    path = source.one_path(trainer)
    if path.split() != [path]:
        raise InputError(f"path '{path}' of domain '{source.domain}' has blanks, which set apart {trainer}'s paths")
    return path


def _json(content: object) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _yaml(content: object) -> str:
    import yaml

    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=False)
