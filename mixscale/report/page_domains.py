"""The page's section on the text: what each domain holds, what cleaning left out of it, what it shares with others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mixscale.report.frames import cell, framed
from mixscale.report.markup import Markup, join, table
from mixscale.report.material import Material
from mixscale.report.wording import capital, percent


def domains(material: Material) -> Markup:
    """Tables of the corpus that the runs were trained on; nothing where the table of runs came without one."""
    corpus = material.corpus
    if not corpus:
        return Markup("")
    known = {"store": "Token store {}", "tokenizer": "tokenizer {}", "context": "context of {} tokens"}
    told = ", ".join(text.format(corpus[name]) for name, text in known.items() if name in corpus)
    parts = [framed(pd.DataFrame(corpus["domains"]), foot=f"{capital(told)}." if told else "")]
    found = corpus.get("statistics") or {}
    return join([*parts, *_removed(found), *_shared(found)])


def _removed(found: Mapping[str, Mapping[str, Any]]) -> list[Markup]:
    reasons = list(dict.fromkeys(reason for told in found.values() for reason in told["removed"]))
    if any(told["damaged"] for told in found.values()):
        reasons.insert(0, "damaged")
    if not reasons:
        return []
    rows = []
    for domain, told in found.items():
        of_reason = {"damaged": told["damaged"], **told["removed"]}
        rows.append([domain, cell(told["documents"]), *(cell(of_reason.get(reason, 0)) for reason in reasons)])
    foot = "Documents that were found, and those left out of training and held-out text, by reason."
    return [table(["domain", "documents found", *reasons], rows, foot=foot)]


def _shared(found: Mapping[str, Mapping[str, Any]]) -> list[Markup]:
    if not any(share for told in found.values() for share in told["shared"].values()):
        return []
    rows = [
        [domain, *("–" if domain == other else percent(told["shared"].get(other, 0.0), 1) for other in found)]
        for domain, told in found.items()
    ]
    foot = "Share of the documents of a row's domain that stand in a column's domain too."
    return [table(["domain", *found], rows, foot=foot)]
