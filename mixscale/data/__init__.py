"""From raw text to a token store: sources, cleaning, tokenizer, packing into rows, and a corpus that ships with it.

Knows nothing about models, runs or laws. Importing it is cheap: `tensorflow_datasets`, `tokenizers` and pandas are
imported where they are used.
"""

from mixscale.data.build import build_store
from mixscale.data.sources import documents
from mixscale.data.sources.base import Document
from mixscale.data.sources.jsonl import embedded_names
from mixscale.data.store import TokenStore

__all__ = ["Document", "TokenStore", "build_store", "documents", "embedded_names"]
