"""Files whose disk does not give their bytes: each is an error of its own, and the next one is read."""

import asyncio
import errno
import hashlib

import pytest

from spymaster.errors import SourceError
from spymaster.feeds import dbn_files
from spymaster.feeds.dbn_files import DbnFileFeed
from tests.feeding import following, messages
from tests.normalize.dbn_bytes import es_header, trade


def bad_sector(*_):
    raise OSError(errno.EIO, "Input/output error")


def test_a_file_that_the_disk_does_not_give_at_its_opening_is_refused_and_the_next_one_opens(tmp_path, monkeypatch):
    for name in ("a.dbn", "b.dbn"):
        (tmp_path / name).write_bytes(es_header() + trade())
    deliveries = DbnFileFeed(str(tmp_path)).deliveries({})

    with monkeypatch.context() as disk:
        disk.setattr(hashlib, "file_digest", bad_sector)
        with pytest.raises(SourceError, match=r"a\.dbn cannot be read: Input/output error"):
            following(deliveries)

    assert following(deliveries).info.origin.endswith("b.dbn")


def test_a_file_that_the_disk_stops_giving_ends_in_an_error_after_what_it_gave(tmp_path, monkeypatch):
    monkeypatch.setattr(dbn_files, "MESSAGE_BYTES", len(trade()))
    (tmp_path / "a.dbn").write_bytes(es_header() + trade() * 3)
    delivery = following(DbnFileFeed(str(tmp_path)).deliveries({}))
    received: list[bytes] = []

    async def receive():
        async for message in messages(delivery):
            received.append(message.data)
            if len(received) == 2:
                monkeypatch.setattr(dbn_files._DbnReader, "read", bad_sector)

    with pytest.raises(SourceError, match=r"a\.dbn cannot be read further: Input/output error"):
        asyncio.run(receive())

    assert received == [trade()] * 2
