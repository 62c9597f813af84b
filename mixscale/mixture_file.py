"""Reads mixtures as people write them: a dict, pairs of domain and weight, a JSON file or a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from mixscale.documents import named_weights, parse_json
from mixscale.errors import InputError
from mixscale.io import OPTIMUM_FORMAT, check_format
from mixscale.mixture import Mixture
from mixscale.table_file import numeric, read_frame

# A dict of weights, the path of a file, or the words of a command line: `web 0.7 code 0.3`, or one path.
Written = Mapping[str, float] | str | Path | Sequence[str]


def as_mixture(written: Written | None, what: str) -> Mixture | None:
    """A mixture, the only one of a file; None for nothing.

    Args:
        what: where it is written (`--current`, `prior`); errors begin with it.

    Raises:
        InputError: it cannot be read, a file has several mixtures, a weight is negative or not finite, or the weights
            do not sum to one (within .01 in a table, 1e-6 otherwise).
    """
    if isinstance(written, Mixture):
        return written
    if isinstance(written, str | Path):
        return _only(read_mixtures(written, what), written, what)
    if not written:
        return None
    if isinstance(written, Sequence) and len(written) == 1:
        found = read_mixtures(written[0], what, "; write DOMAIN WEIGHT DOMAIN WEIGHT, or a file")
        return _only(found, written[0], what)
    try:
        return Mixture(written if isinstance(written, Mapping) else _pairs(written))
    except InputError as error:
        raise InputError(f"{what}: {error}") from error


def read_mixtures(path: str | Path, what: str, remedy: str = "") -> list[Mixture]:
    """The mixtures of a file: JSON (weights by domain, or an optimum), or a table with one in each row.

    Args:
        what: where the path is written; errors begin with it. remedy: end of the error for a missing file.

    Raises:
        InputError: as `as_mixture`.
    """
    file = Path(path)
    try:
        if not file.is_file():
            raise InputError(f"there is no file '{path}'{remedy}")
        if file.suffix == ".json":
            return [Mixture(_json_weights(file))]
        weights_RxK = table_weights(read_frame(file), f"'{file}'")
        return [Mixture.from_array(list(weights_RxK), row_K) for row_K in weights_RxK.to_numpy()]
    except InputError as error:
        raise InputError(f"{what}: {error}") from error


def table_weights(frame: pd.DataFrame, what: str, domains: Sequence[str] | None = None) -> pd.DataFrame:
    """The columns `mix/DOMAIN` of a table, under the bare names of the domains.

    Args:
        what: the table, as errors name it. domains: the required names, in order; None: those of the table.

    Raises:
        InputError: the table has no such column, no row or other domains, or a value is not a number.
    """
    found = [str(c).removeprefix("mix/") for c in frame.columns if str(c).startswith("mix/")]
    if not found:
        raise InputError(f"{what} has no columns mix/DOMAIN; name the columns of weights like mix/web")
    wanted = found if domains is None else list(domains)
    missing, extra = [d for d in wanted if d not in found], [d for d in found if d not in wanted]
    if missing or extra:
        parts = [f"{word} {', '.join(names)}" for word, names in (("missing", missing), ("extra", extra)) if names]
        remedy = "; write 0 for a domain that is not used" if missing else ""
        raise InputError(f"{what}: the domains differ from the fit's: {'; '.join(parts)}{remedy}")
    if not len(frame):
        raise InputError(f"{what} has no rows; give one row per mixture")
    return pd.DataFrame({d: numeric(frame[f"mix/{d}"]).to_numpy(dtype="float64") for d in wanted})


def _only(found: list[Mixture], path: str | Path, what: str) -> Mixture:
    if len(found) > 1:
        raise InputError(f"{what}: '{path}' has {len(found)} mixtures, one per row; give a file with one")
    return found[0]


def _pairs(words: Sequence[str]) -> dict[str, float]:
    shown = " ".join(words)
    if len(words) % 2:
        raise InputError(f"'{shown}' cannot be read; write DOMAIN WEIGHT DOMAIN WEIGHT, or one file")
    names = words[::2]
    try:
        weights = numeric(pd.Series(words[1::2], name="weight"))
    except InputError as error:
        raise InputError(f"'{shown}' cannot be read ({error}); write DOMAIN WEIGHT DOMAIN WEIGHT") from error
    if repeated := next((n for n in names if names.count(n) > 1), None):
        raise InputError(f"'{shown}' names '{repeated}' twice; give each domain one weight")
    return dict(zip(names, weights, strict=True))


def _json_weights(file: Path) -> dict[str, float]:
    """Weights by domain, or those under `mixture` of an optimum."""
    try:
        written = parse_json(file.read_text("utf-8-sig"), "the file")
        content = named_weights(written, "the file")
        if content:
            nested = named_weights(content.get("mixture"), "mixture")
            if nested is not None:
                remedy = "run `mixscale optimize` again"
                check_format(content.get("format"), OPTIMUM_FORMAT, f"optimum '{file}'", remedy)
            return {str(d): float(w) for d, w in (content if nested is None else nested).items()}
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"'{file}' is not a mixture: {error}") from error
    example = '{"web": 0.7, "code": 0.3}'
    raise InputError(f"'{file}' is not a mixture; write weights by domain, such as {example}")
