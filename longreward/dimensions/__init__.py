"""The four dimensions, each a module with the same `score(answer, document, config) -> DimensionScore`."""

from collections.abc import Awaitable, Callable

from longreward.config import RewardConfig
from longreward.dimensions import completeness, faithfulness, helpfulness, logicality
from longreward.dimensions.document import Document
from longreward.schema import Dimension, DimensionScore

Score = Callable[[str, Document, RewardConfig], Awaitable[DimensionScore]]

SCORE: dict[Dimension, Score] = {
    "helpfulness": helpfulness.score,
    "logicality": logicality.score,
    "faithfulness": faithfulness.score,
    "completeness": completeness.score,
}
