"""Files and texts of others: JSON lines, locks, and JSON and YAML of bounded depth."""
