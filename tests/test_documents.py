"""Names in JSON, YAML and cells of tables are the text of the document; a name that occurs twice is refused."""

import math

import pandas as pd
import pytest

from mixscale.documents import expanded, flatten, parse_cell, parse_json, parse_yaml
from mixscale.errors import InputError


def test_yaml_names_and_values_are_their_text():
    found = parse_yaml("a: &a {off: 0.25, 010: 1e-3, True: n}\nb: {<<: *a, off: !!python/tuple [y]}\nc: ~", "c.yaml")
    assert found["a"] == {"off": "0.25", "010": "1e-3", "True": "n"}
    assert found["b"] == {"off": ["y"], "010": "1e-3", "True": "n"}
    assert found["c"] is None


@pytest.mark.parametrize("text", ["x: {no: 1, yes: 2, no: 3}", "- {no: 1, no: 1}"])
def test_a_name_that_occurs_twice_is_refused(text):
    with pytest.raises(InputError, match="c.yaml: 'no' occurs twice"):
        parse_yaml(text, "c.yaml")
    for document in ('{"x": {"no": 1, "no": 2}}', "[{'no': 1, 'no': 1}]"):
        with pytest.raises(InputError, match="cell: 'no' occurs twice"):
            parse_cell(document, "cell")
    with pytest.raises(InputError, match="c.json: 'no' occurs twice"):
        parse_json('{"no": 1, "no": 1}', "c.json")
    with pytest.raises(InputError, match="gives 'x.a.b' twice"):
        flatten({"a.b": 1, "a": {"b": 2}}, "x.", "c")
    with pytest.raises(InputError, match="'no' occurs twice"):
        flatten({"mix": [{"name": "no", "weight": 0.5}, {"name": "no", "weight": 0.5}]}, "", "c")


def test_cells_are_read_as_json_or_as_python_but_never_evaluated():
    assert parse_cell("{'a': np.float64(0.5), 'b': [None, True, -inf]}", "c") == {
        "a": 0.5,
        "b": [None, True, -math.inf],
    }
    assert parse_cell('{"a": null, "b": Infinity}', "c") == {"a": None, "b": math.inf}
    for text in ("web", "{'a': open('x')}", "[__import__('os')]", "{broken", 3.0, None):
        assert parse_cell(text, "c") is None


@pytest.mark.parametrize(
    "mixture",
    [
        {"no": 0.25, "de": 0.75},
        [{"name": "no", "weight": 0.25}, {"name": "de", "weight": 0.75}],
        [{"dataset": "no", "path": "a", "probability": 0.25}, {"dataset": "de", "path": "b", "probability": 0.75}],
        [["no", 0.25], ["de", 0.75]],
        '{"no": 0.25, "de": 0.75}',
        "[{'domain': 'no', 'ratio': 0.25}, {'domain': 'de', 'ratio': 0.75}]",
    ],
)
def test_mixtures_have_one_form_however_they_are_logged(mixture):
    assert flatten({"mix": mixture, "tags": ["x"]}, "config.", "c") == {"config.mix.no": 0.25, "config.mix.de": 0.75}
    assert flatten({"mix": {"value": mixture, "desc": None}}, "", "c") == {"mix.no": 0.25, "mix.de": 0.75}


def test_lists_of_names_and_of_weights_belong_together():
    found = flatten({"data": {"domains": ["no", "de"], "weights": [0.25, 0.75], "sizes": [1, 2, 3]}}, "", "c")
    assert found == {"data.weights.no": 0.25, "data.weights.de": 0.75}


def test_columns_of_mappings_become_columns_of_values():
    frame = pd.DataFrame({"run": ["a", "b"], "lr": [1, 2], "c": ["{'w': {'web': 1}, 'lr': 3, '_x': 4}", None]})
    assert list(expanded(frame)) == ["run", "lr", "c.lr", "c._x", "c.w.web"]
    assert list(expanded(frame, ["c"])) == ["run", "lr", "c.lr", "w.web"]
    assert list(expanded(frame.assign(c=["[1]", "text"]))) == ["run", "lr", "c"]
