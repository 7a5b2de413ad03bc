"""The dimensions, each a module with `score(answer, document) -> DimensionScore`; that of `criteria` takes the row's
criteria, too."""

from collections.abc import Callable, Coroutine
from typing import Any

from longreward.dimensions import completeness, faithfulness, helpfulness, logicality
from longreward.dimensions.document import Document
from longreward.schema import Dimension, DimensionScore

Score = Callable[[str, Document], Coroutine[Any, Any, DimensionScore]]

SCORE: dict[Dimension, Score] = {
    "helpfulness": helpfulness.score,
    "logicality": logicality.score,
    "faithfulness": faithfulness.score,
    "completeness": completeness.score,
}
