"""Tables and mixtures of other tools: importers read their run tables, exporters write their mixture files."""
