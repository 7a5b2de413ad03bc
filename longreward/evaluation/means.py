"""From the values of single items to the means of datasets, of classes and of all: the published way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from longreward.evaluation.intervals import MeanEstimate, mean_of_datasets, means_of_columns
from longreward.evaluation.report import Grouping, MeanRow, PairResult, PaperTable, Result, tally
from longreward.evaluation.scoring import ItemOutcome
from longreward.evaluation.tasks import CHAT, CLASSES, DATASETS


def summarise(scored: Mapping[str, Sequence[ItemOutcome]], judge: str = "") -> Result:
    """One policy's scores, or two policies' side by side, by the policies' names, first the one to compare with.

    A class's mean is that of its datasets' means, the average that of all datasets' means, over those that the items
    come from. Where all of a dataset's items are void, it has no mean, nor have its class and the average. ValueError
    for more than two policies, for none, and for items that are not all of one evaluation.
    """
    if not 1 <= len(scored) <= 2:
        raise ValueError(f"one policy or two can be reported, not {len(scored)}")
    of_items = {one.item.dataset for outcomes in scored.values() for one in outcomes}
    if not of_items or not (of_items == {CHAT} or of_items <= set(DATASETS)):
        raise ValueError(f"the items must all be of LongBench or of LongBench-Chat, found {sorted(of_items)}")
    values = [_by_dataset(outcomes) for outcomes in scored.values()]
    changes = _changes(*values) if len(values) == 2 else None
    chat = of_items == {CHAT}
    datasets = [name for name in DATASETS if name in of_items]
    groups: list[tuple[str, Grouping, list[str]]] = [(n, "datasets", [n]) for n in datasets]
    for name, of_class in CLASSES.items():
        if present := [dataset for dataset in of_class if dataset in datasets]:
            groups.append((name, "classes", present))
    groups.append(("average", "average", [CHAT] if chat else datasets))
    scale = (1.0, 10.0) if chat else (0.0, 1.0)
    most = scale[1] - scale[0]
    lines = []
    for name, level, members in groups:
        difference = None if changes is None else _mean(changes, members, (-most, most))
        lines.append(MeanRow(name, level, tuple(_mean(one, members, scale) for one in values), difference))
    accounts = tuple(map(tally, scored.values()))
    return Result(CHAT if chat else "longbench", tuple(scored), accounts, lines, judge)


PAPER_COLUMNS: dict[str, Sequence[str]] = {CHAT: (CHAT,), **CLASSES}
"""The columns of the paper's table (arXiv 2410.21252, table 2) and their datasets."""
_TIMES = {CHAT: 10.0}
"""What makes a column's values those of the paper's scale, 0 to 100; 100 for all others."""


def paper_table(scored: Mapping[str, Sequence[ItemOutcome]], judge: str = "") -> PaperTable:
    """The policies' scores on the paper's scale, by the policies' names: LongBench x 100, LongBench-Chat's mean x 10.

    The outcomes of a policy are those of LongBench and of LongBench-Chat together. A column is there where any of its
    datasets is, and tells which are not; the average of the four where all are there and each has a mean.
    """
    values = {name: _by_dataset(outcomes) for name, outcomes in scored.items()}
    missing = {name: found for name, of_policy in values.items() if (found := _missing(of_policy))}
    return PaperTable({name: _as_published(of_policy) for name, of_policy in values.items()}, judge, missing)


def summarise_pairs(policy_a: str, policy_b: str, compared: Sequence[ItemOutcome], judge: str = "") -> PairResult:
    """What came of comparing two policies' answers, given their names in the order of `compare`."""
    values = [one.value for one in compared if one.value is not None]
    wins = Counter(values)
    score = mean_of_datasets([values], (0.0, 1.0))
    return PairResult((policy_a, policy_b), tally(compared), wins[0.0], wins[0.5], wins[1.0], score, judge)


def _missing(values: _Values) -> dict[str, list[str]]:
    """Of each column that is there, the datasets that are not."""
    found = {name: [one for one in datasets if one not in values] for name, datasets in PAPER_COLUMNS.items()}
    return {name: lacks for name, lacks in found.items() if 0 < len(lacks) < len(PAPER_COLUMNS[name])}


def _as_published(values: _Values) -> dict[str, MeanEstimate]:
    columns, scales = {}, []
    for name, datasets in PAPER_COLUMNS.items():
        if present := [dataset for dataset in datasets if dataset in values]:
            times = _TIMES.get(name, 100.0)
            columns[name] = [[times * value for value in values[dataset].values()] for dataset in present]
            scales.append((times if name == CHAT else 0.0, 100.0))
    estimates, average = means_of_columns(list(columns.values()), scales)
    found = dict(zip(columns, estimates, strict=True))
    whole = len(found) == len(PAPER_COLUMNS) and average.mean is not None
    return found | ({"average": average} if whole else {})


_Values = dict[str, dict[str, float]]
"""Dataset -> item's id -> value, of those that have one."""


def _by_dataset(outcomes: Sequence[ItemOutcome]) -> _Values:
    found: _Values = {}
    for one in outcomes:
        values = found.setdefault(one.item.dataset, {})
        if one.value is not None:
            values[one.item.id] = one.value
    return found


def _changes(first: _Values, second: _Values) -> _Values:
    """Second less first, of the items that both have."""
    return {
        name: {key: value - first[name][key] for key, value in values.items() if key in first.get(name, {})}
        for name, values in second.items()
    }


def _mean(values: _Values, datasets: Sequence[str], scale: tuple[float, float]) -> MeanEstimate:
    return mean_of_datasets([list(values.get(dataset, {}).values()) for dataset in datasets], scale)
