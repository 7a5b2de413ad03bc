"""What a base URL, a key and the environment become: where a request goes, its headers, its proxy.

Also what went wrong where the way there is at fault. Nothing here shows a key or a password.
"""

from __future__ import annotations

import base64
import os
import ssl
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

import aiohttp
import yarl

from longreward.base_url import AROUND, chat_url, without_password
from longreward.config import NO_KEY, EndpointConfig
from longreward.errors import ConfigError, JudgeError, Reason
from longreward.judge.protocol.refusals import short
from longreward.redaction import keep_secret

DEFAULT_KEY = "OPENAI_API_KEY"
"""The variable that holds the key where the configuration names none."""
_FROM_ENVIRONMENT = {"OpenAI-Organization": "OPENAI_ORG_ID", "OpenAI-Project": "OPENAI_PROJECT_ID"}
_SCHEMES_OF_KEYS = ("bearer", "basic")
_REDIRECTS = (301, 302, 303, 307, 308)
_NOT_ITS_HOST = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_NOT_NOW = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED


@dataclass(frozen=True, slots=True)
class Address:
    """Where an endpoint is asked, and the headers of each request."""

    url: str
    headers: Mapping[str, str]

    @classmethod
    def of(cls, config: EndpointConfig, api_url: Callable[[str], str] = chat_url) -> Address:
        """`api_url`: base URL -> the URL of the API. ConfigError where `api_key_env` names a variable that is not set,
        where a variable holds what no header may hold, or where the host cannot be one."""
        url = api_url(config.base_url)
        try:
            yarl.URL(url)
        except ValueError as error:
            raise ConfigError(f"judge.base_url={config.base_url} is not a URL ({error}); check the host") from None
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # replies are small
            "Content-Type": "application/json",
            "User-Agent": "longreward",
        }
        headers |= {name: value for name, key in _FROM_ENVIRONMENT.items() if (value := from_environment(key))}
        return cls(url, headers | _key_header(config))


class Proxy(NamedTuple):
    """The proxy of an address, and the environment variable that names it."""

    url: str
    variable: str

    def __str__(self) -> str:
        return f"the proxy {without_password(self.url)} ({self.variable} in the environment)"


def from_environment(variable: str) -> str:
    """The value of a variable that goes into a header, without white space around it; empty where it is not set.

    ConfigError where it holds what no header may hold, such as a line break.
    """
    value = os.environ.get(variable, "").strip(AROUND)
    for place, character in enumerate(value, 1):
        if not " " <= character <= "~":
            raise ConfigError(
                f"{variable} holds {character!a} as character {place} of {len(value)}, which no HTTP header may "
                "hold; export it again, with the value alone"
            )
    return value


def secret_from_environment(variable: str) -> str:
    """As `from_environment`; from now on no error and no reply shows the value (longreward/redaction.py)."""
    value = from_environment(variable)
    keep_secret(value)
    return value


def proxy_for(url: str) -> Proxy | None:
    """The environment's proxy for this URL. JudgeError where that is none that requests can go through."""
    parts, known = urlsplit(url), urllib.request.getproxies()
    kind = parts.scheme if known.get(parts.scheme) else "all"
    given = known.get(kind, "").strip(AROUND)
    if not given or not parts.hostname or _goes_direct(parts.hostname, parts.netloc, known.get("no", "")):
        return None
    names = (f"{kind}_proxy", f"{kind.upper()}_PROXY")
    variable = next((name for name in names if os.environ.get(name)), names[0])
    proxy = Proxy(given if "://" in given else f"http://{given}", variable)
    try:
        target = yarl.URL(proxy.url)
        if target.password:
            pair = f"{target.user or ''}:{target.password}".encode()
            keep_secret(f"Basic {base64.b64encode(pair).decode()}")
        usable = target.scheme in ("http", "https") and bool(target.host)
    except ValueError:
        usable = False
    if not usable:
        what = "a SOCKS proxy, which is not supported" if given.lower().startswith("socks") else "not a proxy's URL"
        raise JudgeError(
            Reason.MISCONFIGURED,
            detail=f"{variable}={without_password(given)!r} is {what}; set {parts.scheme}_proxy=http://host:port, or "
            f"name {parts.hostname} in NO_PROXY to go there without a proxy",
        )
    return proxy


def redirected(url: str, status: int, headers: Mapping[str, str]) -> str | None:
    """Where a response sends its request on to; None where it is no redirect.

    Only another address of the same API at the same host and port is followed, or the same host's by https: the request
    carries a key and a prompt. JudgeError else.
    """
    location = headers.get("Location", "")
    if status not in _REDIRECTS or not location:
        return None
    try:
        target = urljoin(url, location)
        old, new = urlsplit(url), urlsplit(target)
        there = new.hostname == old.hostname and (
            (new.scheme, new.port) == (old.scheme, old.port) or (old.scheme, new.scheme) == ("http", "https")
        )
        api = old.path.rpartition("/")[2]
        same = there and new.path.rstrip("/").endswith(f"/{api}")
    except ValueError:
        target, same = location, False
    if same:
        return target
    raise JudgeError(
        Reason.MISCONFIGURED,
        detail=f"HTTP {status}: it redirects to {short(without_password(target))}; set judge.base_url to the address "
        "that serves the API itself",
    )


def failure(error: Exception, proxy: Proxy | None) -> JudgeError | None:
    """What an exception means where the way to the endpoint is at fault; None where it is something else."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return JudgeError(Reason.MISCONFIGURED, detail=_about_certificate(error))
        case aiohttp.ClientConnectorSSLError() if "WRONG_VERSION" in str(error) or "RECORD_LAYER" in str(error):
            detail = f"{error.host}:{error.port} does not speak TLS; write judge.base_url with http:// for https://"
            return JudgeError(Reason.MISCONFIGURED, detail=detail)
        case aiohttp.ClientProxyConnectionError():
            return JudgeError(Reason.UNREACHABLE, detail=f"no connection to {proxy}: {error.os_error}")
        case aiohttp.ClientHttpProxyError():
            detail = f"{proxy} refuses to connect: HTTP {error.status} {error.message}"
            return JudgeError(Reason.MISCONFIGURED if 400 <= error.status < 500 else Reason.UNREACHABLE, detail=detail)
    return None


def _key_header(config: EndpointConfig) -> dict[str, str]:
    if config.api_key_env == NO_KEY:
        return {}
    key = secret_from_environment(config.api_key_env or DEFAULT_KEY)
    if config.api_key_env and not key:
        raise ConfigError(f"judge.api_key_env names {config.api_key_env}, which is not set; export it first")
    if not key:
        return {}  # local servers ask for none
    name = config.api_key_header or "Authorization"
    plain = name.lower() != "authorization" or key.partition(" ")[0].lower() in _SCHEMES_OF_KEYS
    return {name: key if plain else f"Bearer {key}"}


def _goes_direct(host: str, netloc: str, no_proxy: str) -> bool:
    """Whether NO_PROXY names this host: by name or domain (with a port, a dot or *. or without), or by its network.

    The standard library knows neither *. nor networks (10.0.0.0/8).
    """
    for entry in no_proxy.lower().replace(",", " ").split():
        domain = entry.lstrip("*.")
        if entry == "*" or any(f".{name}".endswith(f".{domain}") for name in (host, netloc.lower())):
            return True
        try:
            if "/" in entry and ip_address(host) in ip_network(entry, strict=False):
                return True
        except ValueError:  # a name, or a network that is none
            continue
    return bool(urllib.request.proxy_bypass(host))  # the settings of macOS and Windows


def _about_certificate(error: aiohttp.ClientConnectorCertificateError) -> str:
    cause = error.certificate_error
    code = cause.verify_code if isinstance(cause, ssl.SSLCertVerificationError) else 0
    why = cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else str(cause)
    file = os.environ.get("SSL_CERT_FILE")
    if code in _NOT_ITS_HOST:
        action = "use the name in judge.base_url that the certificate is made out for"
    elif code in _NOT_NOW:
        action = "renew it there, or set this machine's clock"
    elif file:
        action = f"SSL_CERT_FILE={file} must be a file that holds its authority (PEM), or the certificate itself"
    else:
        action = "export SSL_CERT_FILE=FILE with the certificate of its authority (PEM), or with its own, and try again"
    return f"the certificate of {error.host}:{error.port} is not trusted: {why}; {action}"
