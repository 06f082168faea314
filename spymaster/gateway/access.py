"""Who may ask what: the host's name, the origin, the token, how often, how much. Before any route sees a request.

A page of another origin that somebody has open must neither read nor write here. Names that are not ours are refused,
so that its own name cannot be pointed at this address (DNS rebinding); so are its origin on the websocket and on
whatever changes something, and what a browser says comes from another site.

Where a token is asked for, it comes as `Authorization: Bearer`, or once as `?token=` of a page, which answers with a
cookie that other sites' requests do not carry. The cookie is a keyed hash, so that it says nothing of the token.
"""

import hmac
import ipaddress
import socket
from collections import OrderedDict
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spymaster import clock
from spymaster.gateway.address import GatewayAt, is_loopback

MOST_BODY_BYTES: Final = 4_096
MOST_QUERY_BYTES: Final = 2_048
A_SECOND: Final = 100.0  # requests of one address; a page asks for some 30 at its start
AT_ONCE: Final = 400
WRITES_A_SECOND: Final = 2.0  # of whatever changes something, and of tokens that are wrong
WRITES_AT_ONCE: Final = 10
MOST_ADDRESSES: Final = 1_000  # whose requests are counted; beyond, the oldest are counted anew
SECURITY_HEADERS: Final = {
    "content-security-policy": "default-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
_READS: Final = frozenset({"GET", "HEAD"})
_PAGES: Final = frozenset({"/", "/index.html"})


class Pace:
    """Counts requests of each address: so many a second, and so many at once."""

    def __init__(self, a_second: float, at_once: float) -> None:
        self._a_second, self._at_once = a_second, at_once
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, address: str) -> bool:
        """Count one; return whether it is within the bound."""
        now_s = clock.monotonic_s()
        left, at_s = self._left.pop(address, (self._at_once, now_s))
        left = min(left + (now_s - at_s) * self._a_second, self._at_once)
        is_allowed = left >= 1
        self._left[address] = (left - is_allowed, now_s)
        while len(self._left) > MOST_ADDRESSES:
            self._left.popitem(last=False)
        return is_allowed


class Access:
    """An application that lets through what is allowed.

    Attributes:
        refused: requests that were not, by status.
    """

    def __init__(self, app: ASGIApp, at: GatewayAt, port: int) -> None:
        """Guard an application.

        Args:
            app: what answers.
            at: where it is served.
            port: that it is served at in the end, which names the cookie: cookies know no ports.
        """
        self.refused: dict[int, int] = {}
        self._app, self._at = app, at
        self._cookie = f"spymaster_{port}"
        self._names = {"localhost"} if at.is_loopback else {"localhost", at.host.lower(), socket.gethostname().lower()}
        self._reads, self._writes = Pace(A_SECOND, AT_ONCE), Pace(WRITES_A_SECOND, WRITES_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            return
        refusal = self._refusal(scope, Headers(scope=scope))
        if refusal is not None:
            self.refused[refusal.status_code] = self.refused.get(refusal.status_code, 0) + 1
            await _answer(refusal, scope, receive, send)
        elif scope["type"] == "websocket":
            await self._app(scope, receive, send)
        else:
            await self._app(scope, _bounded(receive), _secured(send, scope["path"]))

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """Return the answer to what is not allowed."""
        address = scope["client"][0] if scope.get("client") else ""
        is_read = scope["type"] == "http" and scope["method"] in _READS
        if not self._is_our_name(headers.getlist("host")):
            return refused(421, "this is not the host that you named", "use the address that spymaster run printed")
        if not _is_same_origin(headers, is_read=is_read, is_page=scope["path"] in _PAGES):
            return refused(403, "another site's page may not ask here", "open the page that spymaster run printed")
        if not self._reads.allows(address):
            return refused(429, f"more than {A_SECOND:.0f} requests a second", "ask again in a second")
        found = _size_refusal(scope, headers) or self._token_refusal(scope, headers, address)
        if found is None and scope["type"] == "http" and not is_read and not self._writes.allows(address):
            return refused(429, f"more than {WRITES_A_SECOND:.0f} changes a second", "ask again in a second")
        return found

    def _is_our_name(self, hosts: list[str]) -> bool:
        """Whether the one host named is ours. Addresses are: only a name can be pointed elsewhere."""
        if len(hosts) != 1:
            return False
        try:
            name = urlsplit(f"//{hosts[0]}").hostname or ""
        except ValueError:
            return False
        name = name.lower().rstrip(".")
        if self._at.is_loopback:
            return is_loopback(name)
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True

    def _token_refusal(self, scope: Scope, headers: Headers, address: str) -> Response | None:
        token = self._at.token
        if token is None:
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")) if scope["path"] in _PAGES else {}
        if scope["type"] == "http" and (once := given.pop("token", None)):
            if _same(once[0], token):
                return self._with_cookie(scope["path"], urlencode(given, doseq=True), token)
        elif self._is_known(headers, token):
            return None
        if not self._writes.allows(f"token {address}"):
            return refused(429, "too many wrong tokens", "ask again in some seconds")
        return refused(
            401, "a token is asked for here", "send Authorization: Bearer, or open the page once with ?token=..."
        )

    def _is_known(self, headers: Headers, token: str) -> bool:
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(bearer.strip(), token):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return False
        return cookie is not None and _same(cookie.value, _proof(token))

    def _with_cookie(self, path: str, query: str, token: str) -> Response:
        answer = RedirectResponse(f"{path}?{query}" if query else path, 303, {"cache-control": "no-store"})
        answer.set_cookie(self._cookie, _proof(token), path="/", httponly=True, samesite="strict")
        return answer


def refused(status: int, what: str, do: str) -> Response:
    """Return an answer that says what is not right, and what to do."""
    headers = {"cache-control": "no-store", **SECURITY_HEADERS}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse({"error": f"{what}. Nothing was done. Next: {do}"}, status, headers)


def _same(given: str, wanted: str) -> bool:
    """Compare in a time that says nothing."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), wanted.encode())


def _proof(token: str) -> str:
    return hmac.new(token.encode(), b"spymaster page", sha256).hexdigest()


def _is_same_origin(headers: Headers, *, is_read: bool, is_page: bool) -> bool:
    """Whether a request is a program's, or of our own page, or only opens it."""
    origin = headers.get("origin")
    if origin is not None:
        try:
            return (
                urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
                and len(headers.getlist("origin")) == 1
            )
        except ValueError:
            return False
    site = headers.get("sec-fetch-site", "none")
    return site in {"none", "same-origin"} or (is_read and is_page and headers.get("sec-fetch-mode") == "navigate")


def _size_refusal(scope: Scope, headers: Headers) -> Response | None:
    if len(scope["query_string"]) > MOST_QUERY_BYTES:
        return refused(414, f"the query has more than {MOST_QUERY_BYTES} bytes", "ask for less at once")
    if _length(headers) > MOST_BODY_BYTES:
        return refused(413, f"the body has more than {MOST_BODY_BYTES} bytes", "send less")
    return None


def _length(headers: Headers) -> int:
    """Return the length that a request says; of one that says nonsense, too much."""
    text = headers.get("content-length", "0")
    return int(text) if text.isdecimal() and len(text) < 19 else MOST_BODY_BYTES + 1


def _bounded(receive: Receive) -> Receive:
    """Cut a body off that is longer than was said; whoever reads it finds no JSON."""
    left = MOST_BODY_BYTES + 1

    async def bounded() -> Message:
        nonlocal left
        message = await receive()
        if message["type"] == "http.request":
            body = message.get("body", b"")[:left]
            left -= len(body)
            return {**message, "body": body, "more_body": message.get("more_body", False) and left > 0}
        return message

    return bounded


def _secured(send: Send, path: str) -> Send:
    """Add what every answer says; what is not a file of the page is kept by nobody."""

    async def secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = list(message["headers"])
            names = {name for name, _ in given}
            own = dict(SECURITY_HEADERS)
            if path not in _PAGES and not path.startswith("/page/"):
                own["cache-control"] = "no-store"
            given += [(name.encode(), text.encode()) for name, text in own.items() if name.encode() not in names]
            message = {**message, "headers": given}
        await send(message)

    return secured


async def _answer(answer: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a refused request; of a websocket in place of its handshake."""
    if scope["type"] == "http":
        await answer(scope, receive, send)
        return
    headers = answer.raw_headers
    await send({"type": "websocket.http.response.start", "status": answer.status_code, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": answer.body})
