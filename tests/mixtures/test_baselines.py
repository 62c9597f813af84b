"""Baselines are what their sources define, and relevance finds the text that is similar to the target."""

import re
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from mixscale.cli import main
from mixscale.config import BaselineName, Baselines, Design, Embedded, TextFiles
from mixscale.data import documents
from mixscale.errors import InputError
from mixscale.mixture import Mixture
from mixscale.mixtures import baselines
from mixscale.sweeps.plan import plan, plan_verification

TOKENS = {"web": 900.0, "code": 90.0, "wiki": 10.0}


def test_temperature_runs_from_natural_to_uniform():
    assert baselines.temperature(TOKENS, 1.0) == baselines.natural(TOKENS) == Mixture.normalized(TOKENS)
    assert baselines.temperature(TOKENS, 0.0).array() == pytest.approx([1 / 3] * 3)
    assert baselines.temperature(TOKENS, 0.5)["wiki"] == pytest.approx(10**0.5 / (900**0.5 + 90**0.5 + 10**0.5))


def test_classes_have_equal_weight_divided_by_size():
    mixture = baselines.class_balanced(TOKENS | {"arxiv": 30.0}, {"wiki": "reference", "arxiv": "reference"})
    assert dict(mixture) == pytest.approx({"web": 1 / 3, "code": 1 / 3, "wiki": 1 / 12, "arxiv": 1 / 4})
    assert mixture.domains == ("web", "code", "wiki", "arxiv")


def test_quality_is_the_mixture_after_a_filter():
    mixture = baselines.quality(TOKENS, {"web": 0.1, "code": 1.0, "wiki": 0.0})
    assert dict(mixture) == pytest.approx({"web": 0.5, "code": 0.5, "wiki": 0.0})


@pytest.mark.parametrize("budget", [3.0, 60.0, 400.0, 3000.0, 4000.0])
def test_unimax_is_even_below_its_caps(budget):
    mixture = baselines.unimax(TOKENS, budget, epochs=4)
    epochs = {d: budget * w / TOKENS[d] for d, w in mixture.items()}
    assert max(epochs.values()) <= 4 * (1 + 1e-9)
    free = [d for d, e in epochs.items() if e < 4 * (1 - 1e-9)]
    if free:  # what is not capped is equal, and no capped domain has more
        assert [mixture[d] for d in free] == pytest.approx([max(mixture.values())] * len(free))
    assert sum(mixture.values()) == pytest.approx(1)


def test_relevance_with_share_one_is_the_natural_mixture():
    samples = {d: [f"{d} word number {i}" for i in range(20)] for d in TOKENS}
    mixture = baselines.relevance(TOKENS, samples, ["code word"], share=1.0)
    assert dict(mixture) == pytest.approx(dict(baselines.natural(TOKENS)))


@pytest.fixture(scope="module")
def pieces():
    """Real texts of four domains, cut to one length."""
    names = ("code", "fiction", "maths", "romance")
    return {n: [d.text[:600] for d, _ in zip(documents(Embedded(n)), range(120), strict=False)] for n in names}


@pytest.mark.parametrize("wanted", ["code", "fiction", "maths"])
def test_relevance_finds_the_domain_that_the_target_is_of(pieces, wanted):
    tokens = {"code": 100.0, "fiction": 400.0, "maths": 300.0, "romance": 200.0}
    samples = {d: found[40:] for d, found in pieces.items()}
    mixture = baselines.relevance(tokens, samples, pieces[wanted][:40], share=0.05)
    assert mixture[wanted] > 0.9
    both = baselines.relevance(tokens, samples, [*pieces["code"][:40], *pieces["maths"][:40]], share=0.05)
    assert both["code"] + both["maths"] > 0.9


def test_relevance_follows_an_embedding_where_one_is_given(pieces):
    tokens = dict.fromkeys(pieces, 100.0)

    def digits(found):  # a poor embedding, which knows mathematics by its signs alone
        return np.array([[sum(c in "=+<>\\${}^_" for c in t) / len(t), len(t) / 600] for t in found])

    mixture = baselines.relevance(tokens, pieces, pieces["maths"][:40], share=0.05, embedding=digits)
    assert mixture["maths"] + mixture["code"] > 0.7
    assert mixture["maths"] > mixture["fiction"]
    with pytest.raises(InputError, match="shape"):
        baselines.relevance(tokens, pieces, ["x"], embedding=lambda found: np.zeros(len(found)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: baselines.temperature(TOKENS, -1), ["-1", "uniform"]),
        (lambda: baselines.class_balanced(TOKENS, {}), ["class of each domain"]),
        (lambda: baselines.class_balanced(TOKENS, {"wkii": "a"}), ["wkii", "did you mean 'wiki'"]),
        (lambda: baselines.quality(TOKENS, {"web": 1.0}), ["lack", "code, wiki"]),
        (lambda: baselines.quality(TOKENS, {"web": 1.0, "code": -1, "wiki": 0}), ["code", "-1"]),
        (lambda: baselines.unimax(TOKENS, 4001.0, epochs=4), ["4001", "4 epochs", "4000"]),
        (lambda: baselines.relevance(TOKENS, {"web": ["a"]}, ["b"]), ["no sample", "code, wiki"]),
        (lambda: baselines.relevance(TOKENS, dict.fromkeys(TOKENS, ["a"]), [" "]), ["no text"]),
    ],
)
def test_baselines_with_wrong_inputs_are_errors(make, words):
    with pytest.raises(InputError) as caught:
        make()
    assert all(word in str(caught.value) for word in words), caught.value


# ------------------------------------------------------------------ of an experiment


@pytest.fixture
def complete(small, texts_of_code):
    """An experiment with the settings of every baseline."""
    return replace(
        small,
        baselines=Baselines(
            classes={"fiction": "prose", "romance": "prose"},
            scores={"code": 3, "fiction": 1, "romance": 2},
            target=texts_of_code,
            weights={"code": 0.5, "fiction": 0.5},
        ),
    )


@pytest.fixture
def texts_of_code(tmp_path):
    (tmp_path / "wanted.txt").write_text("def sorted(self, key=None):\n    return [x for x in self.items]\n" * 20)
    return TextFiles(str(tmp_path / "wanted.txt"))


def test_an_experiment_has_baselines_by_name(complete, store):
    found = {name: baselines.mixture(name, complete, store) for name in get_args(BaselineName)}
    assert all(m.domains == store.domains for m in found.values())
    assert found["natural"] == store.natural()
    assert found["class-balanced"]["code"] == pytest.approx(0.5)
    assert found["relevance"]["code"] > 0.6  # in rows of 32 bytes; it has a third of the text
    assert found["given"] == Mixture({"code": 0.5, "fiction": 0.5, "romance": 0.0})
    frame, notes = baselines.describe(complete, store)
    assert list(frame["baseline"]) == list(found)
    assert not notes
    assert set(baselines.BASELINES) == set(get_args(BaselineName))


def test_the_prior_is_the_centre_of_the_draws(complete, store):
    def drawn(prior):
        design = Design(dirichlet=60, vertices=False, centre=False, natural=False, held_out=0, prior=prior,
                        temperature=1.0, strength=(50.0, 100.0))  # fmt: skip
        planned = plan(replace(complete, design=design), store)
        return np.mean([p.run.mixture.array(store.domains) for p in planned if p.run.seed == complete.seed], axis=0)

    assert drawn("natural") == pytest.approx(store.natural().array(), abs=0.03)
    assert drawn("class-balanced")[store.domains.index("code")] == pytest.approx(0.5, abs=0.03)
    given = drawn("given")
    assert given[store.domains.index("code")] == pytest.approx(0.49, abs=0.03)
    assert given[store.domains.index("romance")] > 0.005  # a domain that nobody trains cannot be learned of


def test_a_prior_without_its_settings_is_an_error_of_the_config(small, complete):
    with pytest.raises(InputError, match="design.prior is quality.*baselines.scores"):
        replace(small, design=Design(prior="quality"))
    with pytest.raises(InputError, match="baselines.scores names 'cdoe'.*'code'"):
        replace(complete, baselines=Baselines(scores={"cdoe": 1}))


def test_the_command_prints_the_baselines(tmp_path, capsys):
    config = tmp_path / "config.py"
    config.write_text(
        "from mixscale.config import *\n"
        "experiment = Experiment(name='x', models={'a': Model()}, corpus=Corpus(context=32,\n"
        "    domains={d: Embedded(d) for d in ('romance', 'docs')}, tokenizer=Tokenizer('bytes'),\n"
        f"    cache={str(tmp_path)!r}))\n"
    )
    options = ["--baselines.scores", "romance", "1", "docs", "0", "--train.tokens", "1000000"]
    assert main(["mixtures", str(config), *options]) == 0
    out = capsys.readouterr().out
    assert re.search(r"uniform +50.0% +50.0%", out)
    assert re.search(r"quality +100.0% +0.0%", out)
    assert "the baseline 'relevance' needs baselines.target" in out


def test_baselines_are_trained_next_to_the_optimum(complete, store):
    both = replace(complete, verify=replace(complete.verify, baselines=("uniform", "class-balanced", "given")))
    optimum, best = Mixture({"code": 1.0, "fiction": 0.0, "romance": 0.0}), Mixture.uniform(store.domains)
    planned = plan_verification(both, store, optimum, best)
    assert {p.origin for p in planned} == {"optimum", "uniform+best", "class-balanced", "given"}
    trained = {p.run.mixture for p in planned if p.origin == "class-balanced"}
    assert [m["code"] for m in trained] == [0.5]
    with pytest.raises(InputError, match="verify.baselines has quality.*baselines.scores"):
        replace(both, baselines=Baselines(), verify=replace(both.verify, baselines=("quality",)))


def test_the_report_knows_every_baseline_by_name():
    from mixscale.plots import style
    from mixscale.report.comparison import CANDIDATES

    assert set(get_args(BaselineName)) < set(CANDIDATES)
    for known in (style.COLOURS, style.MARKERS, style.LABELS):
        assert set(CANDIDATES) <= set(known)
    assert len({(style.COLOURS[n], style.MARKERS[n]) for n in CANDIDATES}) == len(CANDIDATES)
