"""From raw text to a token store: sources, tokenizer, packing into rows, and the corpus that ships with mixscale.

Knows nothing of models, runs or laws. Importing it is cheap: `tensorflow_datasets` and `tokenizers` are imported
where they are used.
"""

from mixscale.data.build import build_store
from mixscale.data.records import Document
from mixscale.data.sources import documents, embedded_names
from mixscale.data.store import TokenStore

__all__ = ["Document", "TokenStore", "build_store", "documents", "embedded_names"]
