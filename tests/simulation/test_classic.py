"""`plant=classic` is the market as it first was, to the byte, so that old seeds keep theirs.

The pins are over the records and events which that market had: what a later market sends beside them is left out.
"""

import hashlib
import json
from typing import Any

import pytest

from spymaster.simulation.plant import parse_plant
from tests.sim_recording import DEFINITION, MAPPING, MBP10, TRADE, Recorded

KINDS = {TRADE, MBP10, DEFINITION, MAPPING}
ROUND_S = 20 * 12 + 4  # each of the twelve kinds, a slot each
# By what is planted, seed, rate and seconds: futures and options as DBN, SPY, SPY's options, the chain, the truths.
PINNED = {
    ("classic", 1, 2_000, 40): [
        "dab5c48e95e00381", "b72256e0128862b5", "32ab29a324176556", "64af514ccf1f475b", "e3b0c44298fc1c14",
    ],
    ("classic+walls+late", 1, 2_000, 12): [
        "f0a25905f154e3cc", "88c02e5e32c17f15", "cf25522684901877", "8655b51127dd64db", "321f03f81fc72fc9",
    ],
    ("classic+all", 2, 2_000, ROUND_S): [
        "9c8a546792593a51", "fe1b75223dedeb28", "5502e8d82daf9c32", "bba77763e12a62d8", "3ebd2658c7a36e12",
    ],
    ("classic+all", 5, 200, ROUND_S): [
        "c1d7128538a8e67b", "0195e6eb6e81a7ec", "19a01f2a6a5d96a5", "45031567c5f25dc7", "ca9db4f35e8b52a9",
    ],
}  # fmt: skip


def digest(parts: Any) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part)
    return whole.hexdigest()[:16]


def records(messages: list[bytes]) -> Any:
    for message in messages:
        at = 0
        while at < len(message):
            end = at + message[at] * 4
            if message[at + 1] in KINDS:
                yield message[at:end]
            at = end


def frames(messages: list[bytes], kinds: tuple[bytes, ...]) -> Any:
    for message in messages:
        for event in message[1:-1].split(b',{"ev":'):
            told = event.removeprefix(b'{"ev":')
            if told.startswith(kinds):
                yield told


def pages(messages: list[bytes]) -> Any:
    for message in messages:
        for contract in json.loads(message)["results"]:
            yield json.dumps({name: value for name, value in contract.items() if name != "open_interest"}).encode()


def digests(recorded: Recorded) -> list[str]:
    return [
        digest(records(recorded.dbn)),
        digest(frames(recorded.stock, (b'"T"', b'"Q"'))),
        digest(frames(recorded.options, (b'"T"',))),
        digest(pages(recorded.chain)),
        digest(json.dumps(truth).encode() for truth in recorded.truths),
    ]


@pytest.mark.parametrize(("plant", "seed", "rate", "seconds"), list(PINNED))
def test_the_classic_market_keeps_its_bytes(plant: str, seed: int, rate: int, seconds: int) -> None:
    recorded = Recorded(seed, rate, seconds, plant=parse_plant(plant))

    assert digests(recorded) == PINNED[plant, seed, rate, seconds]
