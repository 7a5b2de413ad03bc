"""Reads an endpoint's response: a whole reply with text, or the error that says what it is instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from longreward.errors import JudgeError, Reason
from longreward.files.nesting import from_json
from longreward.judge.distribution import Token, tokens_in
from longreward.judge.protocol.refusals import error_in, refusal, short
from longreward.redaction import redacted
from longreward.schema import Usage

_WHOLE = frozenset(
    "stop stopped stop_sequence stop_token eos eos_token eosfound end end_turn end_of_text endoftext complete "
    "completed done finish finished normal".split()
)
"""Only with these, or with none, has the judge itself ended its reply. What is unknown may be half a reply."""
_BROKEN_OFF: dict[str, Reason] = {
    **dict.fromkeys(
        "length max_tokens max_length max_output_tokens max_completion_tokens token_limit error_limit".split(),
        Reason.TRUNCATED,
    ),
    **dict.fromkeys("model_length context_length model_context_window_exceeded".split(), Reason.CONTEXT_LENGTH),
    **dict.fromkeys(
        "content_filter content_filtered safety sensitive recitation blocklist prohibited_content spii refusal "
        "guardrail_intervened guardrails flagged moderation error_toxic".split(),
        Reason.FILTERED,
    ),
    **dict.fromkeys(
        "abort aborted error cancelled canceled insufficient_system_resource network_error timeout time_limit "
        "overloaded server_error".split(),
        Reason.SERVER_ERROR,
    ),
}
_SAID = {
    Reason.TRUNCATED: "the reply was cut at {tokens} tokens",
    Reason.CONTEXT_LENGTH: "the reply was cut where the judge's context ended",
    Reason.FILTERED: "the endpoint's content filter stopped the reply",
    Reason.SERVER_ERROR: "the server broke the reply off",
    Reason.BAD_RESPONSE: "the reply may not be whole",
}
_THOUGHTS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")


@dataclass(frozen=True, slots=True)
class Reply:
    """What the endpoint said, without known secrets, and its token counts."""

    texts: list[str]
    """One, or as many as were asked for by `n`; those that are not whole are left out."""
    usage: Usage
    tokens: list[Token] = field(default_factory=list)
    """Of the first text, where the endpoint tells their probabilities."""


def body_of(status: int, headers: Mapping[str, str], raw: bytes) -> Any:
    """The JSON of a response, None where it is none. JudgeError where it is a refusal or a web page."""
    try:
        body: Any = from_json(raw)
    except ValueError:  # JSON and UTF-8 errors are ValueErrors too
        body = None
    if status >= 400 or error_in(body) is not None:
        raise refusal(status, headers, body, raw, usual=Reason.BAD_RESPONSE)
    if body is None and raw.lstrip()[:1] == b"<":
        # A page of HTML is from a proxy in front of a judge that is away for the moment.
        raise JudgeError(Reason.SERVER_ERROR, detail=f"the reply is a web page, not JSON: {short(raw)}")
    return body


def read(status: int, headers: Mapping[str, str], raw: bytes, wanted: int = 1, *, whole: bool = True) -> Reply:
    """The reply of a response, of its choices the first `wanted`. JudgeError where it is not a chat completion with at
    least one whole text among them; with `whole` false a text may be cut at the most tokens."""
    body = body_of(status, headers, raw)
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise JudgeError(Reason.BAD_RESPONSE, detail=f"the reply is not a chat completion: {short(raw)}")
    usage, texts, tokens, failure = usage_in(body.get("usage")), list[str](), list[Token](), None
    for choice in choices[:wanted]:
        try:
            if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
                detail = f"the reply is not a chat completion: {short(raw)}"
                raise JudgeError(Reason.BAD_RESPONSE, detail=detail, usage=usage)
            if error := choice.get("error"):
                raise refusal(status, headers, {"error": error}, raw, usual=Reason.SERVER_ERROR, usage=usage)
            text = _text_of(choice, body.get("usage"), usage, whole)
        except JudgeError as error:
            failure = failure or error
        else:
            tokens = tokens if texts else tokens_in(choice)
            texts.append(text)
    if not texts and failure is not None:
        raise failure
    return Reply(texts, usage, tokens)


def _text_of(choice: dict[str, Any], reported: Any, usage: Usage, whole: bool) -> str:
    """The text of one choice. JudgeError where there is none, or it may not be whole and has to be."""
    message = choice["message"]
    text, thoughts = redacted(_text(message.get("content"))), _thoughts(message, reported)
    if refused := _refusal(message):
        raise JudgeError(Reason.FILTERED, detail=f"the judge refuses: {short(refused)}", usage=usage, text=text)
    if whole or _finish(choice.get("finish_reason")) != "length":
        _check_whole(choice, text, thoughts, usage)
    if text.strip():
        return text
    if thoughts:
        detail = f"the reply is only reasoning (`{thoughts}`), with no text after it"
        raise JudgeError(Reason.ONLY_REASONING, detail=detail, usage=usage)
    raise JudgeError(Reason.BAD_RESPONSE, detail="the reply is empty", usage=usage)


def _check_whole(choice: dict[str, Any], text: str, thoughts: str, usage: Usage) -> None:
    """JudgeError where the judge did not end its reply by itself."""
    finish = _finish(choice.get("finish_reason"))
    # What a gateway tells in OpenAI's words, in the words of the provider behind it: unknown ones say nothing.
    behind = _BROKEN_OFF.get(_finish(choice.get("native_finish_reason")))
    if finish in ("", *_WHOLE) and behind is None:
        return
    reason = _BROKEN_OFF.get(finish) or behind or Reason.BAD_RESPONSE
    said = _SAID[reason].format(tokens=usage.completion_tokens or "too many")
    if reason is Reason.TRUNCATED and thoughts and not text.strip():
        said += ", while the judge was still reasoning"
    if finish != "length":
        said += f" (finish_reason {short(finish or choice.get('native_finish_reason'), 60)})"
    raise JudgeError(reason, detail=said, usage=usage, text=text)


def _finish(value: object) -> str:
    """A finish reason in lower case; "" where there is none. Gemini adds details after a colon, SGLang sends a
    mapping."""
    value = str(value.get("type")) if isinstance(value, dict) else value
    told = "" if value is None else redacted(str(value))
    return told.partition(":")[0].strip().lower().removeprefix("finish_reason_")


def _text(content: object) -> str:
    """The text of a content: itself, or that of its parts. Parts that are thoughts, or unknown, are left out."""
    content = content.get("parts", content) if isinstance(content, dict) else content
    return "".join(map(_part, content)) if isinstance(content, list) else _part(content)


def _part(part: object) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or part.get("thought") is True or not isinstance(part.get("text"), str):
        return ""
    return str(part["text"]) if part.get("type") in ("text", "output_text", None) else ""


def _thoughts(message: dict[str, Any], usage: Any) -> str:
    """The name of the field or part where the judge's reasoning is; "" where there is no sign of any."""
    if given := [name for name in _THOUGHTS if message.get(name)]:
        return given[0]
    content = message.get("content")
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    kinds = ["thought" if part.get("thought") is True else str(part.get("type")) for part in parts]
    if given := [kind for kind in kinds if re.search("think|thought|reason", kind)]:
        return short(given[0], 60)
    details = usage.get("completion_tokens_details") if isinstance(usage, dict) else None
    return "reasoning_tokens" if isinstance(details, dict) and _count(details.get("reasoning_tokens")) else ""


def _refusal(message: dict[str, Any]) -> str:
    """The words with which the judge refuses to answer; "" where it does not."""
    content = message.get("content")
    parts = [message, *(content if isinstance(content, list) else [])]
    told = [part.get("refusal") for part in parts if isinstance(part, dict)]
    return next((each for each in told if isinstance(each, str) and each.strip()), "")


def usage_in(reported: Any) -> Usage:
    """The tokens of one reply, from the `usage` that an endpoint reports."""
    reported = reported if isinstance(reported, dict) else {}
    details = reported.get("prompt_tokens_details")
    return Usage.model_construct(
        calls=1,
        prompt_tokens=_count(reported.get("prompt_tokens")),
        cached_tokens=_count(details.get("cached_tokens") if isinstance(details, dict) else 0),
        completion_tokens=_count(reported.get("completion_tokens")),
        cost=0.0,
    )


def _count(value: object) -> int:
    return value if type(value) is int and 0 < value < 10**9 else 0  # true is no count
