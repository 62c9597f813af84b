"""The report: what was found in a directory of runs, as numbers, figures and one page.

Reads the run table, the fitted law and the optimum, and nothing that trains; see `material.load` for the files.
"""

from __future__ import annotations

import json
from pathlib import Path

from mixscale.io import atomic_write
from mixscale.report.figures import draw_all
from mixscale.report.findings import Findings, findings
from mixscale.report.material import Material, load
from mixscale.report.page import page
from mixscale.report.sentences import sentences
from mixscale.report.summary import summary

__all__ = ["Findings", "Material", "findings", "load", "page", "sentences", "summary", "write"]


def write(directory: str | Path) -> Path:
    """Write result.json, summary.txt, figures/ and report.html into `directory`, from its runs, fit/ and optimum.json.

    Each file is written whole or not at all.

    Returns:
        the page's path.

    Raises:
        InputError: the runs, the fit or the optimum is missing or they do not belong together.
    """
    folder = Path(directory)
    material = load(folder)
    found = findings(material)
    result = {**found.to_json(), "sentences": sentences(found)}
    _write_text(folder / "result.json", json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    _write_text(folder / "summary.txt", summary(found))
    figures = draw_all(material, found, folder / "figures")
    target = folder / "report.html"
    _write_text(target, page(material, found, figures))
    return target


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path) as side:
        side.write_text(text, encoding="utf-8")
