"""The control socket: nobody else opens it, and no client, whatever it does, costs more than its own answer."""

import asyncio
import gc
import json
import os
import socket
import stat
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from spymaster import control
from spymaster.control import SOCKET_NAME, ControlServer, ask
from spymaster.errors import ControlError, UsageError

ROWS = {"rows": 7}


def saying(answer):
    """A command that answers whatever it is asked with."""

    async def command(request):
        return answer() if callable(answer) else answer

    return command


@contextmanager
def serving(folder, commands=None):
    """Serve in a thread of its own, as the daemon does on its event loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = ControlServer(folder, commands or {"status": saying(ROWS)})

    async def end():
        server.close()
        await asyncio.sleep(0.05)  # let the aborted connections go

    try:
        asyncio.run_coroutine_threadsafe(server.open(), loop).result(5)
        yield
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def client(folder) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5)
    for _ in range(500):
        try:
            connection.connect(str(folder / SOCKET_NAME))
            return connection
        except BlockingIOError:  # too many wait to be let in
            time.sleep(0.01)
    raise TimeoutError


def open_descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def until_closed(connection) -> bytes:
    answer = b""
    try:
        while piece := connection.recv(1 << 16):
            answer += piece
    except ConnectionResetError:
        pass
    connection.close()
    return answer


def test_a_question_gets_one_json_line_and_the_connection_ends(tmp_path):
    with serving(tmp_path):
        connection = client(tmp_path)
        connection.sendall(b'{"command": "status"}\n')

        assert until_closed(connection) == b'{"rows": 7}\n'
        assert ask(tmp_path, "status") == ROWS


def test_a_command_gets_what_the_question_says_beside_its_name(tmp_path):
    async def command(request):
        return {"asked": request["count"] + 1, "name": request["name"]}

    with serving(tmp_path, {"count": command}):
        assert ask(tmp_path, "count", values={"count": 4, "name": "é"}) == {"asked": 5, "name": "é"}


def test_a_command_that_refuses_answers_with_its_line(tmp_path):
    async def command(request):
        raise UsageError(f"{request['name']} is no name. Nothing was done. Next: give one")

    line = "7 is no name. Nothing was done. Next: give one"
    with serving(tmp_path, {"name": command}), pytest.raises(ControlError, match=f"^{line}$"):
        ask(tmp_path, "name", values={"name": 7})


def test_without_a_daemon_there_is_no_answer(tmp_path):
    assert ask(tmp_path, "status") is None
    assert ask(tmp_path / "missing", "status") is None


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_socket_is_its_users_alone_before_anyone_can_connect(tmp_path, monkeypatch, umask):
    real, seen = asyncio.start_unix_server, []

    async def look_first(*arguments, **keywords):
        seen.append((tmp_path / SOCKET_NAME).lstat())
        return await real(*arguments, **keywords)

    monkeypatch.setattr(asyncio, "start_unix_server", look_first)
    before = os.umask(umask)
    try:
        with serving(tmp_path):
            seen.append((tmp_path / SOCKET_NAME).lstat())
    finally:
        os.umask(before)

    assert [stat.S_IMODE(state.st_mode) for state in seen] == [0o600, 0o600]
    assert all(stat.S_ISSOCK(state.st_mode) and state.st_uid == os.geteuid() for state in seen)


def test_the_socket_goes_when_the_server_closes(tmp_path):
    with serving(tmp_path):
        assert (tmp_path / SOCKET_NAME).exists()

    assert list(tmp_path.iterdir()) == []


def test_the_socket_of_a_killed_daemon_answers_nobody_and_is_replaced(tmp_path):
    killed = socket.socket(socket.AF_UNIX)
    killed.bind(str(tmp_path / SOCKET_NAME))
    killed.listen()
    killed.close()

    assert ask(tmp_path, "status") is None
    with serving(tmp_path):
        assert ask(tmp_path, "status") == ROWS


def test_what_is_no_socket_keeps_the_name_and_its_content(tmp_path):
    (tmp_path / SOCKET_NAME).write_text("mine")

    with pytest.raises(FileExistsError, match="is no socket"):
        asyncio.run(ControlServer(tmp_path, {}).open())
    assert ask(tmp_path, "status") is None
    assert (tmp_path / SOCKET_NAME).read_text() == "mine"


def test_no_half_follows_a_link_at_the_sockets_place(tmp_path):
    real, linked, dangling = (tmp_path / name for name in ("real", "linked", "dangling"))
    for folder in (real, linked, dangling):
        folder.mkdir()
    (linked / SOCKET_NAME).symlink_to(real / SOCKET_NAME)
    (dangling / SOCKET_NAME).symlink_to(dangling / "elsewhere")

    with serving(real):
        assert ask(linked, "status") is None
        for folder in (linked, dangling):
            with pytest.raises(FileExistsError):
                asyncio.run(ControlServer(folder, {}).open())
        assert ask(real, "status") == ROWS
    assert [path.name for path in dangling.iterdir()] == [SOCKET_NAME]


def test_a_path_too_long_for_a_socket_is_taken_from_the_working_folder(tmp_path, monkeypatch):
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.chdir(deep)

    with serving(deep):
        assert ask(deep, "status") == ROWS
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ControlError, match="path too long"):
            ask(deep, "status")
        with pytest.raises(OSError, match="path too long"):
            asyncio.run(ControlServer(deep / ".." / deep.name / ".", {}).open())


GARBAGE = {
    "binary": bytes(range(256)),
    "no JSON": b"GET / HTTP/1.1\n",
    "an empty line": b"\n",
    "no object": b"[1]\n",
    "no name": b'{"command": ["status"]}\n',
    "unknown": b'{"command": "format-disk"}\n',
    "nested": b"[" * 1000 + b"\n",
    "a little too large": b'{"command": "status", "why": "' + b"x" * 1024 + b'"}\n',
    "too large": b'{"command": "' + b"x" * 100_000 + b'"}\n',
    "endless": b"x" * 100_000,
    "a number": b"9" * 1000 + b"\n",
}


@pytest.mark.parametrize("request_bytes", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_gets_one_line_that_says_what_a_request_is(tmp_path, request_bytes):
    with serving(tmp_path):
        connection = client(tmp_path)
        try:
            connection.sendall(request_bytes)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it hung up before all of it was sent
        answer = until_closed(connection)

        assert answer.count(b"\n") == 1
        assert "a request is one line" in json.loads(answer)["error"]
        assert ask(tmp_path, "status") == ROWS


def test_an_unknown_question_names_the_known_ones(tmp_path):
    with (
        serving(tmp_path, {"status": saying({}), "gaps": saying({})}),
        pytest.raises(ControlError, match="gaps, status"),
    ):
        ask(tmp_path, "top")


@pytest.mark.parametrize("sent", [b"", b'{"command": '], ids=["silent", "half a line"])
def test_a_slow_client_is_dropped_and_keeps_nobody_waiting(tmp_path, monkeypatch, sent):
    monkeypatch.setattr(control, "REQUEST_S", 0.5)
    with serving(tmp_path):
        slow = client(tmp_path)
        slow.sendall(sent)
        assert ask(tmp_path, "status") == ROWS
        began = time.monotonic()

        assert until_closed(slow) == b""
        assert time.monotonic() - began < 5


def test_a_client_that_does_not_read_is_dropped(tmp_path, monkeypatch):
    monkeypatch.setattr(control, "REQUEST_S", 0.5)
    large = {"text": "x" * (8 << 20)}
    with serving(tmp_path, {"status": saying(large)}):
        deaf = client(tmp_path)
        deaf.sendall(b'{"command": "status"}\n')
        time.sleep(1)

        assert len(until_closed(deaf)) < 8 << 20
        assert ask(tmp_path, "status") == large


def test_a_client_that_reads_late_gets_the_whole_answer(tmp_path):
    length = 0
    with serving(tmp_path, {"status": saying(lambda: {"text": "x" * length})}):
        for length in range(100_000, 400_000, 30_000):  # around what the system buffers between the two
            late = client(tmp_path)
            late.sendall(b'{"command": "status"}\n')
            time.sleep(0.1)
            assert len(until_closed(late)) == length + len(b'{"text": ""}\n')


def test_a_hundred_connections_leave_no_descriptor_open_and_the_daemon_answers_again(tmp_path, monkeypatch):
    monkeypatch.setattr(control, "REQUEST_S", 1.0)
    with serving(tmp_path):
        before = open_descriptors()
        hogs = [client(tmp_path) for _ in range(100)]

        answers = [until_closed(hog) for hog in hogs]

        told = [json.loads(answer)["error"] for answer in answers if answer]
        assert set(told) == {f"{control.MAX_CONNECTIONS} others are being answered"}
        assert 0 < len(told) <= 100 - control.MAX_CONNECTIONS
        assert ask(tmp_path, "status") == ROWS
        deadline = time.monotonic() + 5
        while open_descriptors() > before:
            assert time.monotonic() < deadline, "connections are still open"
            time.sleep(0.01)


def test_questions_asked_at_once_are_all_answered(tmp_path):
    answers = []
    with serving(tmp_path):
        threads = [threading.Thread(target=lambda: answers.append(ask(tmp_path, "status", 10))) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert answers == [ROWS] * 20


@contextmanager
def answering(folder, pieces):
    """Listen as a daemon gone wrong would: send `pieces`, a tenth of a second apart, and hold the line."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / SOCKET_NAME))
    listener.listen()
    ended = threading.Event()

    def serve():
        connection, _ = listener.accept()
        for piece in pieces:
            try:
                connection.sendall(piece)
            except OSError:
                break
            if ended.wait(0.1):
                break
        ended.wait(10)
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        listener.close()


@pytest.mark.parametrize("pieces", [[], [b"x"] * 100], ids=["silent", "drop by drop"])
def test_a_daemon_that_does_not_answer_is_given_up_in_time(tmp_path, pieces):
    began = time.monotonic()

    with answering(tmp_path, pieces), pytest.raises(ControlError, match=r"did not answer within 0.5 s") as raised:
        ask(tmp_path, "status", 0.5)

    assert time.monotonic() - began < 5
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("answer", [b"garbage\n", b"[1]\n", b"[" * 100_000 + b"\n"], ids=["text", "list", "nested"])
def test_an_answer_that_does_not_read_is_one_line(tmp_path, answer):
    with answering(tmp_path, [answer]), pytest.raises(ControlError, match="no answer that reads"):
        ask(tmp_path, "status")


def test_a_connection_that_is_accepted_as_the_server_closes_leaves_no_complaint(tmp_path, capfd):
    async def close_at_once(turns):
        server = ControlServer(tmp_path, {"status": saying(ROWS)})
        await server.open()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.setblocking(False)
            connection.connect(str(tmp_path / SOCKET_NAME))
            for _ in range(turns):
                await asyncio.sleep(0)
            server.close()
            await asyncio.sleep(0.01)
        gc.collect()  # a transport that never attached complains when it goes

    for turns in range(5):  # accepted, attached, served: the server closes between any two of these
        asyncio.run(close_at_once(turns))

    assert capfd.readouterr().err == ""
