"""The protocols that `longreward serve` speaks, a module for each."""

from longreward.errors import ConfigError
from longreward.server.config import ServerConfig
from longreward.server.protocols.nemo_gym import NemoGym
from longreward.server.protocols.openrlhf import OpenRLHF
from longreward.server.protocols.protocol import Protocol
from longreward.server.protocols.score import Score
from longreward.server.protocols.slime import Slime

PROTOCOLS: dict[str, type[Protocol]] = {
    "openrlhf": OpenRLHF,
    "slime": Slime,
    "score": Score,
    "nemo_gym": NemoGym,
}
"""By the names of `serve.protocols`."""


def chosen(config: ServerConfig) -> list[Protocol]:
    """The protocols that a server speaks. ConfigError for a name that is none."""
    names = list(PROTOCOLS) if config.serve.protocols is None else config.serve.protocols
    if unknown := [name for name in names if name not in PROTOCOLS]:
        raise ConfigError(f"serve.protocols: {unknown[0]!r} is none; choose among {', '.join(PROTOCOLS)}")
    return [PROTOCOLS[name](config) for name in dict.fromkeys(names)]
