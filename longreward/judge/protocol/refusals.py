"""What providers say when they refuse, in one table: a status, a code or a phrase -> the reason of failure.

The same table reads HTTP errors, an `error` in the body of a 200, in a choice, or in a list. What it does not know is
told by the status alone.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from longreward.errors import JudgeError, Reason
from longreward.redaction import redacted
from longreward.schema import Usage

_READ, _BEGINNING = 2000, 400
"""Characters of a message that are read. Some servers repeat the request in it, and a request may say anything: what is
learnt for all requests is read from the beginning alone."""


class _ToldAs(NamedTuple):
    reason: Reason
    codes: frozenset[str]
    """What `code`, `type` or `status` of the error may be, in lower case."""
    phrases: re.Pattern[str]
    unless: frozenset[int] = frozenset()
    """Statuses with which the phrases, not the codes, mean something else."""


def _told(reason: Reason, codes: str, phrases: str, unless: tuple[int, ...] = ()) -> _ToldAs:
    return _ToldAs(reason, frozenset(codes.split()), re.compile(phrases, re.I | re.S), frozenset(unless))


_ABOUT_US = (401, 402, 404)

_TABLE = (
    # Groq and OpenAI tell a single request above the minute's tokens with the code of a rate limit.
    _told(Reason.CONTEXT_LENGTH, "", r"request too large|must be reduced in order to run", _ABOUT_US),
    _told(
        Reason.CONTEXT_LENGTH,
        # 1261: Zhipu; tokens_too_long, characters_too_long: Qianfan
        "context_length_exceeded exceed_context_size_error 1261 tokens_too_long characters_too_long "
        "request_too_large contextwindowexceedederror model_context_window_exceeded string_above_max_length",
        r"context[ _-]?(length|window|size|limit)|maximum (model|context|sequence|input|prompt) length|max_model_len|"
        r"\b(prompt|inputs?|messages?|tokens|text)\b[^.]{0,60}\b((?<!took )(?<!taking )too (long|large)|longer than|"
        r"exceed(s|ed)? (the |model |your )?(maximum|max|limit|available|allowed|context|model|token))|"
        r"model token limit|range of input length|max_new_tokens\W{0,3} must be <=|maximum number of tokens|"
        r"expected max(imum )?length|string too long|reduce the length of|shorter input|trying to keep the first|"
        r"\bn_(ctx|keep)\b|too many (input |prompt )?tokens|entity too large|超长|过长|长度超|超过.{0,12}(长度|上下文)",
        (*_ABOUT_US, 408, 429, 503, 504, 529),
    ),
    _told(Reason.TRUNCATED, "", r"max_tokens or model output limit was reached", (*_ABOUT_US, 429)),
    _told(
        Reason.QUOTA,
        # 1110-1113, 1121, 1304, 1308-1310: Zhipu's account without money, locked, or at the end of its plan
        "insufficient_quota exceeded_current_quota_error insufficient_balance insufficient_user_quota arrearage "
        "budget_exceeded billing_hard_limit_reached billing_not_active payment_required allocationquota.freetieronly "
        "1110 1111 1112 1113 1121 1304 1308 1309 1310",
        r"budget has been exceeded|exceeded ?budget|over budget|crossed budget|credit balance is too low|"
        r"insufficient (account )?(balance|quota|credits?|funds)|account is in good standing|overdue[- ]payment|"
        r"account .{0,30}in arrears|usage limit for this|余额不足|余额已用完|欠费|额度不足",
    ),
    _told(
        Reason.UNAUTHORIZED,
        "account_deactivated access_terminated_error",
        r"\b(account|key|organi[sz]ation)\b[^.]{0,40}\b(flagged|blocked|suspended|banned|disabled|deactivated|violat)",
        (402, 429, *range(500, 600)),
    ),
    _told(
        Reason.FILTERED,
        # 1301: Zhipu
        "content_filter content_filtered content_policy_violation contentpolicyviolationerror 1301 "
        "data_inspection_failed datainspectionfailed responsibleaipolicyviolation unsafe_request moderation_blocked",
        r"content management policy|content[ _-]?filter|content[ _-]?polic|inappropriate content|high risk|"
        r"flagged|moderation|responsible ?ai|sensitive content|guardrail|"
        r"\b(prompt|input|content|text|output)\b[^.]{0,60}\b(blocked|violat\w+|unsafe|prohibited|sensitive)|敏感|不安全|违规内容",
        (*_ABOUT_US, 429, *range(500, 600)),
    ),
    _told(
        Reason.UNAUTHORIZED,
        "invalid_api_key invalidapikey incorrect_api_key_error invalid_authentication_error authentication_error "
        "api_key_invalid 1000 1001 1002 1003 1004",
        r"(invalid|incorrect|missing|expired|no) api[ _-]?key|invalid authorization header|"
        r"api[ _-]?key (is )?(not valid|invalid|missing|expired)",
        tuple(range(500, 600)),
    ),
    _told(
        Reason.NOT_FOUND,
        "model_not_found modelnotfound 1211",
        r"\bmodel\b.{0,80}(not found|does not exist|not exist)|not a valid model|"
        r"unsupported model\b(?! (param|field))|model identifier is invalid|on-demand throughput|模型不存在",
        (*_ABOUT_US, 403, 429, *range(500, 600)),
    ),
    _told(
        Reason.RATE_LIMITED,
        "rate_limit_exceeded rate_limit_error rate_limit_reached_error engine_overloaded_error toomanyrequests "
        "resource_exhausted throttlingexception throttling throttling.ratequota throttling.allocationquota "
        "1302 1303 1305 1312",
        r"\brate[ -]?limit(ed)?\b|too many requests|并发数过高|频率过高|访问量过大",
        (*_ABOUT_US, 403, *range(500, 600)),
    ),
    _told(
        Reason.SERVER_ERROR, "server_error internal_error overloaded_error unavailable 1234", r"\boverloaded\b", (429,)
    ),
)

_LEARNT = r"temperature|max_tokens|max_completion_tokens"
_UNSUPPORTED = re.compile(
    r"unsupported|(not|n't) (be )?support|unrecogni[sz]ed|unknown|unexpected|not permitted|extra_forbidden|deprecated|"
    r"only the default|only \S+ is (allowed|supported)|may only be|must be 1\b|not allowed|not compatible",
    re.I,
)


class _Said(NamedTuple):
    codes: frozenset[str]
    message: str
    param: str
    status: int | None
    """The HTTP status that the body itself names."""


def error_in(body: Any) -> Any:
    """The error that a body holds, of any form; None where it holds none."""
    if isinstance(body, list):
        return next((error for each in body if isinstance(each, dict) and (error := error_in(each))), None)
    if not isinstance(body, dict):
        return None
    # Some gateways send nothing but the error: {"code": 500, "msg": ...}, {"object": "error", "message": ...}.
    bare = "code" in body and ("msg" in body or "message" in body)
    bare = bare or body.get("object") == "error" or body.get("success") is False
    return body.get("error") or (body if bare and not body.get("choices") else None)


def refusal(
    status: int, headers: Mapping[str, str], body: Any, raw: bytes, *, usual: Reason, usage: Usage | None = None
) -> JudgeError:
    """What a refusal means. `body` is the error, `raw` the response as it came; `usual` is the reason of one that names
    no known status, code or phrase."""
    said = _said(body, raw)
    told = status if status >= 400 else said.status
    reason = _by_table(said, told or status) or (_by_status(told) if told else usual)
    where = f"HTTP {status}" if told in (status, None) else f"HTTP {status} with error {told}"
    unsupported = _unsupported(said) if reason is Reason.BAD_REQUEST else ""
    return JudgeError(
        reason,
        detail=f"{where}: {short(said.message or raw) or 'it says nothing more'}",
        retry_after=_retry_after(headers),
        usage=usage,
        status=told,
        unsupported=unsupported,
    )


def _by_table(said: _Said, status: int) -> Reason | None:
    message = said.message[:_READ]
    for row in _TABLE:
        if row.codes & said.codes or (status not in row.unless and row.phrases.search(message)):
            return row.reason
    return None


def _by_status(status: int) -> Reason:
    match status:
        case 401 | 403:
            return Reason.UNAUTHORIZED
        case 402:
            return Reason.QUOTA
        case 404 | 405:  # 405: the path is that of something else
            return Reason.NOT_FOUND
        case 408:
            return Reason.TIMEOUT
        case 413:
            return Reason.CONTEXT_LENGTH
        case 429 | 498:  # 498: Groq has no capacity at this moment
            return Reason.RATE_LIMITED
        case 451:
            return Reason.FILTERED
        case 409 | 424 | 425:  # 424: TGI and Bedrock failed while they generated
            return Reason.SERVER_ERROR
    return Reason.SERVER_ERROR if status >= 500 else Reason.BAD_REQUEST


def _said(body: Any, raw: bytes) -> _Said:
    told = error_in(body) or body
    if isinstance(told, str) and isinstance(body, dict):
        told = {**body, "message": told}
    if not isinstance(told, dict):
        return _Said(frozenset(), _plain(told if isinstance(told, str) else raw.decode(errors="replace")), "", None)
    inner = told.get("innererror")
    named = [told.get(name) for name in ("code", "type", "status", "error_code", "error_type")]
    named += [inner.get("code") if isinstance(inner, dict) else None]
    codes = [str(code).lower() for code in named if isinstance(code, str | int)]
    numbers = (int(code) for code in codes if re.fullmatch(r"[45]\d\d", code))
    said = (told.get(name) for name in ("message", "detail", "error_msg", "msg", "errors"))
    message = _message(next((each for each in said if each), told))
    # OpenRouter passes on the words of the provider behind it.
    metadata = told.get("metadata")
    beneath = metadata.get("raw") if isinstance(metadata, dict) else None
    message += f" ({beneath})" if isinstance(beneath, str) else ""
    param = told.get("param")
    return _Said(frozenset(codes), message, param if isinstance(param, str) else "", next(numbers, None))


def _message(value: Any) -> str:
    if isinstance(value, list):  # FastAPI: one entry for each field, which also repeats what it was
        kept = [{k: each.get(k) for k in ("type", "loc", "msg")} if isinstance(each, dict) else each for each in value]
        return json.dumps(kept, ensure_ascii=False)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _plain(text: str) -> str:
    """The title of a web page, or else the text."""
    title = re.search(r"<title>([^<]*)</title>", text, re.I)  # no more, or a page of many would take long
    return f"a web page, {title[1].strip()!r}" if title else text


def _unsupported(said: _Said) -> str:
    """The field of our request that the endpoint does not take; "" where it is none of those that can be changed."""
    message = said.message[:_BEGINNING]
    if not _UNSUPPORTED.search(f"{' '.join(said.codes)} {message}"):
        return ""
    if said.param:
        return said.param if re.fullmatch(_LEARNT, said.param) else ""
    # The field that is meant comes first; then the message may name another to use.
    named = re.search(rf"\b({_LEARNT})\b", message)
    return named[1] if named else ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from any of the forms that are in use; None where it is missing, junk or in the past."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        value = headers.get(name, "")
        try:
            seconds = float(value) / unit
        except ValueError:
            seconds = _until(value)
        if 0 < seconds < float("inf"):
            return seconds
    return None


def _until(date: str) -> float:
    try:
        return parsedate_to_datetime(date).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0.0


def short(value: object, limit: int = 300) -> str:
    """The value in one line of about `limit` characters, without known secrets."""
    value = value.decode(errors="replace") if isinstance(value, bytes) else value
    # Before it is cut: a part of a key would not be known for one.
    text = " ".join(redacted(str(value))[: 4 * limit].split())
    return text if len(text) <= limit else text[:limit] + "..."
