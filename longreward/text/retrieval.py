"""BM25 over the chunks of one document: the evidence for a statement (paper, section 3.3)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Sequence
from itertools import count

from longreward.text.language import terms


class BM25Index:
    """An index over texts (a document's chunks). The bm25s library scores them in this process; there is no model."""

    def __init__(self, texts: Sequence[str]) -> None:
        for _ in self._build(texts):
            pass

    @classmethod
    def in_steps(cls, texts: Sequence[str]) -> Generator[None, None, BM25Index]:
        """The index, a step at a time."""
        index = cls.__new__(cls)
        yield from index._build(texts)
        return index

    def _build(self, texts: Sequence[str]) -> Generator[None, None, None]:
        # bm25s imports numpy and, where installed, numba. That takes a second, which `import longreward` must not take.
        import bm25s

        # Term -> its number. A new term gets the next number.
        self._vocabulary: defaultdict[str, int] = defaultdict(count().__next__)
        ids = []
        for text in texts:
            ids.append([self._vocabulary[term] for term in terms(text)])
            yield
        self._bm25 = None
        # bm25s raises on a corpus without a single token.
        if self._vocabulary:
            self._bm25 = bm25s.BM25(backend="numpy", csc_backend="numpy")
            self._bm25.index((ids, dict(self._vocabulary)), create_empty_token=False, show_progress=False)

    def knows(self, query: str) -> bool:
        """Whether any term of the query is in the texts."""
        return any(term in self._vocabulary for term in terms(query))

    def top(self, query: str, k: int) -> list[int]:
        """Indices, in document order, of the at most `k` texts that score best and above 0.

        Ties go to the earlier text. Empty if no term of the query is in the texts. ValueError for a negative k.
        """
        if k < 0:
            raise ValueError(f"k is {k}; it must be 0 or more")
        # Without the unknown terms: for them bm25s would return arbitrary texts with a score of 0.
        ids = [self._vocabulary[term] for term in terms(query) if term in self._vocabulary]
        if self._bm25 is None or not ids or not k:
            return []
        import numpy as np

        scores = self._bm25.get_scores_from_ids(ids)
        best = np.argsort(-scores, kind="stable")[:k]
        return sorted(int(i) for i in best if scores[i] > 0)
