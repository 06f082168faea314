"""Who may ask what: names, origins, tokens, sizes; and whatever a stranger sends, no answer is a defect's."""

import http.client
import socket
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import InvalidStatus

from spymaster.errors import UsageError
from spymaster.gateway.access import AT_ONCE, WRITES_AT_ONCE, Pace
from spymaster.gateway.address import GatewayAt
from tests.gateway.serving import Serving

TOKEN = "a-token-of-which-nobody-says-a-word"  # noqa: S105 - of this test
BEARER = [("Authorization", f"Bearer {TOKEN}")]
JSON = ("content-type", "application/json")
NO_MARKET = "sim-es:rate=50"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with Serving(tmp_path_factory.mktemp("served"), NO_MARKET) as serving:
        yield serving.opened()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A daemon that serves whoever reaches this machine and has the token."""
    at = GatewayAt("0.0.0.0", port=0, token=TOKEN)  # noqa: S104 - asked by loopback
    with Serving(tmp_path_factory.mktemp("guarded"), NO_MARKET, at=at, gateway_token=TOKEN) as serving:
        yield serving.opened()


@pytest.fixture(autouse=True)
def as_many_as_they_like(request):
    """Count requests anew, as all tests come from one address."""
    for name in {"served", "guarded"} & set(request.fixturenames):
        app = request.getfixturevalue(name).gateway._server.config.app
        app._reads._left.clear()
        app._writes._left.clear()


def test_the_page_is_served_with_headers_that_let_nothing_in_from_elsewhere(served):
    status, headers, body = served.ask("/")

    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b"<script" in body
    assert headers["content-security-policy"].startswith("default-src 'self';")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert served.ask("/", headers=[("If-None-Match", headers["etag"])])[0] == 304
    assert served.ask("/api/status")[1]["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "/page/../server.py", "/page/..%2fserver.py", "/page/%2e%2e/%2e%2e/settings.py", "/page//etc/passwd",
        "/page/....//server.py", "/page/index.html/../../server.py", "/page/%00index.html", "//etc/passwd", "/page/",
        "/page/..%5cserver.py", "/../../etc/passwd", "/page/__init__.py",
    ],
)  # fmt: skip
def test_no_path_reaches_the_disk(served, path):
    status, _, body = served.ask(path)

    assert status == 404
    assert b"import" not in body


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200), ("localhost:1", 200), ("LOCALHOST", 200), ("[::1]:9", 200), ("127.9.9.9", 200),
        ("evil.example", 421), ("evil.example:8000", 421), ("127.0.0.1.evil.example", 421), ("192.168.0.9", 421),
        ("", 421), ("[", 421), ("localhost@evil.example", 421),
    ],
)  # fmt: skip
def test_a_name_that_is_not_ours_is_refused(served, host, status):
    assert served.ask("/health", headers=[("Host", host)])[0] in {status, 400 if status == 421 else status}


def test_two_names_are_refused(served):
    hosts = [("Host", "localhost"), ("Host", "evil.example")]

    assert served.ask("/", headers=hosts)[0] in {400, 421}


def origins(served):
    return {
        f"http://127.0.0.1:{served.port}": True,
        "http://evil.example": False,
        f"http://127.0.0.1:{served.port + 1}": False,
        "null": False,
        "http://[": False,
    }


def test_another_origins_page_gets_no_stream_and_changes_nothing(served):
    for origin, is_ours in origins(served).items():
        if is_ours:
            with served.page(additional_headers={"Origin": origin}) as page:
                assert page.next()["type"] == "full"
        else:
            with pytest.raises(InvalidStatus) as refused, served.page(additional_headers={"Origin": origin}):
                pass
            assert refused.value.response.status_code == 403
        status, _, body = served.ask(
            "/api/config/hotzone", "POST", b'{"zone": "A", "price": 1}', [JSON, ("Origin", origin)]
        )
        assert (status == 403) is not is_ours, body


@pytest.mark.parametrize(
    ("path", "site", "mode", "status"),
    [
        ("/", "cross-site", "navigate", 200), ("/", "cross-site", "no-cors", 403), ("/api/status", "none", "cors", 200),
        ("/api/status", "same-origin", "cors", 200), ("/api/status", "same-site", "cors", 403),
        ("/api/explain", "cross-site", "navigate", 403),
    ],
)  # fmt: skip
def test_what_a_browser_says_comes_from_another_site_only_opens_the_page(served, path, site, mode, status):
    assert served.ask(path, headers=[("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", mode)])[0] == status


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/status?x=1", 400), ("/api/rows?level=VWAP&level=VWAP", 400), ("/api/rows", 400), ("/nothing", 404),
        ("/api/levels/scores?level=%ff%00", 400), ("/api/levels/scores?level=" + "A" * 99, 400), ("/api/", 404),
        ("/api/history/candles?step=7", 400), ("/api/history/candles?from_ns=-1", 400),
        ("/api/history/candles?from_ns=99999999999999999999", 400), ("/api/history/candles?from_ns=1e9", 400),
        ("/api/history/candles?from_ns=5&to_ns=5", 400), ("/api/gaps?from_ns=9&to_ns=1", 400),
        ("/api/alerts?before_ns=now", 400), ("/api/gaps?" + "a" * 3_000, 414), ("/api/status?" + "a" * 40_000, 414),
        ("/ws/stream", 404), ("/metrics?x", 400), ("/health?x=1", 400), ("/openapi.json?x=1", 400),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_one_line(served, path, status):
    found, _, body = served.ask(path)

    assert found in {status, 400 if status == 414 else status}  # a head that long is no HTTP in two reads
    assert b"\n" not in body
    assert b"Traceback" not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_other_methods_are_refused(served, method):
    assert served.ask("/api/status", method)[0] in {400, 405}


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b'{"zone": "A", "price": 1}', [], 415), (b'{"zone": "A", "price": 1}', [("content-type", "text/plain")], 415),
        (b"", [JSON], 400), (b"[1]", [JSON], 400), (b"{", [JSON], 400), (b"\xff", [JSON], 400),
        (b'{"zone": "A"}', [JSON], 400), (b'{"zone": "A", "price": 1, "more": 1}', [JSON], 400),
        (b"[" * 4_000, [JSON], 400), (b'{"price": ' + b"9" * 4_000 + b"}", [JSON], 400), (b"x" * 5_000, [JSON], 413),
        (b"x", [JSON, ("content-length", "99999999999999999999")], 413), (b"x", [JSON, ("content-length", "x")], 400),
    ],
)  # fmt: skip
def test_a_body_that_is_none_is_refused(served, body, headers, status):
    assert served.ask("/api/config/hotzone", "POST", body, headers)[0] == status


def test_a_body_without_a_length_is_cut_off(served):
    with closing(http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)) as connection:
        chunks = (b"x" * 1_000 for _ in range(20))
        connection.request("POST", "/api/config/hotzone", chunks, dict([JSON]), encode_chunked=True)

        assert connection.getresponse().status == 413


def test_too_many_requests_are_told_so(served):
    posted = [served.ask("/api/config/hotzone", "POST", b"{}", [JSON])[0] for _ in range(WRITES_AT_ONCE + 4)]

    assert posted[:WRITES_AT_ONCE] == [400] * WRITES_AT_ONCE
    assert 429 in posted


def test_an_address_has_so_many_at_once_and_then_so_many_a_second():
    pace = Pace(0.001, AT_ONCE)

    assert sum(pace.allows("a") for _ in range(AT_ONCE + 50)) == AT_ONCE
    assert pace.allows("b")


PRINTABLE = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=40)
PATHS = st.sampled_from(
    ["/", "/page/", "/api/", "/api/rows?", "/api/gaps?from_ns=", "/api/history/candles?step=", "/x"]
)
HEADERS = st.sampled_from(["Host", "Origin", "Cookie", "Authorization", "Content-Type", "Upgrade", "If-None-Match"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=PATHS, rest=PRINTABLE, method=st.sampled_from(["GET", "POST"]), body=st.none() | st.binary(max_size=99),
    headers=st.lists(st.tuples(HEADERS, PRINTABLE), max_size=3),
)  # fmt: skip
def test_whatever_comes_no_answer_is_a_defects(served, path, rest, method, body, headers):
    try:
        status = served.ask(path + rest, method, body, headers)[0]
    except (http.client.HTTPException, ConnectionError):
        status = 400  # it hung up
    assert status < 500
    assert not served.daemon.recorder.problems


def test_bytes_that_are_no_http_end_a_connection_and_nothing_else(served):
    for sent in (b"\x16\x03\x01\x02\x00" * 50, b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 9_000, b"A" * 70_000):
        with closing(socket.create_connection(("127.0.0.1", served.port), timeout=30)) as stranger:
            try:
                stranger.sendall(sent)
                answer = stranger.recv(100)
            except ConnectionError:
                answer = b""
        assert answer[:12] in {b"", b"HTTP/1.1 400", b"HTTP/1.1 421"}

    assert served.ask("/")[0] == 200


@pytest.mark.parametrize("path", ["/", "/health", "/metrics", "/api/status", "/page/main.js", "/openapi.json"])
def test_without_the_token_nothing_is_answered_and_with_it_all_is(guarded, path):
    assert guarded.ask(path)[0] == 401
    assert guarded.ask(path, headers=[("Authorization", "Bearer wrong")])[0] == 401
    assert guarded.ask(path, headers=BEARER)[0] in ({200, 503} if path == "/health" else {200})


def test_without_the_token_nothing_is_streamed(guarded):
    with pytest.raises(InvalidStatus) as refused, guarded.page():
        pass
    assert refused.value.response.status_code == 401
    with guarded.page(additional_headers=dict(BEARER)) as page:
        assert page.next()["type"] == "full"


def test_the_token_opens_the_page_once_and_a_strict_cookie_keeps_it_open(guarded):
    status, headers, _ = guarded.ask(f"/?token={TOKEN}&state=live")

    cookie, *rules = headers["set-cookie"].split("; ")
    assert (status, headers["location"]) == (303, "/?state=live")
    assert {rule.lower() for rule in rules} >= {"httponly", "samesite=strict", "path=/"}
    assert TOKEN not in cookie
    assert guarded.ask("/api/status", headers=[("Cookie", cookie)])[0] == 200
    with guarded.page(additional_headers={"Cookie": cookie}) as page:
        assert page.next()["type"] == "full"
    assert guarded.ask(f"/api/status?token={TOKEN}")[0] in {401, 429}  # only the page takes it so
    assert guarded.ask("/?token=wrong")[0] in {401, 429}
    assert guarded.ask("/api/status", headers=[("Cookie", cookie[:-1] + "~")])[0] in {401, 429}


def test_who_guesses_tokens_is_slowed_down(guarded):
    found = [guarded.ask("/", headers=[("Authorization", f"Bearer {n}")])[0] for n in range(WRITES_AT_ONCE + 5)]

    assert 429 in found
    assert guarded.ask("/health", headers=BEARER)[0] == 200


def test_the_token_is_in_no_line_of_the_journal(tmp_path):
    at = GatewayAt(port=0, token=TOKEN)
    with Serving(tmp_path, NO_MARKET, at=at, gateway_token=TOKEN) as serving:
        serving.opened().ask(f"/?token={TOKEN}")
        with serving.page(additional_headers=dict(BEARER)) as page:
            page.next()
        with closing(socket.create_connection(("127.0.0.1", serving.port))) as stranger:
            stranger.sendall(f"GET /?token={TOKEN} HTTP/9\r\n\r\n".encode())
            stranger.recv(100)

    assert any("gateway.opened" in line for line in serving.lines)
    assert any("gateway.warned" in line for line in serving.lines)
    assert not any(TOKEN in line for line in serving.lines)
    assert TOKEN not in str(serving.settings)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "desk.example"])  # noqa: S104 - refused
def test_other_machines_are_served_with_a_token_alone(tmp_path, host):
    with pytest.raises(UsageError, match="GATEWAY_TOKEN"):
        Serving(tmp_path, NO_MARKET, at=GatewayAt(host))

    assert GatewayAt(host, token=TOKEN).checked().host == host


def test_a_token_that_can_be_guessed_is_refused(tmp_path):
    with pytest.raises(UsageError, match="fewer than 16"):
        Serving(tmp_path, NO_MARKET, at=GatewayAt(token="guess"))  # noqa: S106 - refused


def test_a_port_that_is_taken_is_passed_over_and_said(tmp_path):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with Serving(tmp_path, NO_MARKET, at=GatewayAt(port=port)) as serving:
            serving.opened()

            assert port < serving.port <= port + 20
            assert serving.ask("/health")[0] == 200
    assert any("gateway.opened" in line and f"wanted={port}" in line for line in serving.lines)


def test_where_no_port_is_free_the_recording_goes_on_without_a_page(tmp_path):
    with (
        closing(socket.create_server(("127.0.0.1", 65_535))),
        Serving(tmp_path, NO_MARKET, at=GatewayAt(port=65_535)) as s,
    ):
        for _ in range(300):
            if s.daemon.recorder.problems and s.daemon.rows.get("futures.trades"):
                break
            s._opened.wait(0.1)

    assert "no page is served" in s.daemon.recorder.problems[0]
    assert s.daemon.rows["futures.trades"] > 0
