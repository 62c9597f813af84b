"""What `mixscale export` does: reads a mixture, writes it for a trainer, and says what to do with the file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from mixscale.errors import InputError, listed
from mixscale.interop.exporters.formats import FORMATS, export
from mixscale.io import atomic_write
from mixscale.mixture_file import read_mixtures


def run(
    optimum: Path, to: str, paths: Sequence[str], mean_tokens: dict[str, float], epochs: float | None, out: Path | None
) -> None:
    """Writes to `out`, or to standard output where there is none; what it has to say goes to standard error."""
    mixture = read_mixtures(optimum, "mixture")[0]
    text = export(mixture, to, by_domain(paths), mean_tokens or None, epochs)
    form = FORMATS[to]
    if unused := [d for d, weight in mixture.items() if weight == 0 and to not in ("json", "yaml")]:
        print(f"note: without weight and left out: {listed(unused)}", file=sys.stderr)
    if form.examples and not mean_tokens:
        print(
            f"note: {form.trainer} draws examples, and the weights are shares of tokens; where the domains' examples "
            "differ in length, give --mean-tokens",
            file=sys.stderr,
        )
    if out is None:
        print(text, end="")
        return
    with atomic_write(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"mixture saved to {out}; {form.trainer} takes it as: {form.use.replace('FILE', str(out))}")


def by_domain(written: Sequence[str]) -> dict[str, list[str]]:
    """Paths from `DOMAIN=PATH`; a domain may come several times.

    Raises:
        InputError: it is written otherwise.
    """
    found: dict[str, list[str]] = {}
    for text in written:
        domain, equals, path = text.partition("=")
        if not (domain and equals and path):
            raise InputError(f"path '{text}' cannot be read; write DOMAIN=PATH, for example web=/data/web/*.npy")
        found.setdefault(domain, []).append(path)
    return found
