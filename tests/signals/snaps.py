"""Snaps of a simulated market in which much happens: walls, vacuums, sweeps, late rows, crossed books."""

from functools import cache

import numpy as np

from spymaster.engines.levels import Zone
from spymaster.engines.typical import SCALE, Norms
from spymaster.signals import payload
from spymaster.signals.sight import Sight
from tests.engines.leaving import SESSION, judge, judged, simulated_streams

SEED = Norms(np.full((2, 10), 50 * SCALE, np.int64), 300 * SCALE, 3_000 * SCALE, SCALE // 10)
ZONES = [Zone(str(at), 27_600 + 2 * at) for at in (*range(-12, 12, 4), 35)]  # the last is far away
PLANT = "walls", "sweeps", "vacuums", "late", "crossed"


@cache
def snaps(*more):
    """Return the snaps of a minute; what is typical is known from the first on.

    Args:
        more: what is planted beside.
    """
    market = simulated_streams(60, 40, (*PLANT, *more))
    return tuple(judged(market, judge(seeds={SESSION.date: SEED}, zones=ZONES)))


@cache
def gold():
    """Return the rows of each that has levels."""
    sight = Sight()
    found = [payload.rows(snap, sight.rows(snap), "ES", "SIM") for snap in snaps()]
    return tuple(rows for rows in found if rows.num_rows)
