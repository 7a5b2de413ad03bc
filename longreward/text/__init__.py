"""Text work without a judge or a model: chunks, retrieval, language, sentences. Pure."""
