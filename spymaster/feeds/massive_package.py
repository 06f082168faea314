"""Which package brings Massive's client: `massive`, or `polygon-api-client`, as it was called before.

Both have the same classes. Where a program asks for the old name without a version, an installer beside the newest
`databento` silently takes 0.2.11 of 2021, another API: their pins on `certifi` exclude each other, and 0.2.11 has none.
"""

from importlib import metadata
from typing import Final, NamedTuple

from packaging.specifiers import SpecifierSet

from spymaster.errors import UsageError

ADVICE: Final = (
    'pip install "massive>=2.9"; or, for the old name, pip install "spymaster[polygon]", which takes '
    "polygon-api-client>=1.15 and the databento before 0.88 that goes with it"
)


class Client(NamedTuple):
    """A package with Massive's client.

    Attributes:
        package: as an installer names it.
        module: as Python imports it.
        versions: those that have the API that we use.
    """

    package: str
    module: str
    versions: SpecifierSet


CLIENTS: Final = (  # the first that is installed in such a version is used
    Client("massive", "massive", SpecifierSet(">=2.9", prereleases=True)),
    Client("polygon-api-client", "polygon", SpecifierSet(">=1.15", prereleases=True)),
)


def installed() -> dict[str, str]:
    """Return the version of each package with Massive's client that is installed, usable or not."""
    versions = {}
    for client in CLIENTS:
        try:
            versions[client.package] = metadata.version(client.package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def usable(versions: dict[str, str]) -> Client | None:
    """Return the client to import where these versions are installed; None where none of them will do."""
    there = (client for client in CLIENTS if client.package in versions)
    return next((client for client in there if versions[client.package] in client.versions), None)


def required() -> Client:
    """Return the client to import.

    Raises:
        UsageError: none is installed, or only versions with another API.
    """
    versions = installed()
    client = usable(versions)
    if client is None:
        raise UsageError(f"Massive's client cannot be used: {describe(versions)}. Nothing was started. Next: {ADVICE}")
    return client


def describe(versions: dict[str, str]) -> str:
    """Say which packages are installed, and what is needed of those that are not usable."""
    if not versions:
        return f"neither {' nor '.join(client.package for client in CLIENTS)} is installed"
    return ", ".join(
        f"{client.package} {versions[client.package]}"
        + ("" if versions[client.package] in client.versions else f" is not {client.versions}")
        for client in CLIENTS
        if client.package in versions
    )
