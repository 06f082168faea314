"""What is told of a scene is what its tape shows; a scene that came to too little, or was out of sight, is not told."""

from typing import Any

import numpy as np
import pytest

from spymaster.clock import NS_PER_SECOND
from spymaster.simulation.book import Book, Move, Tape
from spymaster.simulation.held import ASK, BID
from spymaster.simulation.plant import LASTS_NS, Scenario
from spymaster.simulation.scene import Scene

BEGIN, LASTS = 1_000 * NS_PER_SECOND, LASTS_NS["walls"]


def quiet_book() -> Book:
    book = Book(250_000_000, 1_000, (1,))
    for second in range(20):
        book.evolve(second * NS_PER_SECOND + np.arange(500) * 1_000_000, [])
    return book


def played(kind: str, moves: list[int], at: float, events: int = 4_000, strength: float = 1.0) -> list[dict[str, Any]]:
    """Play a scene on the ask side, in which the price moves to the sides given when `at` of it is over."""
    book = quiet_book()
    scenario = Scenario(kind, BEGIN, BEGIN + LASTS, True, 0)
    scene = Scene(scenario, book, "ESZ5", strength)
    tapes: list[Tape] = []
    now = BEGIN
    while now < BEGIN + LASTS:
        tapes += scene.act(now)
        end = min(scene.next_act(now), BEGIN + LASTS)
        n = events * (end - now) // LASTS
        last = end == BEGIN + LASTS  # most of the scene; what comes before is a vacuum's first second
        first = int(events * at) - (events - n)
        times = now + np.arange(n) * (end - now) // n
        placed = [Move(first + 2 * i, side) for i, side in enumerate(moves)] if last else []
        tapes.append(book.evolve(times, placed, 0, scene.planted(end, n)))
        now = end
    scene.send_front(tapes, now)
    return scene.truths({})


def test_a_wall_is_told_with_its_least_size_and_the_share_of_its_time_in_sight() -> None:
    (truth,) = played("wall", [BID] * 12, at=0.7)

    assert (truth["kind"], truth["side"], truth["instrument"], truth["price"]) == ("wall", "ask", "ESZ5", 1_003 * 0.25)
    assert truth["least_size"] >= 10 * truth["usual_size"]
    assert truth["visible"] == pytest.approx(0.7, abs=0.01)


def test_a_wall_that_is_out_of_sight_for_more_than_half_is_not_told() -> None:
    assert played("wall", [BID] * 12, at=0.45) == []
    assert len(played("wall", [BID] * 12, at=0.55)) == 1
    (truth,) = played("wall", [BID] * 12 + [ASK] * 12, at=0.45)
    assert truth["strength"] >= 10, "it returns with what it had"


def test_an_absorption_that_the_market_is_too_slow_for_is_not_told() -> None:
    assert played("absorption", [], 1, events=20) == []
    (truth,) = played("absorption", [], 1, events=400)
    assert truth["strength"] == pytest.approx(truth["eaten"] / truth["usual_size"], abs=1e-3)
    assert truth["strength"] >= 10


def test_a_vacuum_is_measured_after_its_first_second() -> None:
    (truth,) = played("vacuum", [ASK] * 3 + [BID] * 3, at=0.5)
    assert truth["strength"] <= 0.05
    assert truth["visible"] == 1
    (half,) = played("vacuum", [ASK] * 3 + [BID] * 3, at=0.5, strength=0.5)
    assert half["strength"] == pytest.approx(0.5, abs=0.05)
    assert truth["prices"] == [(1_001 - 12) * 0.25, (1_001 + 30) * 0.25]
