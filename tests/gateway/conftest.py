"""One daemon whose judge has scores, for all who only look at it."""

import time

import pytest

from spymaster.gateway.address import GatewayAt
from spymaster.query.sessions import session_at
from tests.gateway.serving import EARLY, FULL_S, NOON, WAIT_S, Serving, is_judged


@pytest.fixture(scope="package")  # it ends with them, and takes nothing from the tests behind
def live(tmp_path_factory):
    """A daemon whose judge has scores, of a market that runs four times as fast."""
    session_at(0, "cme")
    folder = tmp_path_factory.mktemp("live")
    at = GatewayAt(port=0, full_s=FULL_S)
    with Serving(folder, f"sim-es:rate=200,start={NOON}", 4, profile=EARLY, at=at) as serving:
        serving.opened()
        for _ in range(WAIT_S * 10):
            if is_judged(serving):
                break
            time.sleep(0.1)
        assert is_judged(serving)
        yield serving
