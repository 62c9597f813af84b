"""Each export is read back by the library that reads it, or as the trainer's source reads it, weight for weight."""

import json

import numpy as np
import pytest
import yaml

from mixscale.cli import main
from mixscale.errors import InputError
from mixscale.interop import exporters
from mixscale.io import OPTIMUM_FORMAT
from mixscale.mixture import Mixture

RNG = np.random.default_rng(3)
NAMES = ("web", "code", "wiki", "dclm:games", "dclm:health", "rare")
MIXTURE = Mixture.normalized(dict(zip(NAMES, [*RNG.dirichlet(np.ones(5)), 1e-5 / 3], strict=True)) | {"unused": 0.0})
USED = {d: w for d, w in MIXTURE.items() if w > 0}
PATHS = {d: f"/data/{d.replace(':', '_')}/part" for d in USED}


def equal(found, expected=USED):
    assert list(found) == list(expected)
    assert max(abs(found[d] - w) for d, w in expected.items()) < 1e-12
    assert all(type(w) is float for w in found.values())


def test_maxtext_reads_a_path_and_a_weight_by_name():
    found = json.loads(exporters.export(MIXTURE, "maxtext", PATHS))
    assert all(set(entry) == {"path", "weight"} for entry in found.values())
    equal({d: entry["weight"] for d, entry in found.items()})
    assert {d: entry["path"] for d, entry in found.items()} == PATHS


def test_levanter_names_a_component_for_every_weight():
    several = PATHS | {"web": ["gs://a/0.jsonl", "gs://a/1.jsonl"]}
    data = yaml.safe_load(exporters.export(MIXTURE, "levanter", several))["data"]
    equal(data["train_weights"])
    assert set(data["train_weights"]) <= set(data["components"])
    assert data["components"]["web"]["source"] == {"type": "url", "train_urls": several["web"]}
    assert set(yaml.safe_load(exporters.export(MIXTURE, "levanter"))["data"]) == {"train_weights"}


def test_olmo_core_accepts_the_ratios_and_paths():
    found = yaml.safe_load(exporters.export(MIXTURE, "olmo-core", PATHS, epochs=4))["sources"]
    for source in found:  # what SourceMixtureConfig.validate asks for
        assert 0 < source["target_ratio"] <= 1
        assert source["max_repetition_ratio"] == 4
        assert source["paths"] == [PATHS[source["source_name"]]]
    equal({s["source_name"]: s["target_ratio"] for s in found})


def test_olmix_nests_topics_so_that_the_products_are_the_weights():
    config = yaml.safe_load(exporters.export(MIXTURE, "olmix", PATHS))
    flat = {}
    for source, entry in config["mix"].items():
        topics = {t: e for t, e in entry.items() if t not in ("weight", "repetition_factor")}
        if topics:
            flat |= {f"{source}:{t}": entry["weight"] * e["weight"] for t, e in topics.items()}
        else:
            flat[source] = entry["weight"]
    equal(flat)
    named = {s["name"]: s for s in config["data"]["sources"]}
    assert [t["paths"] for t in named["dclm"]["topics"]] == [[PATHS["dclm:games"]], [PATHS["dclm:health"]]]
    assert set(named["web"]) == {"name", "paths"}  # olmix takes one of paths and topics


def test_megatron_reads_weights_and_prefixes_alternately():
    words = exporters.export(MIXTURE, "megatron", PATHS).split()
    equal(dict(zip(USED, map(float, words[::2]), strict=True)))
    assert words[1::2] == list(PATHS.values())
    blend = yaml.safe_load(exporters.export(MIXTURE, "nemo", PATHS))["paths"]
    equal(dict(zip(USED, blend[::2], strict=True)))
    assert blend[1::2] == list(PATHS.values())


def test_torchtitan_sources_have_the_fields_of_its_dataclass():
    found = json.loads(exporters.export(MIXTURE, "torchtitan", PATHS))["sources"]
    assert all(set(s) == {"dataset", "dataset_path", "weight", "infinite"} for s in found)
    equal({s["dataset"]: s["weight"] for s in found})


def test_hugging_face_draws_the_domains_by_their_weights():
    datasets = pytest.importorskip("datasets", reason="Hugging Face datasets is not installed")
    found = json.loads(exporters.export(Mixture({"a": 0.5, "b": 0.3, "c": 0.2, "d": 0.0}), "hf"))
    assert found["domains"] == ["a", "b", "c"]
    rows = [datasets.Dataset.from_dict({"text": [d] * 1500}) for d in found["domains"]]
    mixed = datasets.interleave_datasets(rows, seed=0, **found["interleave"])["text"][:2500]
    assert [mixed.count(d) / len(mixed) for d in "abc"] == pytest.approx([0.5, 0.3, 0.2], abs=0.03)
    equal(dict(zip(USED, json.loads(exporters.export(MIXTURE, "hf"))["interleave"]["probabilities"], strict=True)))


def test_grain_mixes_what_maxtext_reads():
    grain = pytest.importorskip("grain", reason="Grain is not installed")

    found = json.loads(exporters.export(Mixture({"a": 0.55, "b": 0.45}), "maxtext", {"a": "/a", "b": "/b"}))
    parts = [grain.MapDataset.source([d]).repeat() for d in found]
    mixed = grain.MapDataset.mix(parts, weights=[entry["weight"] for entry in found.values()])
    assert [mixed[i] for i in range(200)].count("a") == 110


def test_trainers_that_draw_examples_get_the_same_shares_of_tokens():
    tokens = {"a": 100.0, "b": 900.0}
    found = json.loads(exporters.export(Mixture({"a": 0.25, "b": 0.75}), "hf", mean_tokens=tokens))
    drawn = np.array(found["interleave"]["probabilities"])
    shares = drawn * [100, 900] / (drawn @ [100, 900])
    assert shares == pytest.approx([0.25, 0.75], abs=1e-12)


def test_plain_files_keep_domains_of_weight_zero_and_can_be_read(tmp_path, capsys):
    (tmp_path / "optimum.json").write_text(json.dumps({"format": OPTIMUM_FORMAT, "mixture": dict(MIXTURE)}))
    assert main(["export", str(tmp_path / "optimum.json"), "--to", "json", "--out", str(tmp_path / "m.json")]) == 0
    capsys.readouterr()
    assert main(["export", str(tmp_path / "m.json"), "--to", "yaml"]) == 0
    equal(yaml.safe_load(capsys.readouterr().out), dict(MIXTURE))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"to": "megatorn"}, ["megatorn", "did you mean 'megatron'"]),
        ({"to": "megatron"}, ["web", "has no path", "--paths web=PATH"]),
        ({"to": "megatron", "paths": PATHS | {"web": ["/a", "/b"]}}, ["web", "2 paths"]),
        ({"to": "megatron", "paths": PATHS | {"web": "/my data"}}, ["/my data", "spaces"]),
        ({"to": "hf", "paths": {"wbe": "/a"}}, ["wbe", "did you mean 'web'"]),
        ({"to": "hf", "mean_tokens": {"web": 3}}, ["lacks", "code"]),
        ({"to": "levanter", "mean_tokens": {"web": 3}}, ["Levanter", "--mean-tokens"]),
        ({"to": "maxtext", "epochs": 4}, ["MaxText", "--epochs"]),
    ],
)
def test_mixtures_that_a_trainer_cannot_read_are_refused(arguments, words):
    with pytest.raises(InputError) as caught:
        exporters.export(MIXTURE, **arguments)
    assert all(word in str(caught.value) for word in words), caught.value


def test_the_command_offers_every_format(capsys):
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    output = capsys.readouterr().out
    assert all(name in output for name in exporters.EXPORTERS)


def test_weights_below_the_resolution_are_exported_as_zero(tmp_path, capsys):
    mixture = Mixture({"web": 0.6, "code": 0.4 - 5e-7, "wiki": 5e-7, "books": 5e-26})
    for name, form in exporters.EXPORTERS.items():
        text = exporters.export(mixture, name, {d: f"/data/{d}" for d in mixture} if form.needs_paths else None)
        assert "e-0" not in text
        assert "e-2" not in text
    found = json.loads(exporters.export(mixture, "json"))
    assert found == pytest.approx({"web": 0.6000003, "code": 0.3999997, "wiki": 0, "books": 0}, abs=1e-9)
    (tmp_path / "m.json").write_text(json.dumps(dict(mixture)))
    assert main(["export", str(tmp_path / "m.json"), "--to", "json"]) == 0
    assert "wiki" in capsys.readouterr().err
