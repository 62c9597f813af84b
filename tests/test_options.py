"""Options that are given several times, names that contain separators, and mixtures that are not one mixture."""

import json

import pytest

from mixscale.cli import main
from mixscale.cli.arguments import _canonical, parse_groups
from mixscale.errors import InputError
from mixscale.interop.exporters import parse_paths
from mixscale.mixture import Mixture, split_names
from mixscale.mixture_file import as_mixture

OPTIONS = {
    "--upper": (dict[str, float], {}),
    "--target": (tuple[str, ...], ()),
    "--pareto": (tuple[str, str] | None, None),
    "--seed": (int, 0),
    "--machine.remat": (bool, False),
}


def words(text: str) -> list[str]:
    return _canonical(text.split(), OPTIONS)


def test_lists_and_mappings_given_several_times_are_merged():
    assert words("FIT --upper a 0.3 --upper b 0.4") == ["FIT", "--upper", "a", "0.3", "b", "0.4"]
    assert words("--target a --seed 1 --target b c") == ["--target", "a", "b", "c", "--seed", "1"]


@pytest.mark.parametrize(
    "text", ["--seed 1 --seed 2", "--seed=1 --seed 2", "--upper a 0.3 --upper a 0.4", "--pareto a b --pareto a c",
             "--machine.remat --machine.no-remat", "--machine.remat --no-machine.remat"],
)  # fmt: skip
def test_two_values_of_one_option_are_an_error(text):
    with pytest.raises(InputError, match=text.split("=")[0].split()[0]):
        words(text)


def test_the_same_value_twice_is_that_value():
    assert words("--seed 1 FIT --seed 1") == ["--seed", "1", "FIT"]


def test_a_flag_may_be_given_a_truth_value():
    assert words("--machine.remat True") == ["--machine.remat"]
    assert words("--machine.remat False") == ["--machine.no-remat"]


def test_names_with_separators_are_read():
    assert parse_groups(['code="C++"+stack-edu:Cpp+lang=en:0.1:0.3'])["code"].domains == (
        "C++",
        "stack-edu:Cpp",
        "lang=en",
    )
    assert split_names('web,"a,b", c', ",") == ["web", "a,b", "c"]
    assert parse_paths(["lang=en=/data/x=1", "web=/w"], ["lang=en", "web"]) == {
        "lang=en": ["/data/x=1"],
        "web": ["/w"],
    }
    for refused in ("code=C++:0.1:0.3", 'code="C++:0.1:0.3'):
        with pytest.raises(InputError, match="double quote"):
            parse_groups([refused])


def test_a_file_with_several_mixtures_is_not_one_mixture(tmp_path, capsys):
    (tmp_path / "two.csv").write_text("mix/web,mix/code\n0.5,0.5\n0.2,0.8\n")
    with pytest.raises(InputError, match="2 mixtures"):
        as_mixture(tmp_path / "two.csv", "--current")
    assert main(["export", str(tmp_path / "two.csv"), "--to", "json"]) == 2
    assert "2 mixtures" in capsys.readouterr().err


def test_a_domain_with_two_weights_is_refused(tmp_path):
    (tmp_path / "m.json").write_text('{"web": 0.5, "web": 0.3, "code": 0.5}')
    for written in (tmp_path / "m.json", ("web", "0.5", "web", "0.3", "code", "0.5")):
        with pytest.raises(InputError, match="web"):
            as_mixture(written, "--prior")


@pytest.mark.parametrize(
    "content", ["mix/web,mix/code\n30%,70%\n", "mix/web;mix/code\n0,3;0,7\n", "sep=;\nmix/web;mix/code\n0,3;0,7"]
)
def test_weights_are_read_by_the_reader_of_numbers(tmp_path, content):
    (tmp_path / "m.csv").write_text(content)
    mixture = as_mixture(tmp_path / "m.csv", "--prior")
    assert dict(mixture) == pytest.approx({"web": 0.3, "code": 0.7}, abs=1e-12)
    assert dict(as_mixture(("web", "30%", "code", "70%"), "--prior")) == pytest.approx(dict(mixture), abs=1e-12)


@pytest.mark.parametrize("weights", [{"web": 0.3}, {"web": 0.4, "code": 0.4}, {"web": "half", "code": 0.5}])
def test_weights_that_are_not_a_mixture_are_refused_everywhere(tmp_path, weights):
    (tmp_path / "m.json").write_text(json.dumps(weights))
    (tmp_path / "m.csv").write_text(
        ",".join(f"mix/{d}" for d in weights) + "\n" + ",".join(map(str, weights.values()))
    )
    for written in (weights, tmp_path / "m.json", tmp_path / "m.csv"):
        with pytest.raises(InputError):
            as_mixture(written, "--current")
    with pytest.raises(InputError):
        Mixture(weights)
