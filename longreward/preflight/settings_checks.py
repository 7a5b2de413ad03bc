"""Checks of a judge's settings, without a call: its keys, its limits, and whether the work fits under the spend cap."""

from __future__ import annotations

from collections.abc import Iterator

from longreward.config import NO_KEY, EndpointConfig, JudgeConfig
from longreward.judge.protocol.address import DEFAULT_KEY, from_environment
from longreward.preflight.asking import urls_by_key
from longreward.preflight.finding import Finding, listed
from longreward.schema import Usage
from longreward.text.amounts import caps


def keys(judge: JudgeConfig) -> Iterator[Finding]:
    """Which environment variables hold the judge's keys, and which of them are not set. Never a key itself."""
    for name, urls in urls_by_key(judge).items():
        where = listed(urls)
        if name == NO_KEY:
            yield Finding.ok("keys", f"no key goes to {where}: its route names none")
        elif from_environment(name or DEFAULT_KEY):
            yield Finding.ok("keys", f"{name or DEFAULT_KEY} is set, the key for {where}")
        elif name:
            sentence = f"judge.api_key_env names {name}, the key for {where}, and {name} is not set"
            yield Finding.problem("keys", sentence, f"export {name}")
        else:
            sentence = f"{DEFAULT_KEY} is not set: no key goes to {where}"
            yield Finding.note("keys", sentence, "export it if one is wanted there")


def limits(judge: JudgeConfig) -> Iterator[Finding]:
    """What limits the load on each endpoint and the spending."""
    if not judge.asks_endpoints:
        return
    for name, model in judge.models.items():
        own = name is None or not judge.shares_endpoints(name)
        for endpoint in model.resolved_endpoints if own and model.kind == "openai" else []:
            yield _load(endpoint).of_route(name)
    if capped := [f"judge.spend.{name}={cap:.12g}" for name, cap, *_ in caps(judge, Usage())]:
        yield Finding.ok("limits", f"no call is made that could go past {' or '.join(capped)}")
    else:
        action = "set judge.spend.max_tokens, or judge.price and judge.spend.max_cost"
        yield Finding.note("limits", "no spend cap: nothing ends a run that costs more than expected", action)
    if not judge.knows_prices:
        action = "set judge.price.prompt_per_million and judge.price.completion_per_million if tokens cost money"
        yield Finding.note("limits", "judge.price is not set: costs are not counted", action)


def _load(endpoint: EndpointConfig) -> Finding:
    a_minute = {name: getattr(endpoint, f"{name}_per_minute") for name in ("requests", "tokens")}
    given = [f"at most {endpoint.max_in_flight:,} requests at once"]
    given += [f"{value:,.0f} {name} a minute" for name, value in a_minute.items() if value is not None]
    sentence = f"{endpoint.base_url}: {', '.join(given)}"
    unset = [f"judge.{name}_per_minute" for name, value in a_minute.items() if value is None]
    if not unset:
        return Finding.ok("limits", sentence)
    sentence += f"; {' and '.join(unset)} not set: what the endpoint refuses (429) is asked again later"
    return Finding.note("limits", sentence, "set what your provider allows; a server of your own needs none")


def spend(expected: Usage, judge: JudgeConfig) -> Iterator[Finding]:
    """Whether `expected` fits under the spend cap."""
    for name, cap, amount, words in caps(judge, expected):
        if amount > cap:
            sentence = f"{words(amount)} expected, but judge.spend.{name}={cap:.12g} ends the work before that"
            yield Finding.note("cost", sentence, f"raise judge.spend.{name}, or continue later")
        else:
            yield Finding.ok("cost", f"{words(amount)} expected of judge.spend.{name}={cap:.12g}")
