"""Responses of which one layer deviates: it hides the value, spoils it, or leaves it in doubt."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

from hostile.responses import DOUBT, JUNK, NONE, Layers, Response

BROKEN = "length max_tokens MAX_TOKENS model_length content_filter SAFETY sensitive abort error network_error".split()
BROKEN += "insufficient_system_resource tool_calls function_call wibble stop? content_filter:PROHIBITED_CONTENT".split()
ODD = [5, [], True, {}, {"type": "abort"}, {"type": "length", "length": 5}]  # finish reasons too
BOMB = gzip.compress(b" " * 2**23)
PAGE = b"<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head><body><h1>%s</h1></body></html>"
ERRORS = "400 401 402 403 404 405 408 409 410 413 418 422 424 425 429 451 498 499 500 502 503 504 529 599".split()
AFTER = ["1", "0", "-5", "nan", "inf", "1e400", "soon", "", "Fri, 31 Dec 9999 23:59:59 GMT", "9" * 500]
NAMES = "message code type status param detail msg metadata innererror errors error_type".split()


class ResponseMaker(Layers):
    """Makes responses of all kinds, the sound ones too."""

    def responses(self) -> Iterator[Response]:
        layers = [
            self.sound,
            self.content,
            self.choice,
            self.body,
            self.json,
            self.encoding,
            self.framing,
            self.refusal,
        ]
        while True:
            yield self.random.choice(layers)()

    def sound(self) -> Response:
        made = self.question("sound")
        return self.rest(made, self.contents(made))

    def content(self) -> Response:
        made = self.question("content")
        text, decoy = made.text, made.decoy
        nothing: list[Any] = [
            None,
            "",
            " \n",
            7,
            7.5,
            True,
            [],
            {},
            [None],
            [[]],
            {"text": None},
            [{"type": "text"}],
            {"parts": 5},
        ]
        nothing += [
            [{"type": "thinking", "thinking": decoy}],
            [{"type": "text", "text": decoy, "thought": True}],
            [{"text": [decoy]}],
        ]
        nothing += [[{"type": "tool_use", "text": decoy}], {"a": {"parts": [decoy]}}]
        doubtful: list[Any] = [
            [[text]],
            {"text": text},
            {"type": "text", "text": text},
            {"parts": text},
            ["", None, text],
        ]
        made.certain, content = self.pick((NONE, self.random.choice(nothing)), (DOUBT, self.random.choice(doubtful)))
        return self.rest(made, content)

    def choice(self) -> Response:
        made = self.question("choice")
        good = self.choices(made, self.contents(made))
        error = self.pick({"code": 502, "message": made.decoy}, "overloaded", ["x"], {"a": {}}, 5)
        spoilt: list[Any] = [good | {"finish_reason": self.pick(*BROKEN, *ODD)}, good | {"error": error}]
        spoilt += [good | {"message": junk} for junk in (None, [], 5, made.decoy, {})] + [
            good | {"native_finish_reason": "length"}
        ]
        spoilt += [good | {"message": {**good["message"], "refusal": "I will not."}}]
        spoilt += [
            {"text": made.decoy},
            {"delta": {"content": made.decoy}},
            {name: each for name, each in good.items() if name != "message"},
        ]
        doubtful = [
            good | {"index": 1},
            good | {"message": {**good["message"], "tool_calls": [{"function": {"arguments": made.decoy}}]}},
        ]
        made.certain, choice = self.pick(
            (NONE, self.random.choice(spoilt)),
            (NONE, self.random.choice(spoilt)),
            (DOUBT, self.random.choice(doubtful)),
        )
        return self.framed(made, self.encoded(made, self.dumped(self.bodies([choice]))))

    def body(self) -> Response:
        made = self.question("body")
        good = self.choices(made, self.contents(made))
        body = self.bodies([good])
        error = self.pick(
            {"message": made.decoy},
            "no",
            [made.decoy],
            {"code": 429},
            5,
            True,
            {"message": {"a": []}, "code": [], "type": {}},
        )
        nothing: list[Any] = [
            body | {"error": error},
            {"choices": []},
            {"choices": None},
            {},
            [],
            None,
            8,
            made.decoy,
            True,
            [body["choices"]],
        ]
        nothing += [
            body | {"choices": junk} for junk in (5, made.decoy, [None], [5], [[]], {"0": 5}, [made.decoy], False)
        ]
        nothing += [
            {"object": "error", "message": made.decoy},
            {"code": 500, "msg": made.decoy},
            {"detail": made.decoy},
            [{"error": error}],
        ]
        nothing += [
            {"content": made.decoy},
            {"message": {"content": made.decoy}},
            {"success": False, **body, "choices": None},
        ]
        other = {"index": 1, "message": {"role": "assistant", "content": made.decoy}, "finish_reason": "stop"}
        doubtful: list[Any] = [
            self.bodies([good, other]),
            {"choices": {"0": good}},
            [body],
            {"data": body},
            {"choices": good},
            body | {"success": False},
        ]
        made.certain, sent = self.pick((NONE, self.random.choice(nothing)), (DOUBT, self.random.choice(doubtful)))
        return self.framed(made, self.encoded(made, self.dumped(sent)))

    def json(self) -> Response:
        made = self.question("JSON")
        good = json.dumps(self.bodies([self.choices(made, made.text, "stop")])).encode()
        bad = good.replace(json.dumps(made.text).encode(), json.dumps(made.decoy).encode())
        number = json.dumps(good.decode())
        nothing = [
            b"",
            b" ",
            b"null",
            PAGE % made.decoy.encode(),
            bad[: self.random.randrange(len(bad))],
            bad[:-1] + b",}",
            made.decoy.encode("utf-8"),
        ]
        nothing += [
            number.encode(),
            b"data: " + bad + b"\n\ndata: [DONE]\n\n",
            bad + bad,
            bad + b"\n" + bad,
            b")]}'\n" + bad,
            b"{" + bad,
            b"\x00" * 50,
        ]
        nothing += [
            bad.replace(b'"choices"', b'"choices\xff"'),
            bad + b"garbage",
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b": keep-alive\n\n",
        ]
        more = [
            b'"a": %b, ' % each
            for each in (
                b"1" * 5000,
                b"1e999",
                b"NaN",
                b"-Infinity",
                b"[" * 3000 + b"]" * 3000,
                b'"\\ud83d"',
                b'"\xff"',
                b"{}",
            )
        ]
        doubtful = [b"{" + each + good[1:] for each in more]
        doubtful += [
            good[:-1] + b', "usage": 5}',
            b'{"choices": [], ' + good[1:],
            good.decode().encode("utf-16"),
            good.decode().encode("utf-32-le"),
        ]
        made.certain, raw = self.pick((NONE, self.random.choice(nothing)), (DOUBT, self.random.choice(doubtful)))
        return self.framed(made, self.encoded(made, raw))

    def encoding(self) -> Response:
        made = self.question("encoding")
        made.certain = NONE
        raw = self.dumped(self.bodies([self.choices(made, self.contents(made))]))
        packed = gzip.compress(raw, 1)
        cut, spoilt = packed[: self.random.randrange(1, len(packed))], packed[:20] + b"\xff\x00" + packed[22:]
        wrong = [("gzip", raw), ("gzip", cut), ("gzip", spoilt), ("gzip", packed + b"x"), ("gzip", b""), ("gzip", BOMB)]
        wrong += [
            ("deflate", raw),
            ("deflate", packed),
            ("gzip, gzip", packed),
            ("", packed),
            ("identity", zlib.compress(raw)),
        ]
        name, body = self.pick(*wrong, ("br", raw), ("zstd", raw), ("wibble", raw))
        made.headers.append(f"Content-Encoding: {name}")
        return self.framed(made, body)

    def framing(self) -> Response:
        made = self.question("framing")
        raw = self.dumped(self.bodies([self.choices(made, self.contents(made))]))
        size, half = len(raw), raw[: self.random.randrange(len(raw.rstrip()))]
        other = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
        fine = [f"Content-Length: {size}"]
        second = self.pick(
            "Content-Length: 5", "Transfer-Encoding: chunked", *(f"Content-Length: {n}" for n in (-1, "x"))
        )
        junk = self.pick("no colon", ": a", " folded", "X: " + "y" * 9000, "\xff: a")
        bodiless = self.pick("204 No Content", "205 x", "304 x", "300 x", "302 Found", "999 x")
        place = self.pick("//[", "http://[::1", "ftp://x/", "\xff")
        made.status = self.pick("200 OK", "200", "201 Created", "206 Partial Content", "299 x")
        made.version = self.pick("HTTP/1.1", "HTTP/1.1", "HTTP/1.0")
        made.certain, made.status, headers, body = self.pick(
            (NONE, made.status, fine, half),
            (NONE, made.status, [f"Content-Length: {len(half)}"], raw),
            (NONE, made.status, [], half),
            (NONE, made.status, ["Transfer-Encoding: chunked"], self.chunked(half)),
            (NONE, made.status, ["Transfer-Encoding: chunked"], b"zz\r\n" + raw),
            (NONE, "101 Switching Protocols", ["Upgrade: x", "Connection: upgrade"], raw),
            (NONE, "302 Found", [f"Location: {place}"], raw),
            (DOUBT, made.status, [*fine, second], raw),
            (DOUBT, made.status, [second], raw),
            (DOUBT, made.status, [*fine, junk], raw),
            (DOUBT, made.status, [*fine, *(f"X-{i}: a" for i in range(300))], raw),
            (DOUBT, made.status, fine, raw + self.pick(other, b"\r\n", b"garbage")),
            (DOUBT, bodiless, fine, raw),
            (DOUBT, self.pick("", "2OO OK", "-1", "1000 x", "20 x"), fine, raw),
        )
        made.version = (
            self.pick("HTTP/2", "HTTP/9.9", "ICY", "\xff") if headers is fine and body is raw else made.version
        )
        made.closes = True
        made.headers += headers
        self.sent(made, body)
        if self.random.random() < 0.1:
            made.certain, made.wire = NONE, made.wire[: self.random.randrange(len(made.wire) - len(body))]
        elif self.random.random() < 0.1 and made.certain == DOUBT:
            made.wire = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + made.wire
        return made

    def refusal(self) -> Response:
        made = self.question("refusal")
        made.certain, made.status = NONE, f"{self.random.choice(ERRORS)} x"
        values = [*JUNK, made.decoy, "429", "context_length_exceeded", "x" * 5000, "\ud83d", "4\u0663\u0663", 502]
        values += [[{"msg": "a", "loc": [1]}]]
        told = {name: self.random.choice(values) for name in self.random.sample(NAMES, self.random.randint(0, 5))}
        body = self.pick(
            {"error": told},
            told,
            {"error": self.random.choice(values)},
            [{"error": told}],
            self.bodies([self.choices(made, made.text)]),
        )
        raw = self.pick(
            self.dumped(body),
            self.dumped(body),
            PAGE % made.decoy.encode(),
            b"",
            b"\xff\xfe",
            made.decoy.encode(),
            b"<title>" * 20_000,
        )
        made.headers += [f"{self.pick('Retry-After', 'retry-after-ms')}: {self.random.choice(AFTER)}"]
        return self.framed(made, self.encoded(made, raw))
