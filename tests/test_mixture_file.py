"""One reader for every mixture that people write: the same file means the same mixture at every door."""

import json

import numpy as np
import pandas as pd
import pytest

from mixscale.cli import main
from mixscale.config import Design
from mixscale.errors import InputError
from mixscale.io import OPTIMUM_FORMAT
from mixscale.mixture import Mixture
from mixscale.mixture_file import as_mixture, read_mixtures, table_weights
from mixscale.mixtures.designs import draw

WEIGHTS = {"web": 0.7, "code": 0.3}


def write(path, weights):
    """The mixture as a file of the kind that the path's suffix names."""
    if path.suffix == ".json":
        path.write_text(json.dumps(weights))
    else:
        frame = pd.DataFrame([{f"mix/{d}": w for d, w in weights.items()}])
        frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("name", ["m.json", "m.csv", "m.parquet"])
def test_every_option_reads_the_same_mixture_from_a_file(tmp_path, name, capsys):
    file = write(tmp_path / name, WEIGHTS)
    doors = [as_mixture(WEIGHTS, "x"), as_mixture(file, "x"), as_mixture((str(file),), "x"), *read_mixtures(file, "x")]
    doors.append(as_mixture(("web", "0.7", "code", "0.3"), "x"))
    only = Design(given=str(file), dirichlet=0, held_out=0, vertices=False, centre=False, natural=False)
    doors.append(draw(only, Mixture.uniform(WEIGHTS))[0].mixture)
    assert main(["export", str(file), "--to", "json"]) == 0
    doors.append(Mixture(json.loads(capsys.readouterr().out)))
    assert doors == [Mixture(WEIGHTS)] * len(doors)
    assert main(["design", "--natural", str(file), "--runs", "2"]) == 0


def test_nothing_is_no_mixture_and_a_mixture_is_itself():
    assert as_mixture((), "x") is as_mixture(None, "x") is as_mixture({}, "x") is None
    mixture = Mixture(WEIGHTS)
    assert as_mixture(mixture, "x") is mixture


def test_an_optimum_file_is_read_as_its_mixture(tmp_path):
    optimum = {"format": OPTIMUM_FORMAT, "value": 3.0, "mixture": WEIGHTS}
    assert as_mixture(write(tmp_path / "o.json", optimum), "x") == Mixture(WEIGHTS)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (("web", "0.5", "code"), ["web 0.5 code", "DOMAIN WEIGHT"]),
        (("web", "half"), ["web half", "DOMAIN WEIGHT"]),
        (("web", "0.7", "code", "0.5"), ["1.2", "web=0.5833"]),
        ({"web": 0.7, "code": 0.5}, ["1.2", "web=0.5833"]),
        (("web",), ["'web'", "no file", "DOMAIN WEIGHT"]),
        ("list.json", ["list.json", "weights by domain"]),
        ("broken.json", ["broken.json"]),
        ("words.json", ["words.json", "many"]),
        ("other.csv", ["other.csv", "mix/DOMAIN"]),
        ("header.csv", ["header.csv", "row"]),
        ("words.csv", ["mix/web", "'many'"]),
        ("percent.csv", ["100", "web=0.7"]),
    ],
)
def test_the_error_of_a_bad_mixture_names_its_value_and_place(tmp_path, written, words):
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "words.json").write_text('{"web": "many"}')
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "header.csv").write_text("mix/web,mix/code\n")
    (tmp_path / "words.csv").write_text("mix/web,mix/code\nmany,0.5\n")
    (tmp_path / "percent.csv").write_text("mix/web,mix/code\n70,30\n")
    with pytest.raises(InputError) as caught:
        as_mixture(tmp_path / written if isinstance(written, str) else written, "--prior")
    assert str(caught.value).startswith("--prior")
    assert all(word in str(caught.value) for word in words), caught.value


def test_weights_of_a_table_are_looked_up_by_name():
    frame = pd.DataFrame({"run": ["a"], "mix/web": [0.7], "mix/code": [0.3]})
    assert table_weights(frame, "x", ("code", "web")).to_numpy().tolist() == [[0.3, 0.7]]
    for domains, words in ((("web",), ["extra code"]), (("web", "code", "wiki"), ["missing wiki"])):
        with pytest.raises(InputError) as caught:
            table_weights(frame, "x", domains)
        assert all(word in str(caught.value) for word in words)


def test_rounded_weights_of_a_table_are_normalized(tmp_path):
    file = write(tmp_path / "m.csv", {"web": 0.333, "code": 0.333, "wiki": 0.333})
    np.testing.assert_allclose(read_mixtures(file, "x")[0].array(), 1 / 3)


@pytest.mark.parametrize("number", [{}, {"format": 0}, {"format": 9}])
def test_an_optimum_of_another_format_is_refused(tmp_path, number):
    with pytest.raises(InputError, match="optimize"):
        as_mixture(write(tmp_path / "o.json", {**number, "mixture": WEIGHTS}), "x")
