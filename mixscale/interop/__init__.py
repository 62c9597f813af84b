"""Other tools: importers read their run tables, exporters write mixtures for their trainers."""
