"""What the page asks of log and lake: candles of one contract."""

import asyncio
from contextlib import closing

import pytest

from spymaster.engines.profile import profile_named
from spymaster.gateway.history import History, candles

SIM = profile_named("SIM")
SECOND_NS = 10**9


def asked(root, *reads):
    """Return the answers to questions about a lake."""

    async def ask():
        with closing(History(root, root.parent / "wal")) as history:
            return [await history.ask(read) for read in reads]

    return asyncio.run(ask())


@pytest.mark.parametrize("contract", ["ESZ5' or 1 = 1 --", "'", "\\", "{}", None])
def test_no_name_of_a_contract_is_read_as_a_question(tmp_path, contract):
    assert asked(tmp_path / "lake", candles(SIM, contract, 60, 0, 60 * SECOND_NS)) == [[]]
