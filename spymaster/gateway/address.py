"""Where the page is served, and to whom. Imports nothing that serves: a daemon without a page pays for none."""

import ipaddress
from typing import Final, NamedTuple

from spymaster.errors import UsageError

MORE_PORTS: Final = 20  # tried after the one that is taken
_LEAST_TOKEN: Final = 16  # characters of a token


class GatewayAt(NamedTuple):
    """An address to serve at.

    Attributes:
        host: an address or a name of this machine.
        port: the first to try; 0 is any that is free.
        token: what a client has to know; None where all that reach the address are trusted.
        full_s: between two full frames of the stream, which mend whatever a page got wrong.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    full_s: float = 10.0

    @property
    def is_loopback(self) -> bool:
        """Whether nobody but this machine reaches it."""
        return is_loopback(self.host)

    def checked(self) -> "GatewayAt":
        """Return it.

        Raises:
            UsageError: others could read it, and no token keeps them out.
        """
        if self.token is None and not self.is_loopback:
            raise UsageError(
                f"GATEWAY_HOST={self.host} serves the page to other machines, and no GATEWAY_TOKEN keeps them out. "
                f"Nothing was started. Next: set GATEWAY_TOKEN to {_LEAST_TOKEN} characters or more, or leave "
                f"GATEWAY_HOST out"
            )
        if self.token is not None and len(self.token) < _LEAST_TOKEN:
            raise UsageError(
                f"GATEWAY_TOKEN has fewer than {_LEAST_TOKEN} characters, which can be guessed. Nothing was started. "
                f"Next: set a longer one"
            )
        return self


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its loopback address; a name but localhost could be anything."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
