"""`write` makes a complete report: numbers, figures, and a page without links."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mixscale import plots, report
from mixscale.errors import InputError
from mixscale.optimization import optimize
from mixscale.run_table import RunTable
from mixscale.sweeps.directory import open_directory

NAMES = ("optimum", "front", "verification", "predicted_observed", "slices", "interaction", "noise", "swarm")
VOID = {"meta", "img", "br"}


@pytest.fixture(scope="module")
def written(planted):
    (planted.folder / "experiment.json").write_text(json.dumps({"format": 1, "name": "quick <b>start</b>", "seed": 0}))
    return report.write(planted.folder)


class Balanced(HTMLParser):
    """Fails on a misplaced closing tag; collects what the page would load."""

    def __init__(self):
        super().__init__()
        self.open, self.loads, self.dataset = [], [], set()

    def handle_starttag(self, tag, attrs):
        self.dataset.add(tag)
        self.loads += [v for k, v in attrs if k in ("src", "href", "data", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_every_figure_is_there_in_both_formats(written):
    for name in NAMES:
        png, pdf = (written.parent / "figures" / f"{name}{suffix}" for suffix in (".png", ".pdf"))
        assert png.read_bytes().startswith(b"\x89PNG")
        assert pdf.read_bytes().startswith(b"%PDF")


def test_the_page_is_whole_and_loads_nothing(written):
    text = written.read_text(encoding="utf-8")
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    assert len(parser.loads) == len(NAMES)
    assert all(load.startswith("data:image/png;base64,") for load in parser.loads)
    assert not re.search(r"url\(|@import", text)


def test_names_from_data_are_escaped(written):
    parser = Balanced()
    text = written.read_text(encoding="utf-8")
    parser.feed(text)
    assert not parser.dataset & {"script", "link", "iframe"}
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "quick &lt;b&gt;start&lt;/b&gt;" in text


def test_the_page_shows_the_recommendation_then_the_figure_then_the_numbers(written):
    text = written.read_text(encoding="utf-8")
    order = ['class="lead no"', "0.0500 ± 0.0097 nats per token", "<img", 'class="tiles"', "<table>", "<h2>Findings"]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert text.index("exponential") > text.index("<h2>Method</h2>")  # the law's name is a footnote
    for part in ("<td>uniform</td>", "run000", "not significant", "share seed 0", "<h2>Effect of each domain</h2>"):
        assert part in text


def test_result_json_has_the_numbers_of_the_page(written, planted):
    result = json.loads((written.parent / "result.json").read_text(encoding="utf-8"))
    assert result["law"] == "exponential"
    assert set(result["optimum"]) == set(planted.domains) == set(result["optimum_interval"])
    assert result["comparisons"]["uniform"]["verdict"] == "better"
    assert result["runs"] == {"complete": len(planted.frame) - 1, "diverged": 1}
    assert len(result["candidates"]["optimum"]["objective"]["observed"]) == 3
    assert {"objective", "ranks_met", "error_met", "plain"} <= set(result["held_out"])
    assert result["format"] == 1
    assert result["recommendation"]["action"] == "reject"
    assert "points" not in result
    assert {"sd", "degrees_of_freedom", "paired_sd", "paired_degrees_of_freedom"} == set(result["noise"])


def test_the_summary_fits_a_terminal(written):
    lines = (written.parent / "summary.txt").read_text(encoding="utf-8").splitlines()
    uniform = next(line for line in lines if line.startswith("uniform"))
    assert uniform.split()[-4:] == ["0.0500", "±", "0.0097", "better"]
    assert max(map(len, lines)) <= 110


def test_runs_are_in_the_order_that_the_page_states(written, planted):
    text = written.read_text(encoding="utf-8")
    body = text[text.index("<h2>Runs</h2>") :]
    shown = re.findall(r"<td>(run\d+)</td><td>(\w+)</td>", body)
    frame = planted.frame.set_index("run")
    mean = frame[[c for c in frame if c.startswith("loss/")]].mean(axis=1)
    roles = [role for _, role in shown]
    assert len(shown) == len(frame)
    assert roles == sorted(roles, key=["verify", "held_out", "fit"].index)
    for role in ("verify", "held_out", "fit"):
        runs = [run for run, of in shown if of == role and frame["status"][run] == "complete"]
        assert runs == sorted(runs, key=mean.__getitem__)
    assert shown[-1][0] == frame.index[frame["status"] == "diverged"][0]


def data_section(inputs: report.Inputs) -> str:
    """The page's section on data, without drawing figures."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("weights", "verification", "front", "agreement", "slices", "interaction", "noise", "swarm"):
            patch.setattr(plots, name, lambda *_, **__: None)
        text = report.page(inputs, report.analyse(inputs), Path("/nowhere"))
    return text.partition("<h2>Data</h2>")[2].partition("</section>")[0]


def test_the_domains_are_those_that_a_sweep_wrote(written, tmp_path, small, store):
    folder = tmp_path / "swept"
    shutil.copytree(written.parent, folder, ignore=shutil.ignore_patterns("figures"))
    swept = open_directory(dataclasses.replace(small, output=str(tmp_path), name="sweep"), store)
    shutil.copy(swept / "corpus.json", folder)
    text = data_section(report.load(folder))
    for domain, unique in store.unique_tokens.items():
        assert f"<td>{domain}</td>" in text
        assert f"{unique:,}" in text
    assert all(str(part) in text for part in (store.id, store.vocab_size, store.context))


def test_the_page_shows_removed_and_shared_documents(written):
    counts = {"documents": 1234, "damaged": 0, "removed": {"near copy": 17}, "shared": {"code": 0.25}}
    found = {"code": counts | {"shared": {}}, "fiction": counts | {"removed": {"copy": 5}, "damaged": 3}}
    inputs = dataclasses.replace(report.load(written.parent), corpus={"domains": [], "statistics": found})
    text = data_section(inputs)
    assert '<td>fiction</td><td class="n">1,234</td><td class="n">3</td>' in text
    assert "near copy" in text
    assert "17" in text
    assert "25.0%" in text


def test_the_page_has_no_empty_table_of_removed_documents(written):
    counts = {"documents": 1234, "damaged": 0, "removed": {}, "shared": {}}
    inputs = dataclasses.replace(report.load(written.parent), corpus={"domains": [], "statistics": {"code": counts}})
    assert "1,234" not in data_section(inputs)


def test_a_corpus_of_another_layout_is_refused(written, tmp_path):
    folder = tmp_path / "old"
    shutil.copytree(written.parent, folder, ignore=shutil.ignore_patterns("figures"))
    for content in ([{"domain": "a"}], {"domains": []}, {"format": 0, "domains": []}, {"format": 1}):
        (folder / "corpus.json").write_text(json.dumps(content))
        with pytest.raises(InputError, match=r"corpus\.json"):
            report.load(folder)


@pytest.fixture(scope="module")
def again(written, tmp_path_factory):
    """The directory reported once more, for an optimum of unequal weights; and the inodes of the first report."""
    folder = tmp_path_factory.mktemp("again") / "weighted"
    shutil.copytree(written.parent, folder)
    optimize(report.load(folder).fit, weights={"$code$": 3, "books & 'more'": 1}).save(folder / "optimum.json")
    before = {path: path.stat().st_ino for path in folder.rglob("*") if path.suffix in (".html", ".txt", ".png")}
    before[folder / "result.json"] = (folder / "result.json").stat().st_ino
    kept = folder / "kept"  # hard links, so that no inode is reused
    kept.mkdir()
    for path in before:
        (kept / path.name).hardlink_to(path)
    report.write(folder)
    return folder, before


def test_unequal_weights_are_in_the_objective(again):
    text = re.sub(r'base64,[^"]*', "", (again[0] / "report.html").read_text(encoding="utf-8"))
    assert "weighted mean loss ($code$ 75%, " in text
    assert '<th scope="col">weighted mean loss</th>' in text
    assert "mean loss" not in text.replace("weighted mean loss", "").replace("Weighted mean loss", "")
    assert "earlier optimum" in text


def test_every_file_is_renamed_into_place(again):
    folder, before = again
    assert len(before) == 3 + len(NAMES)
    assert all(path.stat().st_ino != inode for path, inode in before.items())
    assert not [p for p in folder.rglob(".*")]


def test_a_foreign_table_makes_a_page(written, tmp_path):
    folder = tmp_path / "foreign"
    shutil.copytree(written.parent / "fit", folder / "fit")
    shutil.copy(written.parent / "optimum.json", folder)
    frame = RunTable.read(written.parent).complete().frame
    known = ["run", *(c for c in frame if c.startswith(("mix/", "loss/")))]
    frame.loc[frame["role"] == "fit", known].to_csv(folder / "runs.csv", index=False)
    text = report.write(folder).read_text(encoding="utf-8")
    assert "not verified by training" in text
    assert not (folder / "figures" / "verification.png").exists()


@pytest.mark.parametrize(
    ("missing", "command"), [("runs.parquet", "sweep"), ("fit", "fit"), ("optimum.json", "optimize")]
)
def test_a_missing_file_names_the_command_that_makes_it(written, tmp_path, missing, command):
    folder = tmp_path / "part"
    shutil.copytree(written.parent, folder, ignore=shutil.ignore_patterns(missing, "figures"))
    with pytest.raises(InputError, match=rf"{missing}.*`mixscale {command} "):
        report.write(folder)


def test_a_fit_of_another_table_is_refused(written, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(written.parent, folder, ignore=shutil.ignore_patterns("figures"))
    frame = RunTable.read(folder).frame.rename(columns={"loss/$code$": "loss/else"})
    frame.to_parquet(folder / "runs.parquet")
    with pytest.raises(InputError, match=r"'loss/\$code\$' of the fit is not in the run table"):
        report.write(folder)
