"""Hostile HTTP responses around one verdict, each made from what a person would read in it.

A response is built in layers: the content, the choice, the body, its JSON, its encoding, its framing. Each layer varies
in ways that change nothing. At most one deviates: it hides the value, spoils it, or leaves it in doubt. Wherever a
value could be read by mistake, another one stands there.
"""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hostile.replies import Maker
from longreward.judge import verdicts

SURE, DOUBT, NONE = "sure", "doubt", "none"
"""The value has to be read; it may be read, but no other one; there is none to be read."""


@dataclass
class Response:
    """The bytes of a response, and what a person reads in it."""

    kind: str
    text: str
    decoy: str
    parse: Callable[[str], Any]
    value: Any
    certain: str = SURE
    status: str = "200 OK"
    version: str = "HTTP/1.1"
    headers: list[str] = field(default_factory=list)
    wire: bytes = b""
    closes: bool = False
    """Whether the server closes the connection behind it."""


WHOLE = [
    "stop",
    "STOP",
    None,
    "eos_token",
    "end_turn",
    "stop_sequence",
    {"type": "stop", "matched": 2},
    "FINISH_REASON_STOP",
]
COUNTS = [0, 10, 100, -1, 2**31, 10**30, 1.5, "7", None, True, [], {}, float("nan"), float("inf"), -float("inf")]
JUNK: list[Any] = [None, 0, -1.5, True, "", [], {}, [[]], {"a": None}, float("nan"), 10**40]


class Layers:
    """The layers as they are when all is well."""

    def __init__(self, seed: int) -> None:
        self.random, self.texts = random.Random(seed), Maker(seed)

    def pick(self, *options: Any) -> Any:
        return self.random.choice(options)

    def question(self, layer: str) -> Response:
        """A verdict, and one of the same kind that nobody would read."""
        if self.random.random() < 0.25:
            return Response(
                layer, "The fee is 5 euros.", "The fee is 9 euros.", verdicts.parse_extraction, "The fee is 5 euros."
            )
        kind, before, text, value = self.texts.parts()
        other = self.random.choice([each for each in kind.values if each != value])
        return Response(layer, before + text, f"[[{kind.values[other][0]}]]", kind.parse, value)

    def contents(self, made: Response) -> Any:
        text, thought = made.text, {"type": "thinking", "thinking": made.decoy}
        half = len(text) // 2
        parts = [{"type": "text", "text": text[:half]}, {"type": "text", "text": text[half:]}]
        gemini = {"parts": [{"text": made.decoy, "thought": True}, {"text": text}]}
        return self.pick(text, text, text, [{"type": "text", "text": text}], parts, [text], [thought, *parts], gemini)

    def choices(self, made: Response, content: Any, finish: Any = None) -> dict[str, Any]:
        message = {"role": self.pick("assistant", "model", None), "content": content}
        extra = [
            {"reasoning_content": made.decoy},
            {"reasoning": made.decoy},
            {"refusal": None},
            {"tool_calls": []},
            {"thinking": made.decoy},
        ]
        extra += [
            {"audio": None, "function_call": None},
            {"refusal": ""},
            {"reasoning_details": [{"text": made.decoy}]},
            {},
            {},
        ]
        finish = self.random.choice(WHOLE) if finish is None else finish
        more = self.pick(
            {},
            {"logprobs": None},
            {"error": None},
            {"native_finish_reason": "wibble"},
            {"text": made.decoy},
            {"stop_reason": 5},
        )
        return {
            "index": self.pick(0, "0", None),
            "message": message | self.random.choice(extra),
            "finish_reason": finish,
        } | more

    def bodies(self, choices: Any) -> dict[str, Any]:
        usage = {name: self.random.choice(COUNTS) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
        usage |= {"prompt_tokens_details": self.pick(None, {"cached_tokens": self.random.choice(COUNTS)}, 5, [])}
        more = self.pick(
            {},
            {"error": None},
            {"error": {}},
            {"error": ""},
            {"code": 0, "message": "ok"},
            {"object": "x"},
            {"data": [1, {}]},
        )
        found = {"id": self.random.choice(JUNK), "choices": choices, "usage": self.pick(usage, usage, *JUNK)} | more
        names = list(found)
        self.random.shuffle(names)
        return {name: found[name] for name in names}

    def dumped(self, body: Any) -> bytes:
        text = json.dumps(body, ensure_ascii=True, indent=self.pick(None, 1))
        return b"%b%b%b" % (
            self.pick(b"", b"", b"\n\n", b"\xef\xbb\xbf"),
            text.encode(),
            self.pick(b"", b"\n", b" \r\n"),
        )

    def encoded(self, made: Response, raw: bytes) -> bytes:
        match self.random.randrange(6):
            case 0:
                made.headers.append(
                    self.pick("Content-Encoding: gzip", "content-encoding:GZIP", "Content-Encoding: identity, gzip")
                )
                return gzip.compress(raw, 1)
            case 1:
                made.headers.append("Content-Encoding: deflate")
                return zlib.compress(raw)
            case 2:
                made.headers.append(self.pick("Content-Encoding:", "Content-Encoding: Identity"))
        return raw

    def framed(self, made: Response, raw: bytes) -> Response:
        kinds = [
            "application/json",
            "text/html",
            "text/event-stream",
            "application/octet-stream; charset=wibble",
            "",
            "\xff/\xfe",
        ]
        made.headers += [
            f"Content-Type: {self.random.choice(kinds)}",
            *self.pick([], [], ["X-A: b"] * 20, ["Set-Cookie: =;=,;a"], ["Date: x"]),
        ]
        match self.random.randrange(4):
            case 0:
                made.headers.append(self.pick("Transfer-Encoding: chunked", "transfer-encoding:Chunked"))
                body = self.chunked(raw) + self.pick(b"0\r\n\r\n", b"0\r\nX-Trailer: a\r\n\r\n")
            case 1:
                made.closes, body = True, raw  # the end of the connection is the end of the body
            case _:
                made.headers.append(f"Content-Length: {len(raw)}")
                body = raw
        return self.sent(made, body)

    def sent(self, made: Response, body: bytes) -> Response:
        self.random.shuffle(made.headers)
        made.headers += ["Connection: close"] if made.closes else []
        head = "\r\n".join([f"{made.version} {made.status}", *made.headers])
        made.wire = head.encode("latin-1") + b"\r\n\r\n" + body
        return made

    def chunked(self, raw: bytes) -> bytes:
        found, at = b"", 0
        while at < len(raw):
            part = raw[at : at + self.random.randint(1, 400)]
            found += b"%b%b\r\n%b\r\n" % (self.pick(b"%x", b"%X", b"00%x") % len(part), self.pick(b"", b";a=b"), part)
            at += len(part)
        return found

    def rest(self, made: Response, content: Any, finish: Any = None) -> Response:
        """The response with this content, and all other layers well."""
        return self.framed(made, self.encoded(made, self.dumped(self.bodies([self.choices(made, content, finish)]))))
