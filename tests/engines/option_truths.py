"""What is understood of the simulator's option prints against what is true of them; short here, long in a trial."""

from typing import Any, NamedTuple

import numpy as np

from spymaster.clock import NS_PER_SECOND
from spymaster.engines.flow_turn import Turn
from spymaster.engines.ledger import SNAP_NS
from spymaster.engines.option_model import GAMMA_SCALE
from spymaster.engines.profile import profile_named
from spymaster.simulation.plant import LASTS_NS, parse_plant
from spymaster.simulation.source import SimulatedMarket
from tests.engines.option_tapes import Tape, definition_batch, quote_batch, recorded, run, trade_batch
from tests.engines.truths import Score
from tests.sim_recording import NOON

AFTER_NS = 5 * NS_PER_SECOND  # in which a window of a scene still tells of it


class Judged(NamedTuple):
    """A run: prints as they were understood, and in the same order their true aggressors and worth."""

    tape: Tape
    board: Any
    dealer: Any
    prints: Any
    turns: list[Turn]
    side: Any
    gamma: Any

    def flow_shares(self, seconds: int) -> Any:
        """Return the net flow of each window, as it was understood and as it was, both as shares of the true gross."""
        window = self.prints.ts_ns // (seconds * NS_PER_SECOND)
        window -= window.min()
        known = np.maximum(self.prints.gamma, 0) / GAMMA_SCALE * self.prints.size
        true = self.gamma * self.prints.size
        ours, truth, gross = (np.bincount(window, w) for w in (known * self.prints.sign, true * self.side, true))
        return np.stack([ours, truth])[:, gross > 0] / gross[gross > 0]

    def flow_correlation(self, seconds: int) -> float:
        """Return the correlation of the two."""
        return float(np.corrcoef(self.flow_shares(seconds))[0, 1])


def judged(
    root: str, rate: int, seconds: float, *, seed: int, quotes: bool, said: bool = False, given: bool = False,
    plant: tuple[str, ...] = (), every_ns: int = SNAP_NS,
) -> Judged:  # fmt: skip
    """Run board and dealer over a simulated market.

    Args:
        root: ES or SPY.
        rate: of the market.
        seconds: of it.
        seed: of it.
        quotes: whether options are quoted.
        said: whether the venue says who began.
        given: whether each print has its quote beside it.
        plant: what is planted.
        every_ns: between snaps, a multiple of 250 ms: a long run needs no more than one each 5 s but for turns.
    """
    profile = profile_named(root)
    tape = recorded(SimulatedMarket(seed, rate, NOON, plant), seconds, root)
    batches = {
        "options.trades": trade_batch(tape, said=said, given=given),
        "reference.instruments": definition_batch(tape, profile.options.multiplier),
    }
    if quotes:
        batches["options.quotes"] = quote_batch(tape)
    board, dealer, prints, turns = run(tape, profile.options, profile.market.tick, batches, every_ns)
    order = np.argsort(tape.prints["ts_ns"], kind="stable")
    one = {name: column[order] for name, column in tape.prints.items()}
    assert prints.price.tolist() == (one["price"] / (100 if root == "SPY" else 20)).tolist()
    place = np.searchsorted(tape.spots.ts_ns, one["ts_ns"], side="right") - 1
    spot = np.rint(tape.spots.price[np.maximum(place, 0)] * 10_000).astype(np.int64)
    gamma = tape.board.worth(one["number"], spot, one["ts_ns"]).gamma
    return Judged(tape, board, dealer, prints, turns, one["side"], gamma)


def turn_scores(root: str, rate: int, seconds: float, seed: int) -> tuple[Score, Score]:
    """Return recall and precision of planted turns: by direction, between the turn and 5 s after its scene."""
    run = judged(root, rate, seconds, seed=seed, quotes=False, given=True, plant=parse_plant("turns"))
    truths = [one for one in run.tape.truths if one["kind"] == "flow_turn" and one["instrument"].startswith(root)]
    right = [
        [one["turn_ns"] <= turn.snap_ns <= one["end_ns"] + AFTER_NS and turn.dealers == DEALERS[one["dealers_after"]]
         for one in truths]
        for turn in run.turns
    ]  # fmt: skip
    ended = run.prints.ts_ns.max() - LASTS_NS["turns"]  # a scene under way is not told yet
    turns = [any(row) for turn, row in zip(run.turns, right, strict=True) if turn.snap_ns <= ended]
    hit = [any(row[place] for row in right) for place in range(len(truths))]
    return Score(sum(hit), len(hit)), Score(sum(turns), len(turns))


DEALERS = {"long": 1, "short": -1}
