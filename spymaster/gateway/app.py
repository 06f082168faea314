"""The routes: the page's files, what it asks, what it is streamed. What is not known or not right is one line, 4xx."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from spymaster.errors import DiskFullError, SpymasterError, UsageError
from spymaster.gateway.access import MOST_BODY_BYTES
from spymaster.gateway.answers import Answers
from spymaster.gateway.asked import Asked, NotUsableError
from spymaster.gateway.broadcast import Broadcast
from spymaster.gateway.clients import Client
from spymaster.gateway.history import BusyError, TooLongError
from spymaster.gateway.page_files import INDEX, PageFile
from spymaster.gateway.served import Served

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_TRY_AGAIN, _NOT_ALLOWED = 1013, 1008  # codes of a websocket's end
_LINES: Final = {404: "there is nothing of that name", 405: "that is not done here"}
_STATUS: Final[Mapping[type[SpymasterError], int]] = {
    NotUsableError: 400,
    BusyError: 429,
    TooLongError: 503,
    DiskFullError: 503,
    UsageError: 400,
    SpymasterError: 503,
}


class App:
    """What answers, of one daemon."""

    def __init__(self, served: Served, broadcast: Broadcast, answers: Answers, files: Mapping[str, PageFile]) -> None:
        self._served, self._broadcast, self._answers, self._files = served, broadcast, answers, files

    def built(self) -> Starlette:
        """Return the application."""
        answers = self._answers
        return Starlette(
            routes=[
                Route("/", self._file, methods=["GET"]),
                Route("/page/{name:path}", self._file, methods=["GET"]),
                Route("/health", self._health, methods=["GET"]),
                Route("/metrics", self._metrics, methods=["GET"]),
                Route("/openapi.json", _json(answers.openapi), methods=["GET"]),
                Route("/api/status", _json(answers.status), methods=["GET"]),
                Route("/api/levels", _json(answers.levels), methods=["GET"]),
                Route("/api/levels/scores", _json(answers.scores), methods=["GET"]),
                Route("/api/rows", _json(answers.rows), methods=["GET"]),
                Route("/api/explain", self._explain, methods=["GET"]),
                Route("/api/history/candles", _json(answers.candles), methods=["GET"]),
                Route("/api/gaps", _json(answers.gaps), methods=["GET"]),
                Route("/api/alerts", _json(answers.alerts), methods=["GET"]),
                Route("/api/config/hotzone", self._hotzone, methods=["POST"]),
                WebSocketRoute("/ws/stream", self._stream),
            ],
            exception_handlers={HTTPException: _http_error, SpymasterError: _ours, Exception: self._defect},
        )

    async def _file(self, request: Request) -> Response:
        found = self._files.get(request.path_params.get("name", INDEX))
        if found is None:
            raise HTTPException(404)
        headers = {"etag": found.etag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == found.etag:
            return Response(status_code=304, headers=headers)
        return Response(found.body, headers=headers, media_type=found.kind)

    async def _health(self, request: Request) -> Response:
        document = self._answers.health(Asked(request))
        return JSONResponse(document, 200 if document["ok"] else 503)

    async def _metrics(self, request: Request) -> Response:
        return Response(self._answers.metrics(Asked(request)), media_type=METRICS_TYPE)

    async def _explain(self, request: Request) -> Response:
        return Response(await self._answers.explain(Asked(request)), media_type="application/json")

    async def _hotzone(self, request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return _error(
                415, "the body is not said to be application/json. Nothing was set. Next: say so, and send it"
            )
        body = await request.body()
        if len(body) > MOST_BODY_BYTES:
            return _error(413, f"the body has more than {MOST_BODY_BYTES} bytes. Nothing was set. Next: send less")
        return JSONResponse(await self._answers.set_zone(_object(body)))

    async def _stream(self, socket: WebSocket) -> None:
        clients = self._broadcast.clients
        if clients.is_full:
            await socket.accept()
            await socket.close(_TRY_AGAIN, "too many pages are open")
            return
        await socket.accept()
        client = self._broadcast.join()
        leaving = asyncio.create_task(_left(socket, client))
        try:
            while (frame := await client.next()) is not None:
                await socket.send_text(frame)
        except WebSocketDisconnect:
            pass
        finally:
            clients.remove(client)
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)

    async def _defect(self, request: Request, error: Exception) -> Response:
        self._served.problem(
            f"{request.url.path} was not answered ({type(error).__name__}: {error}). The recording goes on. Next: "
            f"report it"
        )
        return _error(500, "a defect kept this from being answered. Nothing was changed. Next: see spymaster status")


def _json(answer: Callable[[Asked], Any]) -> Callable[[Request], Awaitable[Response]]:
    """Return a route that answers with a document, made at once or awaited."""

    async def route(request: Request) -> Response:
        found = answer(Asked(request))
        return JSONResponse(await found if asyncio.iscoroutine(found) else found)

    return route


def _object(body: bytes) -> dict[str, Any]:
    """Return a body's JSON object. Whole numbers are read as floats: one of 4,000 digits is infinite, and refused."""
    try:
        found = json.loads(body, parse_int=float)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise NotUsableError('the body is no JSON object. Nothing was set. Next: send {"zone": "A", "price": 6900}')
    return found


async def _left(socket: WebSocket, client: Client) -> None:
    """Wait until a page goes away, or says something: it has nothing to say."""
    with suppress(WebSocketDisconnect, RuntimeError, KeyError):  # KeyError: bytes in place of a text
        await socket.receive_text()
        await socket.close(_NOT_ALLOWED, "this stream takes nothing")
    client.end()


def _error(status: int, line: str) -> Response:
    return JSONResponse({"error": line}, status)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for it
    line = _LINES.get(error.status_code, error.detail)
    answer = _error(error.status_code, f"{line}. Nothing was done. Next: see /openapi.json")
    answer.headers.update(error.headers or {})
    return answer


async def _ours(request: Request, error: Exception) -> Response:
    status = next(status for kind, status in _STATUS.items() if isinstance(error, kind))
    return _error(status, str(error))
