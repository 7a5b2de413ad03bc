"""Work in the background, and who goes first on a busy event loop."""
