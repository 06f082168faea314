"""SPY and its options in the simulated market: quoted and traded around what ES says that SPY is worth."""

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spymaster.simulation.calendar import Stretch
from spymaster.simulation.option_quotes import Makers
from spymaster.simulation.options import OptionCrowd
from spymaster.simulation.stage import AnyScene
from spymaster.simulation.step import Step
from spymaster.simulation.stock import Stock

_QUOTES_PER_100_RECORDS: Final = 30  # of its options


class SpyMarket:
    """Those who quote and trade SPY and its options."""

    def __init__(self, seed: int, rate: int, fair_e4: int) -> None:
        self._random = np.random.PCG64(np.random.SeedSequence((seed, 0, 9)))
        self._stock, self._crowd = Stock((seed, 0, 4), fair_e4), OptionCrowd((seed, 0, 7))
        self._makers = Makers((seed, 0, 21), rate, _QUOTES_PER_100_RECORDS)

    def run(
        self,
        step: Step,
        stretch: Stretch,
        due: Callable[[str], int],
        fair_e4: Callable[[NDArray[np.int64]], NDArray[np.int64]],
        scene: AnyScene | None,
    ) -> Iterator[None]:
        """Let SPY and its options trade within the step, a piece of the work after another.

        Args:
            step: gets what happens.
            stretch: of the step.
            due: takes how many `quotes`, `trades` and `options` (their trades) are due.
            fair_e4: what SPY is worth at times, in hundredths of a cent.
            scene: what is planted.
        """
        quoted, traded, opted = (stretch.draw(self._random, due(kind)) for kind in ("quotes", "trades", "options"))
        crossed = 0 if scene is None else scene.crossed
        before = self._stock.last
        step.quotes = self._stock.quote(quoted, fair_e4(quoted), crossed)
        step.trades = self._stock.trade(traded, step.quotes, before)
        if scene is not None:
            step.trades = scene.send_stock(step.trades, step.end)
        yield
        bias = None if scene is None else scene.bias(step.begin)
        step.options = self._crowd.trade(step.spy, opted, fair_e4(opted), bias)
        if scene is not None:
            step.options = scene.send_options("SPY", step.options, step.end)
        step.repeating = scene is not None and scene.kind == "repeat"
        yield
        step.spy_quotes = self._makers.quote(step.spy, stretch, step.options, fair_e4, crossed=crossed > 0)
        yield
