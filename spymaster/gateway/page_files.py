"""The page's files, read once. A request names one of them or none: no path from outside reaches the disk."""

from hashlib import sha256
from importlib import resources
from typing import Final, NamedTuple

KINDS: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webmanifest": "application/manifest+json",
}
INDEX: Final = "index.html"


class PageFile(NamedTuple):
    """One file.

    Attributes:
        body: its bytes.
        kind: its media type.
        etag: of these bytes, so that a page that was loaded asks for nothing again.
    """

    body: bytes
    kind: str
    etag: str


def page_files() -> dict[str, PageFile]:
    """Return the page's files by name."""
    folder = resources.files("spymaster.gateway") / "page"
    found = {}
    for entry in folder.iterdir():
        suffix = entry.name[entry.name.rfind(".") :] if "." in entry.name else ""
        if entry.is_file() and suffix in KINDS:
            body = entry.read_bytes()
            found[entry.name] = PageFile(body, KINDS[suffix], f'"{sha256(body).hexdigest()[:16]}"')
    return found
