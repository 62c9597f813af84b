"""What cleaning removed and what domains have in common, counted for a person and for `store.json`."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from mixscale.data import encode, survey
from mixscale.data.job import HELD_OUT, REASONS, Job
from mixscale.data.splits import OVERLAPS, Decided


def statistics(job: Job, decided: Decided) -> dict[str, dict[str, Any]]:
    """By domain: `records` of its source and those `damaged` (domains of one source tell the same); `documents` found,
    and `removed` by reason; `duplication` and `shared` as in `Decided`."""
    told = {}
    for domain in job.corpus.domains:
        numbers = list(decided.first[domain])
        reason = decided.reason[domain] & ~np.uint8(HELD_OUT)
        counted = np.bincount(reason, minlength=len(REASONS))
        counted[OVERLAPS] = sum(
            json.loads(job.done(encode.STEP, n).read_text())[REASONS[OVERLAPS]][domain] for n in numbers
        )
        found = [survey.survey(job, n) for n in numbers]
        told[domain] = {
            "records": sum(f.records for f in found),
            "damaged": sum(f.damaged for f in found),
            "documents": len(reason),
            "removed": {REASONS[r]: int(n) for r, n in enumerate(counted) if r and n},
            "duplication": decided.duplication[domain],
            "shared": decided.shared[domain],
        }
    return told
