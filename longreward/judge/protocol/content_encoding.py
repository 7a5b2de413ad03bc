"""Replies that are compressed though that was not asked for. They are read, never beyond a limit."""

from __future__ import annotations

import zlib

from longreward.errors import JudgeError, Reason
from longreward.redaction import redacted


def decoded(body: bytes, encoding: str, most: int) -> bytes:
    """The body as it was before it was encoded: `encoding` is the Content-Encoding header's value.

    JudgeError where the result is longer than `most` bytes, where the body is broken or cut, and for an encoding that
    is not known.
    """
    for name in reversed(redacted(encoding).lower().split(",")):
        match name.strip():
            case "" | "identity":
                continue
            case "gzip" | "x-gzip":
                body = _inflated(body, zlib.MAX_WBITS | 16, most)
            case "deflate":
                # Most send the zlib format, as the standard says; some send the bare stream.
                zlib_format = len(body) > 1 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0
                body = _inflated(body, zlib.MAX_WBITS if zlib_format else -zlib.MAX_WBITS, most)
            case "br":
                body = _brotli(body, most)
            case other:
                raise _unasked(other, "")
    return body


def too_long(most: int) -> JudgeError:
    """The error of a reply that is longer than `most` bytes."""
    return JudgeError(Reason.BAD_RESPONSE, detail=f"the reply is longer than {most // 2**20} MiB")


def _inflated(body: bytes, window: int, most: int) -> bytes:
    found = bytearray()
    while body:  # gzip may have several members
        stream = zlib.decompressobj(window)
        try:
            found += stream.decompress(body, most + 1 - len(found))
        except zlib.error as error:
            raise JudgeError(Reason.BAD_RESPONSE, detail=f"the compressed reply is broken: {error}") from None
        if len(found) > most:
            raise too_long(most)
        if not stream.eof:
            raise JudgeError(Reason.BAD_RESPONSE, detail="the compressed reply is cut")
        body = stream.unused_data
    return bytes(found)


def _brotli(body: bytes, most: int) -> bytes:
    try:
        import brotli  # type: ignore[import-not-found, import-untyped, unused-ignore]

        stream = brotli.Decompressor()
        found = bytearray(stream.process(body, output_buffer_limit=most + 1))
        while not stream.is_finished() and len(found) <= most and not stream.can_accept_more_data():
            found += stream.process(b"", output_buffer_limit=most + 1)
    except (ImportError, TypeError):  # before 1.2 it knew no limit
        raise _unasked("br", ", or pip install 'brotli>=1.2' here") from None
    except brotli.error as error:
        raise JudgeError(Reason.BAD_RESPONSE, detail=f"the compressed reply is broken: {error}") from None
    if len(found) > most:
        raise too_long(most)
    if not stream.is_finished():
        raise JudgeError(Reason.BAD_RESPONSE, detail="the compressed reply is cut")
    return bytes(found)


def _unasked(encoding: str, other_way: str) -> JudgeError:
    detail = f"the reply is compressed ({encoding}) though not asked for; switch that off at the server or its proxy"
    return JudgeError(Reason.BAD_RESPONSE, detail=detail + other_way)
