"""The report of a folder of runs: numbers, figures, a summary and one page.

`inputs` reads a folder, `analysis` decides the content, `templates/` hold the text. It knows nothing that trains.
"""

from __future__ import annotations

import base64
import json
import textwrap
from pathlib import Path

from markupsafe import Markup

from mixscale import plots
from mixscale.formatting import environment
from mixscale.io import REPORT_FILE, RESULT_FILE, SUMMARY_FILE, atomic_write, ensure_dir
from mixscale.report.accuracy import MAX_ERROR, MIN_SPEARMAN
from mixscale.report.analysis import Action, Analysis, analyse
from mixscale.report.inputs import Inputs, load

__all__ = ["Action", "Analysis", "Inputs", "analyse", "load", "page", "summary", "write"]

LINE = 100  # characters of a line of summary.txt
DPI = 160
WORDS = {
    "labels": plots.LABELS, "letters": {"n_params": "N", "n_tokens": "D"}, "plots": plots,
    "min_spearman": MIN_SPEARMAN, "max_error": f"{MAX_ERROR:g}",
}  # fmt: skip


def write(directory: str | Path) -> Path:
    """Write result.json, summary.txt, figures/ and report.html into `directory`, from its runs, fit/ and optimum.json.

    Returns:
        the page's path.

    Raises:
        InputError: the runs, the fit or the optimum is missing, or they do not belong together.
    """
    folder = Path(directory)
    inputs = load(folder)
    analysis = analyse(inputs)
    result = json.dumps(analysis.to_json(), indent=2, ensure_ascii=False) + "\n"
    pages = {RESULT_FILE: result, SUMMARY_FILE: summary(analysis)}
    pages[REPORT_FILE] = page(inputs, analysis, ensure_dir(folder / "figures"))
    for name, text in pages.items():
        with atomic_write(folder / name) as side:
            side.write_text(text, encoding="utf-8")
    return folder / REPORT_FILE


def page(inputs: Inputs, analysis: Analysis, figures: Path) -> str:
    """The HTML page, one file without scripts or links; its figures are also saved in the folder `figures`."""

    def figure(name: str, drawn: plots.Picture | None) -> str:
        """Saves a figure and returns its HTML; without one, removes that of an earlier report."""
        if drawn is None:
            for suffix in (".png", ".pdf"):
                (figures / f"{name}{suffix}").unlink(missing_ok=True)
            return ""
        share = 100 * drawn.get_figwidth() / plots.WIDTH  # so that type has one size
        data = base64.b64encode(plots.save(drawn, figures / name, DPI)[0].read_bytes()).decode("ascii")
        return Markup('<img src="data:image/png;base64,{}" alt="figure {}" style="max-width:{:.4g}%">').format(
            data, name, share
        )

    env = environment(html=True)
    env.filters["tojson_pretty"] = lambda value: json.dumps(value, indent=2, ensure_ascii=False)
    return env.get_template("page.html.j2").render(a=analysis, inputs=inputs, figure=figure, **WORDS)


def summary(analysis: Analysis) -> str:
    """The findings as plain text, tables of at most 110 and sentences of `LINE` characters wide."""
    env = environment(html=False)
    env.filters |= {"wrap": _wrap, "bullet": lambda text: _wrap(text, "- ", "  "), "columns": _columns}
    env.filters["tabbed"] = lambda cells: "\t".join(" ".join(str(c).split()) for c in cells)
    return env.get_template("summary.txt.j2").render(a=analysis, **WORDS)


def _wrap(text: str, first: str = "", then: str = "") -> str:
    return textwrap.fill(" ".join(text.split()), LINE, initial_indent=first, subsequent_indent=then)


def _columns(text: str) -> str:
    """Tab-separated lines as a table: the first column to the left, the others to the right."""
    rows = [line.split("\t") for line in text.splitlines() if line.strip()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = ([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows)
    return "".join("  ".join(row).rstrip() + "\n" for row in cells)
