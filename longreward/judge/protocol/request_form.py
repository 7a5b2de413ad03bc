"""The fields of a request that judges disagree about, and what an endpoint has been learnt to take."""

from __future__ import annotations

from typing import Any, Literal

LimitField = Literal["max_tokens", "max_completion_tokens"]
_OTHER: dict[LimitField, LimitField] = {
    "max_tokens": "max_completion_tokens",
    "max_completion_tokens": "max_tokens",
}


class RequestForm:
    """How one endpoint wants the length limit and the temperature. OpenAI's reasoning models refuse `max_tokens` and
    every temperature but their own, with a 400 that names the field: it is not sent to that endpoint again."""

    def __init__(self, limit_field: LimitField | None = None) -> None:
        self._limit_field: LimitField = limit_field or "max_tokens"
        self._takes_temperature = True
        self._changed_field = False

    def fields(self, temperature: float | None, max_tokens: int, extra: dict[str, Any]) -> dict[str, Any]:
        """The fields for this temperature (None: the endpoint's own) and length, with `extra` over them; null in
        `extra` leaves a field out."""
        found: dict[str, Any] = {}
        if temperature is not None and self._takes_temperature:
            found["temperature"] = temperature
        # Both limits at once are refused as well.
        if extra.get(_OTHER[self._limit_field]) is None:
            found[self._limit_field] = max_tokens
        found |= extra
        return {name: value for name, value in found.items() if value is not None or name not in extra}

    @staticmethod
    def limits(fields: dict[str, Any]) -> list[int]:
        """What these fields of a request say about the reply's length."""
        return [fields[name] for name in _OTHER if isinstance(fields.get(name), int)]

    def learn(self, unsupported: str, sent: dict[str, Any], extra: dict[str, Any]) -> bool:
        """Whether the request is worth sending again without the field that was refused. `extra` is the user's own
        word: it is sent as it is."""
        if unsupported not in sent or unsupported in extra:
            return False
        if unsupported == "temperature":
            self._takes_temperature = False
        elif unsupported == self._limit_field:
            if self._changed_field:  # neither is taken
                return False
            self._limit_field, self._changed_field = _OTHER[self._limit_field], True
        return True

    def __str__(self) -> str:
        """What has been learnt, as the end of a sentence; empty where nothing has."""
        learnt = [f"wants {self._limit_field} in place of {_OTHER[self._limit_field]}"] if self._changed_field else []
        learnt += [] if self._takes_temperature else ["takes no temperature"]
        return " and ".join(learnt)
