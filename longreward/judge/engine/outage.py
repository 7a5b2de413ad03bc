"""The time in which all endpoints of the judge are away: how long calls wait for one of them to come back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from longreward.judge.engine.endpoint import Endpoint

_FIRST_PATIENCE_S = 15.0


class Outage:
    """Begins when the last endpoint fails, and ends when one of them answers.

    Calls wait at most `patience_s` for that, or `max_outage_s` where it is given.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        patience_s: float,
        max_outage_s: float | None,
        changed: Callable[[], None],
    ) -> None:
        """`changed` is called when calls begin to wait, when one endpoint is back, and when the wait is given up."""
        self._endpoints, self._patience_s, self._max_outage_s = endpoints, patience_s, max_outage_s
        self._changed = changed
        self._timer: asyncio.TimerHandle | None = None
        self.given_up = False
        """No endpoint has come back in time."""

    @property
    def patience_s(self) -> float:
        """How long a call may wait for endpoints that fail, in seconds.

        At most 15 s while no endpoint has ever worked: then the address is probably wrong.
        """
        if self._max_outage_s is not None:
            return self._max_outage_s
        worked = any(endpoint.health.worked for endpoint in self._endpoints)
        return self._patience_s if worked else min(self._patience_s, _FIRST_PATIENCE_S)

    @property
    def stops_clocks(self) -> bool:
        """Whether calls wait out the outage, so that its time does not count for them."""
        return self._max_outage_s is not None and self._timer is not None and not self.given_up

    def look(self) -> None:
        """See whether all endpoints are away now. Call it after each reply and each failure."""
        if any(e.health.failure is None or e.health.suspected for e in self._endpoints):
            self.aclose()
            self._timer, self.given_up = None, False
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.patience_s, self._end)
        self._changed()

    def aclose(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _end(self) -> None:
        self.given_up = True
        self._changed()
