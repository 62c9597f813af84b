"""The Python interface: import time, public names, predictions and designs, notebook views."""

import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

import mixscale
from mixscale import InputError, LawFit, Mixture, RunTable, design, fit, optimize, predict

DOMAINS = ("web", "code", "<books>")


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    h_RxK = rng.dirichlet([1, 1, 1], 24)
    frame = pd.DataFrame(h_RxK, columns=[f"mix/{d}" for d in DOMAINS])
    frame["run"] = [f"run-{i}" for i in range(24)]
    frame["loss/web"] = 2.2 + 0.9 * np.exp(-3 * h_RxK @ [1, 0.1, 0.4]) + rng.normal(0, 0.003, 24)
    frame["loss/code"] = 1.1 + 1.2 * np.exp(-4 * h_RxK @ [0.1, 1, 0.0]) + rng.normal(0, 0.003, 24)
    return RunTable(frame)


@pytest.fixture(scope="module")
def fitted(table):
    return fit(table, law="exponential", bootstrap=10)


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_the_package_imports_no_dependency():
    heavy = "{'numpy', 'pandas', 'jax', 'matplotlib', 'flax', 'scipy'}"
    assert python(f"import sys, mixscale; print(len({heavy} & set(sys.modules)))").strip() == "0"
    assert (
        python(f"import sys; from mixscale import Mixture; print({heavy} & set(sys.modules))").strip() == "{'numpy'}"
    )


def test_figures_and_exports_do_not_load_the_training_half():
    training = "{'flax', 'optax', 'orbax', 'mixscale.data', 'mixscale.training', 'mixscale.sweeps', 'mixscale.models'}"
    assert (
        python(f"import sys, mixscale.plots, mixscale.interop.exporters; print({training} & set(sys.modules))")
        == "set()\n"
    )


@pytest.mark.parametrize(
    "first", ["import mixscale.optimization, mixscale.mixtures", "import mixscale.pipeline", "pass"]
)
def test_optimize_is_a_function_after_its_package_was_imported(first):
    code = (
        f"{first}\nfrom mixscale import optimize, design\nprint(len(design(list('ab'), runs=2)), callable(optimize))"
    )
    assert python(code).split() == ["2", "True"]
    assert (
        python(f"{first}\nfrom mixscale.optimization import optimize, pareto; print(optimize.__name__)").strip()
        == "optimize"
    )


def test_every_public_name_can_be_imported():
    assert set(mixscale.__all__) <= set(dir(mixscale))
    assert all(getattr(mixscale, name) is not None for name in mixscale.__all__)
    with pytest.raises(AttributeError, match="no attribute 'optimun'"):
        _ = mixscale.optimun


def test_optimize_and_predict_accept_dicts_mixtures_and_tables(fitted):
    best = optimize(fitted, upper={"code": 0.4}, current={"web": 0.5, "code": 0.5}, keep=["web"])
    assert best.mixture["code"] == pytest.approx(0.4, abs=1e-6)
    assert best.kept["web"] > 0.9
    frame = predict(fitted, [best.mixture, {"web": 1.0}])
    assert frame["pred/web"].iloc[0] == pytest.approx(best.predicted["web"][0])
    assert frame["mix/web"].iloc[1] == 1.0
    assert (frame["lo/code"] < frame["pred/code"]).all()
    pd.testing.assert_frame_equal(predict(fitted, frame[[f"mix/{d}" for d in DOMAINS]]), frame)
    assert len(predict(fitted, best.mixture)) == 1


def test_designs_come_from_names_or_from_a_fit(fitted):
    first, following = design(["web", "code", "wiki"], runs=4), design(fitted, runs=2, upper={"code": 0.5})
    assert first[[c for c in first if c.startswith("mix/")]].sum(axis=1).to_numpy() == pytest.approx(np.ones(4))
    assert len(following) == 2
    for odd in (
        lambda: design("web,code"),
        lambda: design(["a", "b"], sizes=[1e6]),
        lambda: design(fitted, natural={"web": 1.0}),
    ):
        with pytest.raises(InputError):
            odd()


class Checker(HTMLParser):
    """Raises where tags are not closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data + " "


def test_results_have_a_notebook_view(table, fitted):
    best = optimize(fitted, current={"web": 1.0})
    for shown, words in (
        (Mixture({"<books>": 0.25, "web": 0.75}), ["<books>", "75.0%"]),
        (table, ["mix/<books>", "24 runs"]),
        (fitted, ["exponential", "code", "seed noise"]),
        (best, ["<books>", "interval", "current", "gain"]),
    ):
        checker = Checker()
        checker.feed(shown._repr_html_())
        assert not checker.open
        assert all(word in checker.text for word in words), (words, checker.text)


def test_a_loaded_fit_predicts_the_same(fitted, tmp_path):
    fitted.save(tmp_path / "fit")
    again = LawFit.load(tmp_path / "fit")
    pd.testing.assert_frame_equal(
        predict(again, {"web": 0.5, "code": 0.5}), predict(fitted, {"web": 0.5, "code": 0.5})
    )
