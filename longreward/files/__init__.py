"""Files and texts of others: JSON lines, and JSON and YAML of bounded depth."""
