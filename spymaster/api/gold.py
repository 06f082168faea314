"""Writes Gold from a program, by the same code as the daemon."""

from spymaster import settings
from spymaster.bus import Bus
from spymaster.errors import UsageError
from spymaster.signals.gold import SignalsWriter


class GoldWriter(SignalsWriter):
    """Writes `levels.signals` into Gold: a row for each level of each snap.

    A part ends at multiples of `flush_interval_seconds` of event time or after `buffer_limit` rows, so that its name
    and its bytes are a function of the snaps. What is there already, with the same rows, is written once.

    Example:
        writer = GoldWriter()
        await writer.write_level_signals({"ts": 1734470400123, "es": {"spot": 6845.25}, "levels": levels})
        await writer.stop()
    """

    def __init__(
        self,
        bus: Bus | None = None,
        data_root: str | None = None,
        buffer_limit: int = 500,
        flush_interval_seconds: float = 10.0,
        use_s3: bool | None = None,
    ) -> None:
        """Prepare a writer; nothing is opened before the first write or `start`.

        Args:
            bus: whose `levels.signals` are written, from `start` on.
            data_root: the lake; the settings' if None.
            buffer_limit: rows after which a part ends; a snap is never divided.
            flush_interval_seconds: of event time, at whose multiples a part ends.
            use_s3: object storage; refused if true.

        Raises:
            UsageError: an argument or a setting is not usable.
        """
        loaded = settings.load(data_root=data_root, use_s3=use_s3)
        self._bus = bus
        self._told: list[str] = []
        super().__init__(
            loaded.data_root,
            buffer_limit=buffer_limit,
            flush_interval_seconds=flush_interval_seconds,
            tell=self._keep,
        )

    async def start(self, bus: Bus | None = None) -> None:
        """Follow the bus from its next batch on, if there is one.

        Args:
            bus: whose `levels.signals` are written; the constructor's if None.

        Raises:
            UsageError: what is to be followed is no `Bus`.
        """
        followed = bus or self._bus
        if followed is not None and not isinstance(followed, Bus):
            raise UsageError(
                f"bus: a {type(followed).__name__} is no spymaster.bus.Bus. Nothing was opened. Next: publish on a Bus "
                f"and give that, or call write_level_signals"
            )
        await super().start(followed)

    async def stop(self) -> None:
        """Write all that was taken, open parts too, and follow the bus no more.

        Raises:
            StorageError: the disk refused; what it refused is in no part.
            UsageError: rows are in no part: the bus was too fast, or other rows had the part's name.
        """
        await super().stop()
        told, self._told = self._told, []
        if self.abandoned_rows:
            raise UsageError(told[0])

    def _keep(self, line: str) -> None:
        if not self._told:  # the first says why
            self._told.append(line)
