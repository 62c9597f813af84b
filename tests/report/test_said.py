"""The page claims no more than is so: of chance, of one seed, of what an interval holds."""

from __future__ import annotations

import dataclasses

import numpy as np

from mixscale.report import captions, findings, sentences
from mixscale.report.material import Material
from mixscale.report.targets_said import atomic_write, by_target
from mixscale.run_table import RunTable


def where(material: Material, rows) -> Material:
    """The same material with these rows of its table."""
    frame = material.table.complete().frame
    return Material(RunTable(frame[rows(frame)]), material.fit, material.optimum)


def test_resamples_with_another_optimum_are_counted(material):
    samples_SxK = np.tile(list(material.optimum.mixture.values()), (20, 1))
    samples_SxK[0] = np.eye(3)[0]
    one_apart = dataclasses.replace(material.optimum, samples_SxK=samples_SxK)
    found = findings(Material(material.table, material.fit, one_apart))
    assert (found.bootstrap, found.resamples_apart) == (20, 1)


def test_of_one_seed_without_seed_noise_no_target_is_told(material):
    found = findings(where(material, lambda f: (f["role"] == "verify") & (f["seed"] == 11)))
    told = " ".join(sentences(found))
    assert "cannot be told from one seed" in told
    assert "Target by target" not in told
    assert atomic_write(found) is None  # so the page has neither the column nor its foot


def test_of_many_targets_chance_is_told(found):
    one = found.by_target["natural"][next(iter(found.target_sign))]

    def told(count: int) -> str:
        names = [f"loss/t{i}" for i in range(count)]
        [said] = by_target(
            dataclasses.replace(
                found,
                by_target={"natural": dict.fromkeys(names, one)},
                target_sign=dict.fromkeys(names, 1.0),
                target_weights=dict.fromkeys(names, 1 / count),
            )
        )
        return said

    assert "of 10 that do not differ one or so looks as if it did" in told(10)
    assert "looks as if" not in told(3)


def test_captions_say_what_intervals_hold(found, material, planted):
    seeds = material.table.frame["seed"].replace(dict.fromkeys(planted.seeds, 0))
    known = findings(Material(RunTable(material.table.frame.assign(seed=seeds)), material.fit, material.optimum))
    unknown = dataclasses.replace(found, noise=None)
    for of, beside, below in (
        (found, "with the seed noise of new seeds", "Both are for new seeds"),
        (known, "of seeds that were fitted", "The law was fitted to runs with these seeds"),
        (unknown, "without seed noise", "because the seed noise is not known"),
    ):
        assert beside in captions.expected(of)
        assert below in captions.of("verification", of)
    assert not known.new_seeds


def test_three_held_out_runs_have_no_order_to_judge(material):
    few = findings(where(material, lambda f: (f["role"] != "held_out") | ((f["role"] == "held_out").cumsum() < 4)))
    assert few.held_out.runs == 3
    assert few.held_out.ranks_met is None
    assert "there are too few runs to rank" in " ".join(sentences(few)) or few.held_out.error_met is False
