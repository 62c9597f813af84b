"""`TokenStore`: the rows of every domain, ready to train on, with what is known about them.

A store is a folder that never changes once it has its name: `store.json`, `tokenizer.json` and one TFDS dataset a
domain. This module reads it; `build.py` writes it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mixscale.data import pack, tokenizer
from mixscale.errors import InputError
from mixscale.mixture import Mixture

if TYPE_CHECKING:
    import pandas as pd

FILE = "store.json"


@dataclass(frozen=True, eq=False)
class TokenStore:
    """Packed tokens of a corpus; open one with `TokenStore.open` or `build_store`."""

    path: Path
    id: str
    """hash of the text and of the settings that decide how it is packed"""
    domains: tuple[str, ...]
    """in the order of the config"""
    context: int
    """tokens a row predicts; it holds one more"""
    vocab_size: int
    tokenizer_hash: str
    facts: dict[str, dict[str, int]]
    """counts by domain: documents and held_out_documents, train_bytes and validation_bytes (UTF-8), train_tokens and
    validation_tokens (each document's end included), train_rows and validation_rows"""
    statistics: dict[str, dict[str, Any]] = field(default_factory=dict)
    """what was found and left out, by domain, as `statistics.statistics` describes it; empty in older stores"""

    @classmethod
    def open(cls, path: str | Path) -> TokenStore:
        """The store in folder `path`.

        Raises:
            InputError: there is no store, or its tokenizer is not the one it was built with.
        """
        folder = Path(path)
        if not (folder / FILE).is_file():
            raise InputError(f"'{folder}' is no token store; `mixscale corpus` builds one")
        if not (folder / tokenizer.FILE).is_file():
            raise InputError(f"token store '{folder}' has lost its {tokenizer.FILE}; delete it and build it again")
        written: dict[str, Any] = json.loads((folder / FILE).read_text("utf-8"))
        asked, found = written["tokenizer"]["hash"], tokenizer.file_hash(folder)
        if asked != found:
            raise InputError(
                f"token store '{folder}' was built by tokenizer {asked}, but the tokenizer beside it is {found}; "
                f"delete the store and build it again"
            )
        return cls(
            path=folder,
            id=written["id"],
            domains=tuple(written["domains"]),
            context=written["context"],
            vocab_size=written["tokenizer"]["vocab_size"],
            tokenizer_hash=asked,
            facts=written["domains"],
            statistics=written.get("statistics", {}),
        )

    @property
    def tokenizer(self) -> tokenizer.Tokenizer:
        return tokenizer.load(self.path)

    def rows(self, domain: str, split: str) -> np.ndarray:
        """Token ids, shape (rows, context + 1); `split` is train or validation. Read anew at each call.

        They are uint16, or uint32 where the vocabulary has more than 65,536 tokens.
        """
        if domain not in self.domains:
            raise InputError(f"token store {self.id} has no domain '{domain}'; it has {', '.join(self.domains)}")
        if split not in pack.SPLITS:
            raise InputError(f"no split is called '{split}'; there are {' and '.join(pack.SPLITS)}")
        return pack.read_rows(self.path, domain, split)

    @property
    def unique_tokens(self) -> dict[str, int]:
        """Tokens that training can predict before it must repeat, by domain."""
        return {d: f["train_rows"] * self.context for d, f in self.facts.items()}

    @property
    def bytes_per_token(self) -> dict[str, float]:
        """UTF-8 bytes of held-out text a token, ends of documents counted; it turns nats a token into bits a byte."""
        return {d: f["validation_bytes"] / f["validation_tokens"] for d, f in self.facts.items()}

    def natural(self) -> Mixture:
        """Each domain by its unique training tokens."""
        return Mixture.normalized(self.unique_tokens)

    def table(self) -> pd.DataFrame:
        """One row a domain, for people to read."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "domain": d,
                    "documents": f["documents"],
                    "held-out documents": f["held_out_documents"],
                    "bytes": f["train_bytes"] + f["validation_bytes"],
                    "tokens": f["train_tokens"] + f["validation_tokens"],
                    "unique tokens": self.unique_tokens[d],
                    "validation rows": f["validation_rows"],
                    "bytes/token": round(self.bytes_per_token[d], 3),
                    **self._found(d),
                }
                for d, f in self.facts.items()
            ]
        )

    def removed(self) -> pd.DataFrame:
        """Documents left out of each domain, a column a reason, and damaged records; no columns for none."""
        import pandas as pd

        told = {d: {"damaged": s["damaged"], **s["removed"]} for d, s in self.statistics.items()}
        table = pd.DataFrame.from_dict(told, "index").fillna(0).astype(int)
        return _with_domain(table.loc[:, table.any()])

    def shared(self) -> pd.DataFrame:
        """Share of the documents of a row's domain that stand in a column's too; no columns where none do."""
        import pandas as pd

        table = pd.DataFrame.from_dict({d: s["shared"] for d, s in self.statistics.items()}, "index")
        table = table.reindex(index=list(self.statistics), columns=list(self.statistics)).fillna(0.0).round(4)
        return _with_domain(table if table.to_numpy().any() else table[[]])

    def _found(self, domain: str) -> dict[str, float]:
        if domain not in self.statistics:
            return {}
        told = self.statistics[domain]
        return {"duplication": round(told["duplication"], 4), "left out": sum(told["removed"].values())}


def _with_domain(table: pd.DataFrame) -> pd.DataFrame:
    """The index as a column, for printing."""
    return table.rename_axis("domain").reset_index() if len(table.columns) else table
