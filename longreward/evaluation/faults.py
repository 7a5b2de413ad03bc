"""What the figures of an audit say of a judge, in words: of each dimension what it sees and what is wrong with it, and
whether a place is preferred when two answers are compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

from longreward.evaluation.audit import Audit, Moves
from longreward.evaluation.orders import Orders

FEWEST = 5
"""Cases below which nothing is said."""
_SEES, _WEAK, _UNSEEN = 0.7, 0.5, 0.25  # shares of falls less rises
_HIGH, _LOW = 8.0, 2.0  # mean scores
_FOR_NOTHING = 0.5  # moves of harmless changes, as a share of those of flaws, from which on a dimension is noise
_TAKEN_IN = 0.25  # rises less falls with what may not raise a score
_UNSEEN_KIND = "does not see"
_LITTLE = 0.25  # of 10: a mean change below it is hardly worth a mention
_BIAS = 0.2  # pairs in which a place wins in both orders
_ONE_PLACE = 2 / 3  # of these, won by the same place
_RANDOM = "random: moves as well for nothing"


@dataclass(frozen=True)
class Finding:
    """What is said of a dimension, or of the order of two answers."""

    about: str
    sentence: str
    fault: str
    """What is wrong, in a word or two; empty where nothing is."""
    is_sure: bool = True
    """Whether there are enough cases to tell."""


def of_dimensions(audit: Audit) -> list[Finding]:
    """One for each dimension."""
    return [_of_dimension(audit, name) for name in audit.dimensions]


def of_orders(found: Orders) -> Finding:
    """Whether what stands first, or second, is preferred for its place."""
    if found.n < FEWEST:
        return Finding("order", f"only {found.n} pairs were compared", "", is_sure=False)
    places = found.first + found.second
    sentence = f"the same in both orders for {_percent(found.consistent.value)} of {found.n:,} pairs"
    sentence += f" (original {found.original:,}, flawed {found.flawed:,}, tie {found.same - _decided(found):,})"
    if places:
        sentence += f"; what stands first wins twice {found.first:,} times, what stands second {found.second:,}"
    sentence += f"; {found.void:,} pairs void" if found.void else ""
    interval = found.prefers_first.interval
    one_place = max(found.first, found.second) >= _ONE_PLACE * places >= _ONE_PLACE * _BIAS * found.n
    if one_place and interval is not None and not interval[0] <= 0.5 <= interval[1]:
        return Finding("order", sentence, f"prefers the {'first' if found.first > found.second else 'second'} answer")
    if places + found.half > found.same:
        return Finding("order", sentence, "order decides more often than the answers")
    return Finding("order", sentence, "" if _decided(found) else "tells no answers apart")


def _decided(found: Orders) -> int:
    return found.original + found.flawed


def _of_dimension(audit: Audit, name: str) -> Finding:
    flaws, harmless, again = audit.all_flaws(name), audit.harmless(name), audit.again(name)
    seen = _seen(audit, name)
    parts = [f"{kind} {', '.join(named)}" for kind, named in seen.items() if named]
    for moves, what in ((harmless, "a harmless change"), (again, "judging again")):
        if moves.changes:
            parts.append(f"{what} {_moved(moves)}")
    if flaws.void:
        parts.append(f"{flaws.void:,} cases void")
    is_sure = len(flaws.changes) >= FEWEST
    unseen = ", ".join(flaw.partition(" (")[0] for flaw in seen[_UNSEEN_KIND])
    whole = _fault(flaws, harmless, again) if is_sure else ""
    faults = [whole or (f"{_UNSEEN_KIND} {unseen}" if unseen else "")]
    faults += [] if whole == _RANDOM else _raised(audit, name)
    return Finding(name, "; ".join(parts), ", ".join(filter(None, faults)), is_sure)


def _seen(audit: Audit, name: str) -> dict[str, list[str]]:
    """What is seen, what hardly, what not, each with the share of falls and the mean change."""
    groups: dict[str, list[str]] = {
        "sees": [],
        "sees some of": [],
        "hardly moves for": [],
        _UNSEEN_KIND: [],
        "too few cases of": [],
    }
    for flaw in audit.flaws(name, "lowers"):
        moves = audit.moves(flaw.name, name)
        net, low = _net(moves)
        change = _change(moves)
        if len(moves.changes) < FEWEST:
            kind = "too few cases of"
        elif low <= 0 or net < _UNSEEN:
            kind = _UNSEEN_KIND
        else:
            kind = "hardly moves for" if change > -_LITTLE else "sees" if net >= _SEES else "sees some of"
        groups[kind].append(f"{flaw.name} ({_percent(moves.falls.value)}, {change:+.2f})")
    return groups


def _fault(flaws: Moves, harmless: Moves, again: Moves) -> str:
    """What is wrong with how a dimension answers to flaws; empty where nothing is."""
    net, low = _net(flaws)
    often = max(harmless.moved.value or 0.0, again.moved.value or 0.0)
    noisy = max(harmless.size or 0.0, again.size or 0.0) >= _FOR_NOTHING * (flaws.size or 0.0)
    if low <= 0 or net < _UNSEEN or (noisy and net < _WEAK):
        level = fmean(flaws.before)
        if level >= _HIGH:
            return f"lenient: {level:.1f} on average, whatever is wrong"
        if level <= _LOW:
            return f"harsh: {level:.1f} on average, whatever is right"
        if often and often >= _FOR_NOTHING * (flaws.moved.value or 0.0):
            return _RANDOM
        return "blind: hardly moves for what is planted"
    if noisy:
        return "noisy: harmless changes, or judging again, move it at least half as far"
    return "" if net >= _WEAK else "weak: misses more than it sees"


def _raised(audit: Audit, name: str) -> Iterator[str]:
    """What raises the score and may not."""
    for flaw in audit.flaws(name, "never_raises"):
        moves = audit.moves(flaw.name, name)
        net, change = moves.net or (0.0, None, None, 0), _change(moves)
        raised = net[0] <= -_TAKEN_IN and (net[2] or 0.0) < 0 and change >= _LITTLE
        if raised and len(moves.changes) >= FEWEST:
            yield f"raised by {flaw.name} in {_percent(moves.rises.value)} of cases, {change:+.2f}"


def _moved(moves: Moves) -> str:
    if not moves.moved.count:
        return "never moves it"
    return f"moves it in {_percent(moves.moved.value)} of cases, by {moves.size or 0:.2f} on average"


def _change(moves: Moves) -> float:
    """The mean; 0 where there are no cases."""
    return moves.change[0] if moves.change else 0.0


def _net(moves: Moves) -> tuple[float, float]:
    """Falls less rises, and the lower end of the interval."""
    mean, low, _, _ = moves.net or (0.0, None, None, 0)
    return mean, mean if low is None else low


def _percent(share: float | None) -> str:
    return "-" if share is None else "under 1%" if 0 < share < 0.005 else f"{share:.0%}"
