"""From raw text to a token store: sources, tokenizer, packing into rows, and the corpus that ships with mixscale.

Knows nothing of models, runs or laws. Importing it is cheap: `tensorflow_datasets` and `tokenizers` are imported
where they are used.
"""

from mixscale.corpus.build import build_store
from mixscale.corpus.records import Document
from mixscale.corpus.sources import documents, embedded_names
from mixscale.corpus.store import TokenStore

__all__ = ["Document", "TokenStore", "build_store", "documents", "embedded_names"]
