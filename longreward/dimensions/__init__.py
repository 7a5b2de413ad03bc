"""The four dimensions, each a module with the same `score(answer, document) -> DimensionScore`."""

from collections.abc import Awaitable, Callable

from longreward.dimensions import completeness, faithfulness, helpfulness, logicality
from longreward.dimensions.document import Document
from longreward.schema import Dimension, DimensionScore

Score = Callable[[str, Document], Awaitable[DimensionScore]]

SCORE: dict[Dimension, Score] = {
    "helpfulness": helpfulness.score,
    "logicality": logicality.score,
    "faithfulness": faithfulness.score,
    "completeness": completeness.score,
}
