"""From raw text to a token store: sources, cleaning, tokenizer and packing, and a corpus that ships with mixscale.

Importing it is cheap: `tensorflow_datasets`, `tokenizers` and pandas are imported where they are used.
"""

from mixscale.data.build import build_store
from mixscale.data.sources import documents
from mixscale.data.sources.base import Document
from mixscale.data.sources.text import embedded_names
from mixscale.data.store import TokenStore

__all__ = ["Document", "TokenStore", "build_store", "documents", "embedded_names"]
