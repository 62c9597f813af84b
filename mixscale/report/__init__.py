"""The report: what was found in a directory of runs, as numbers, figures and one page.

Reads the run table, the fitted law and the optimum, and nothing that trains; see `material.load` for the files.
"""

from __future__ import annotations

import json
from pathlib import Path

from mixscale.report.figures import draw_all
from mixscale.report.findings import Findings, findings
from mixscale.report.material import Material, load
from mixscale.report.page import page
from mixscale.report.sentences import sentences
from mixscale.report.summary import summary

__all__ = ["Findings", "Material", "findings", "load", "page", "sentences", "summary", "write"]


def write(directory: str | Path) -> Path:
    """Write result.json, summary.txt, figures/ and report.html into `directory`, from its runs, fit/ and optimum.json.

    Returns:
        the page's path.

    Raises:
        InputError: the runs, the fit or the optimum is missing or they do not belong together.
    """
    folder = Path(directory)
    material = load(folder)
    found = findings(material)
    result = {**found.to_json(), "sentences": sentences(found)}
    (folder / "result.json").write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "summary.txt").write_text(summary(found), encoding="utf-8")
    figures = draw_all(material, found, folder / "figures")
    target = folder / "report.html"
    target.write_text(page(material, found, figures), encoding="utf-8")
    return target
