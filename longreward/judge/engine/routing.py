"""Which endpoint a request goes to.

All calls about one document prefer the same endpoint (rendezvous hashing), because its prefix cache then has the
document. An endpoint that is unwell, or has more than its fair share of the load, is passed over.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import blake2b

from longreward.judge.engine.endpoint import Endpoint, Permit, Waiter
from longreward.judge.engine.hedging import Hedging

_MOST_LOADED = 1.25
"""An endpoint takes at most this many times its fair share of the load (consistent hashing with bounded loads)."""
_NOT_WORTH_MOVING = 0.25
"""Below this share of its places an endpoint keeps all its documents: nothing waits, and its prefix cache has them."""
_CALM_S = 10.0
"""So long after an endpoint asked for fewer requests it gets no second ones."""


def for_document(endpoints: Sequence[Endpoint], waiter: Waiter, now: float) -> Endpoint | None:
    """The endpoint for a request, chosen by its document among those that are well and not overloaded; the one that may
    be asked soonest where none is well, None where all refuse us."""
    ranked = _ranked(endpoints, waiter.document)
    open_to_us = [e for e in ranked if not e.health.refuses_us or e.health.wait(now) == 0]
    well = [e for e in open_to_us if e.health.wait(now) == 0]
    if not well:
        return min(open_to_us, key=lambda e: e.health.wait(now), default=None)
    well = [e for e in well if e is not waiter.avoid] or well
    total = sum(e.load for e in well) + 1
    places = sum(max(1, e.concurrency.limit) for e in well)
    for endpoint in well:
        places_here = max(1, endpoint.concurrency.limit)
        fair = total * places_here / places
        if endpoint.load < max(math.ceil(_MOST_LOADED * fair), _NOT_WORTH_MOVING * places_here):
            return endpoint
    return min(well, key=lambda e: e.load)


def for_another(
    endpoints: Sequence[Endpoint], permit: Permit, document: str, hedging: Hedging, now: float
) -> Endpoint | None:
    """The endpoint for a second request beside a late one: another one than that of `permit`, or the same where there
    is no other. None where each would be slower for it, or is slow with all requests."""
    others = [e for e in _ranked(endpoints, document) if e is not permit.endpoint]
    fit = [e for e in others or [permit.endpoint] if _serves_another(e, permit, hedging, now, others=bool(others))]
    # Where all places are taken it goes first in the queue: the call that is late holds up more than one that is not.
    return next((e for e in fit if e.wait(permit.tokens, now) == 0), None) or next(iter(fit), None)


def _serves_another(endpoint: Endpoint, permit: Permit, hedging: Hedging, now: float, *, others: bool) -> bool:
    well = endpoint.health.failure is None and now - endpoint.last_refused > _CALM_S
    allowed = max(endpoint.requests.wait(1, now), endpoint.tokens.wait(permit.tokens, now)) == 0
    return well and allowed and endpoint.flow.is_in_time(hedging, now, None if others else permit.serial)


def _ranked(endpoints: Sequence[Endpoint], document: str) -> Sequence[Endpoint]:
    """All of them; first the one that the document prefers."""
    if len(endpoints) == 1:
        return endpoints
    return sorted(endpoints, key=lambda e: _rank(e.name, document), reverse=True)


def _rank(endpoint: str, document: str) -> bytes:
    return blake2b(f"{endpoint}\0{document}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
