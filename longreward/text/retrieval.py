"""Which chunks of a document have to do with a statement (paper, section 3.3): by words, by meaning, or by both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterable, Sequence
from itertools import count
from typing import TYPE_CHECKING

from longreward.text.language import terms

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FUSION_K = 60


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
        return sorted(self.ranked(query)[:k])

    def ranked(self, query: str) -> list[int]:
        """Indices of all texts that score above 0, the best first. Ties: the earlier text first."""
        # Without the unknown terms: for them bm25s would return arbitrary texts with a score of 0.
        ids = [self._vocabulary[term] for term in terms(query) if term in self._vocabulary]
        if self._bm25 is None or not ids:
            return []
        import numpy as np

        scores = self._bm25.get_scores_from_ids(ids)
        order = np.argsort(-scores, kind="stable")
        return [int(i) for i in order[: int((scores > 0).sum())]]


class VectorIndex:
    """An index over the embeddings of texts, compared by the cosine."""

    def __init__(self, vectors: Sequence[bytes]) -> None:
        """Vectors of float32, none all zeros, all of one length."""
        self.size = len(vectors[0]) if vectors else 0
        """Bytes of a vector."""
        self._matrix = _normalized(vectors) if vectors else None

    def ranked(self, query: bytes) -> list[int]:
        """Indices of all texts, the nearest to the query's vector first. Ties: the earlier text first."""
        if self._matrix is None:
            return []
        import numpy as np

        similarity = self._matrix @ _normalized([query])[0]
        return [int(i) for i in np.argsort(-similarity, kind="stable")]


def fused(rankings: Iterable[Sequence[int]]) -> list[int]:
    """One ranking of several, the best first: reciprocal rank fusion with k = 60 (Cormack, Clarke and Büttcher, 2009).

    Ties: the lower index first.
    """
    scores: defaultdict[int, float] = defaultdict(float)
    for ranking in rankings:
        for rank, index in enumerate(ranking, 1):
            scores[index] += 1 / (_FUSION_K + rank)
    return sorted(scores, key=lambda index: (-scores[index], index))


def _normalized(vectors: Sequence[bytes]) -> NDArray[np.float32]:
    import numpy as np

    # In float64: the square of a large float32 is none.
    matrix = np.frombuffer(b"".join(vectors), dtype="<f4").reshape(len(vectors), -1).astype(np.float64)
    return (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32)
