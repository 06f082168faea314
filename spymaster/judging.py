"""The signals beside the recording: a judge of the profile's levels, and what writes its snaps to Gold.

A defect of theirs is a problem in the recorder's health; the recording goes on.
"""

import asyncio
from functools import partial
from typing import Final

from spymaster.engines.profile import Profile
from spymaster.errors import StorageError
from spymaster.journal import Journal
from spymaster.lake.gold import DAEMON_ROWS, DAEMON_SPAN_S
from spymaster.recording.recorder import Recorder
from spymaster.settings import Settings
from spymaster.signals.gold import SignalsWriter
from spymaster.signals.live import LiveJudge
from spymaster.signals.start import footer_of

STOP_S: Final = 10.0  # for a judge that warms up to get to its next batch; one that does not is cut off as by a kill


class Judging:
    """The judge and the writer of one profile.

    Attributes:
        judge: the signals.
        gold: what writes them.
    """

    def __init__(
        self, profile: Profile, settings: Settings, recorder: Recorder, journal: Journal, *, at_the_end: bool
    ) -> None:
        """Listen to the bus from now on; nothing is read yet.

        Args:
            profile: what levels are judged by.
            settings: where log and lake are.
            recorder: whose rows are judged.
            journal: where signals are told.
            at_the_end: judge the newest session once all is recorded.
        """
        self._recorder = recorder
        tell = partial(recorder.health.problem, "gold")
        append = partial(recorder.own.append, in_reserve=False)
        self.judge = LiveJudge(
            profile, settings.data_root, settings.wal_root, recorder.bus, append, journal, tell, at_the_end=at_the_end
        )
        self.gold = SignalsWriter(
            settings.data_root,
            buffer_limit=DAEMON_ROWS,
            flush_interval_seconds=DAEMON_SPAN_S,
            footer=footer_of(profile),
            tell=tell,
        )

    async def run(self) -> None:
        """Judge until `end` is called."""
        await self.gold.start(self._recorder.bus)
        try:
            await self.judge.run()
            await self._end_gold()
        except Exception as error:  # noqa: BLE001 - whatever a defect raises: no recording ends for it
            self._recorder.health.problem(
                "judge",
                f"levels are judged no more ({type(error).__name__}: {error}). The recording goes on. Next: start it "
                f"again; report it if that does not mend it",
            )

    async def end(self, judging: asyncio.Task[None]) -> None:
        """Let what waits on the bus be judged, or the session that was recorded as fast as it goes.

        Args:
            judging: the task that runs it.
        """
        self.judge.finish()
        await asyncio.wait({judging}, timeout=self.judge.most_s_to_end)
        self.judge.stop()
        await asyncio.wait({judging}, timeout=STOP_S)  # so that it is on record, and Gold has the snaps so far

    async def _end_gold(self) -> None:
        """Let Gold's part end where it is on record that the judge stopped."""
        try:
            await self.gold.stop()
        except StorageError as error:
            self._recorder.health.problem("gold", str(error))
