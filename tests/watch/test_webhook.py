"""Alerts that are posted, to a real server on this machine: a bound on tries, no redirect, no word of the address."""

import asyncio
import json
import re
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from pydantic import SecretStr

from spymaster.errors import UsageError
from spymaster.journal import Journal
from spymaster.watch import webhook
from spymaster.watch.webhook import MAX_WAITING, Webhook, checked
from tests.watch.watched import recorded_alerts, watched

TOKEN = "s3cr3t-t0ken"  # noqa: S105  # of nobody
SOON = (0.01, 0.01, 0.01)


class Receiver:
    """A server that answers as it is told, and keeps what it was sent."""

    def __init__(self, *statuses):
        self.got, self._statuses = [], list(statuses)

    async def _post(self, request):
        self.got.append((request.path, await request.json()))
        status = self._statuses.pop(0) if self._statuses else 200
        return web.Response(status=status, headers={"Location": "/elsewhere"} if 300 <= status < 400 else None)

    @asynccontextmanager
    async def serve(self):
        """Yield the address."""
        application = web.Application()
        application.router.add_post("/{any:.*}", self._post)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield SecretStr(f"http://127.0.0.1:{runner.addresses[0][1]}/hook/{TOKEN}")
        finally:
            await runner.cleanup()


def posted(receiver, *documents):
    """Return what a webhook that was given these has to say of them, and the webhook."""

    async def run():
        said = []
        async with receiver.serve() as url:
            hook = Webhook(checked(url), said.append, SOON)
            for document in documents:
                hook.put(document)
            hook.finish()
            async with asyncio.timeout(30):
                await hook.run()
        return hook, said

    return asyncio.run(run())


def test_an_alert_is_posted_as_one_json_document():
    receiver = Receiver()
    hook, said = posted(receiver, {"kind": "gap", "text": "gap in futures.trades/ES"})

    assert receiver.got == [(f"/hook/{TOKEN}", {"kind": "gap", "text": "gap in futures.trades/ES"})]
    assert (hook.posted, hook.lost, said) == (1, 0, [None])


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_what_another_try_may_mend_is_tried_again_and_gets_there(status):
    receiver = Receiver(status, status)
    hook, said = posted(receiver, {"kind": "gap"})

    assert len(receiver.got) == 3
    assert (hook.posted, hook.lost, said) == (1, 0, [None])


def test_tries_have_a_bound_and_the_next_alert_has_its_own():
    receiver = Receiver(*[500] * 4)
    hook, said = posted(receiver, {"kind": "gap"}, {"kind": "disk"})

    assert [document["kind"] for _, document in receiver.got] == ["gap"] * 4 + ["disk"]
    assert (hook.posted, hook.lost) == (1, 1)
    assert said[0].startswith("1 alerts did not get to ALERT_WEBHOOK_URL, the last because it answered 500. ")
    assert said[1] is None


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 403, 404])
def test_what_is_refused_for_good_is_not_tried_again_and_no_redirect_is_followed(status):
    receiver = Receiver(status)
    hook, (line,) = posted(receiver, {"kind": "gap"})

    assert [path for path, _ in receiver.got] == [f"/hook/{TOKEN}"]
    assert hook.lost == 1
    assert f"it answered {status}" in line
    assert "elsewhere" not in line


def test_beyond_the_bound_the_oldest_that_waits_is_dropped_and_counted():
    receiver = Receiver()
    hook, _ = posted(receiver, *({"kind": "gap", "number": number} for number in range(MAX_WAITING + 3)))

    assert hook.lost == 3
    assert [document["number"] for _, document in receiver.got] == list(range(3, MAX_WAITING + 3))


def test_an_answer_that_does_not_come_costs_a_try_and_no_more(monkeypatch):
    monkeypatch.setattr(webhook, "ANSWER_S", 0.1)

    async def run():
        said, ending = [], asyncio.Event()

        async def silent(reader, writer):
            await ending.wait()
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        hook = Webhook(SecretStr(f"http://127.0.0.1:{port}/{TOKEN}"), said.append, (0.01,))
        hook.put({"kind": "gap"})
        hook.finish()
        async with asyncio.timeout(30):
            await hook.run()
        ending.set()
        server.close()
        await server.wait_closed()
        return said

    (line,) = asyncio.run(run())
    assert "no answer within 0.1 s" in line


@pytest.mark.parametrize("url", [
    "https://hooks.example.com/" + TOKEN, "http://127.0.0.1:8080/" + TOKEN, "http://localhost/" + TOKEN,
    "http://[::1]:9/" + TOKEN,
])  # fmt: skip
def test_https_anywhere_and_http_on_this_machine_may_be_posted_to(url):
    assert checked(SecretStr(url)).get_secret_value() == url


@pytest.mark.parametrize("url", [
    "http://hooks.example.com/" + TOKEN, "http://127.0.0.1.example.com/" + TOKEN, "http://10.0.0.1/" + TOKEN,
    "ftp://127.0.0.1/" + TOKEN, TOKEN, "https:///" + TOKEN, "http://[::1/" + TOKEN, "https://host:port/" + TOKEN, "",
])  # fmt: skip
def test_any_other_address_is_refused_in_one_line_that_does_not_say_it(url):
    with pytest.raises(UsageError) as refused:
        checked(SecretStr(url))

    assert "ALERT_WEBHOOK_URL is not usable" in str(refused.value)
    assert TOKEN not in str(refused.value)
    assert "example.com" not in str(refused.value)


@pytest.mark.parametrize("answers", [True, False], ids=["answers", "is not there"])
def test_an_alert_is_recorded_and_posted_and_nothing_that_is_said_has_the_address(tmp_path, monkeypatch, answers):
    """Without a server behind it the address is in the client's own errors."""
    monkeypatch.setattr(webhook, "PAUSES_S", SOON)
    receiver, lines = Receiver(), []

    async def run():
        async with receiver.serve() as url:
            found = url if answers else SecretStr(re.sub(r":\d+/", ":9/", url.get_secret_value()))
            journal = Journal(lines.append, "text", [])  # which is told no secret that it could leave out
            async with watched(tmp_path, webhook_url=found, journal=journal) as seen:
                seen.recorder.health.problem("control", "no control socket")
                await seen.until(lambda: receiver.got if answers else seen.watch._webhook.lost)
                problems = seen.recorder.problems
            journal.close()
        return problems

    problems = asyncio.run(run())

    assert ("problem", "raised", "control", "no control socket") in recorded_alerts(tmp_path)
    said = " ".join([*lines, *problems, json.dumps(recorded_alerts(tmp_path))])
    assert TOKEN not in said
    assert "127.0.0.1" not in said
    if answers:
        ((_, document),) = receiver.got
        assert (document["kind"], document["text"]) == ("problem", "no control socket")
        assert re.fullmatch(r"\d+", document["alert_id"])
    else:
        assert "1 alerts did not get to ALERT_WEBHOOK_URL" in said
        assert [alert[:3] for alert in recorded_alerts(tmp_path)][1] == ("problem", "raised", "webhook")


def test_a_kind_that_is_not_posted_is_recorded_all_the_same(tmp_path):
    receiver = Receiver()

    async def run():
        async with (
            receiver.serve() as url,
            watched(tmp_path, webhook_url=url, rules="[kinds.problem]\nwebhook = false\n") as seen,
        ):
            seen.recorder.health.problem("control", "no control socket")
            seen.recorder.health.problem("gold", "a part was not written")
            await seen.until(lambda: receiver.got)

    asyncio.run(run())

    assert [document["kind"] for _, document in receiver.got] == ["gold"]
    assert {alert[0] for alert in recorded_alerts(tmp_path)} == {"problem", "gold"}
