"""The routes: the page's files, what it asks, what it is streamed. What is not known or not right is one line, 4xx."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from spymaster.errors import SpymasterError
from spymaster.gateway.asked import Asked, NotUsableError
from spymaster.gateway.broadcast import Broadcast
from spymaster.gateway.page_files import INDEX, PageFile
from spymaster.gateway.served import Served

CLOSE_TRY_AGAIN, CLOSE_NOT_ALLOWED = 1013, 1008


def error_answer(status: int, line: str) -> Response:
    """Return an answer that says in one line what is not right."""
    return JSONResponse({"error": line}, status)


class App:
    """What answers, of one daemon."""

    def __init__(self, served: Served, broadcast: Broadcast, files: Mapping[str, PageFile]) -> None:
        self._served, self._broadcast, self._files = served, broadcast, files

    def built(self) -> Starlette:
        """Return the application."""
        return Starlette(
            routes=[
                Route("/", self._file, methods=["GET"]),
                Route("/page/{name:path}", self._file, methods=["GET"]),
                Route("/api/status", self._status, methods=["GET"]),
                Route("/api/levels", self._levels, methods=["GET"]),
                WebSocketRoute("/ws/stream", self._stream),
            ],
            exception_handlers={HTTPException: _http_error, NotUsableError: _not_usable, SpymasterError: _ours},
        )

    async def _file(self, request: Request) -> Response:
        name = request.path_params.get("name", INDEX)
        found = self._files.get(name)
        if found is None:
            raise HTTPException(404)
        headers = {"etag": found.etag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == found.etag:
            return Response(status_code=304, headers=headers)
        return Response(found.body, headers=headers, media_type=found.kind)

    async def _status(self, request: Request) -> Response:
        Asked(request).only()
        return JSONResponse({key: one for key, one in self._broadcast.state.items() if key not in {"snap", "gamma"}})

    async def _levels(self, request: Request) -> Response:
        Asked(request).only()
        state = self._broadcast.state
        return JSONResponse({"snap": state.get("snap"), "gamma": state.get("gamma")})

    async def _stream(self, socket: WebSocket) -> None:
        clients = self._broadcast.clients
        await socket.accept()
        if clients.is_full:
            await socket.close(CLOSE_TRY_AGAIN, "too many pages are open")
            return
        client = self._broadcast.join()
        leaving = asyncio.create_task(_left(socket))
        try:
            while not leaving.done():
                following = asyncio.create_task(client.next())
                await asyncio.wait({following, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    following.cancel()
                    break
                await socket.send_text(following.result())
        except WebSocketDisconnect:
            pass
        finally:
            clients.remove(client)
            leaving.cancel()
            with suppress(RuntimeError):  # it is closed already
                await socket.close()


async def _left(socket: WebSocket) -> None:
    """Wait until a page goes away, or says something: it has nothing to say."""
    with suppress(WebSocketDisconnect, RuntimeError):
        await socket.receive_text()
        await socket.close(CLOSE_NOT_ALLOWED, "this stream takes nothing")


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for it
    line = {404: "there is nothing of that name", 405: "that is not done here"}.get(error.status_code, error.detail)
    return error_answer(error.status_code, f"{line}. Nothing was done. Next: see /openapi.json")


async def _not_usable(request: Request, error: Exception) -> Response:
    return error_answer(400, str(error))


async def _ours(request: Request, error: Exception) -> Response:
    return error_answer(409, str(error))
