"""`/metrics`: the gauges as Prometheus reads them, made when somebody asks and by nobody else."""

from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from spymaster.gateway.broadcast import Broadcast
from spymaster.gateway.history import History
from spymaster.gateway.served import Served
from spymaster.recording.durations import BOUNDS_S, Durations
from spymaster.watch.documents import DeskDocuments

STATES: Final = ("empty", "first", "stale", "halt", "gap", "void", "live")
_LEVELS: Final = ("ok", "warn", "bronze_stopped", "ingest_stopped")
_MS: Final = 1000.0


class Metrics(Collector):
    """Reads the daemon, each time anew."""

    def __init__(self, served: Served, broadcast: Broadcast, history: History) -> None:
        self._served, self._broadcast, self._history = served, broadcast, history
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        """Return the exposition. For the event loop: it waits for no disk."""
        return generate_latest(self._registry)

    def describe(self) -> Iterator[Metric]:
        """Say nothing: names are known once they are collected."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield what is known now."""
        desk = self._served.desk()
        yield from self._recording()
        yield from _streams(desk)
        yield from _standing(desk)
        yield from self._signals()
        yield from self._pages()

    def _recording(self) -> Iterator[Metric]:
        status, recorder = self._served.status(), self._served.recorder
        yield _gauge("rows_at_risk", "rows appended and not durable", status["appended_not_durable"])
        yield _gauge("rows_not_in_bronze", "rows durable and not in Bronze", status["durable_not_in_bronze"])
        yield _gauge("oldest_at_risk_seconds", "age of the oldest row not durable", status["oldest_not_durable_s"] or 0)
        yield _gauge("backlog_segments", "sealed segments not in Bronze", status["backlog"]["segments"])
        yield _gauge("backlog_bytes", "of these", status["backlog"]["bytes"])
        yield _gauge("backlog_oldest_seconds", "age of the oldest of these", status["backlog"]["oldest_s"] or 0)
        yield _gauge("log_free_bytes", "room on the log's disk", status["disk"]["log_free_bytes"])
        yield _gauge("bronze_free_bytes", "room on Bronze's disk", status["disk"]["bronze_free_bytes"])
        yield _one_of("disk_level", "room on the disks", "level", _LEVELS, status["disk"]["level"])
        yield _gauge("uptime_seconds", "since the start", status["uptime_s"])
        yield _gauge("problems", "what is not right and goes on", len(status["problems"]))
        yield _gauge("bus_readers", "live readers of durable rows", status["readers"])
        yield _counter("dropped_rows", "rows that live readers were too slow for", recorder.bus.dropped_rows_ever)
        yield _counter("reconnects", "deliveries that began after others were lost", recorder.health.reconnects)
        yield _counter("gap_rows", "rows of system.gaps in this run's name", recorder.own.gap_seq)
        yield _counter("bronze_parts", "parts written", recorder.drain.parts_written)
        yield _histogram("sync_seconds", "how long syncs of the log took", recorder.syncs.durations)
        yield _histogram("flush_seconds", "how long segments took to become Bronze", recorder.drain.durations)
        rows = CounterMetricFamily("spymaster_rows", "rows of this run by stream and stage", labels=["stream", "stage"])
        for name, stream in status["streams"].items():
            for stage, count in (
                ("appended", stream["appended"]),
                ("acknowledged", stream["acknowledged"]),
                ("in_bronze", stream["in_bronze"]),
            ):
                rows.add_metric([name, stage], count)
        yield rows

    def _signals(self) -> Iterator[Metric]:
        status = self._served.status()
        judge, gold = status["judge"], status["gold"]
        if judge is not None:
            yield _counter("snaps", "snaps published in this run", judge["published"])
            yield _gauge("levels", "levels judged at the newest snap", judge["levels"])
            signals = GaugeMetricFamily("spymaster_signals", "levels that have a signal now", labels=["signal"])
            for name, count in judge["signals"].items():
                signals.add_metric([name], count)
            yield signals
        if gold is not None:
            yield _counter("gold_parts", "parts of Gold", gold["parts"])
            yield _gauge("gold_waiting_rows", "rows of Gold in no part yet", gold["waiting_rows"])
            if gold["flushed_age_s"] is not None:
                yield _gauge("gold_flush_age_seconds", "since the last flush of Gold", gold["flushed_age_s"])

    def _pages(self) -> Iterator[Metric]:
        clients = self._broadcast.clients
        yield _gauge("pages", "pages that follow the stream", len(clients))
        yield _gauge("page_frames_waiting", "frames that wait for the slowest page", clients.waiting)
        yield _counter("page_frames", "frames made for all pages", clients.frames)
        yield _counter("pages_behind", "times that a page was too slow and got the newest state", clients.behind)
        yield _counter("pages_refused", "pages that were one too many", clients.refused)
        yield _gauge("history_waiting", "questions about history under way", self._history.waiting)


def _streams(desk: DeskDocuments) -> Iterator[Metric]:
    lag = GaugeMetricFamily("spymaster_lag_seconds", "from event to bus, newest minute", labels=["stream", "quantile"])
    age = GaugeMetricFamily("spymaster_stream_age_seconds", "since a stream's newest row", labels=["stream"])
    rate = GaugeMetricFamily("spymaster_stream_rows_per_second", "of the newest second", labels=["stream"])
    for name, stream in desk["streams"].items():
        age.add_metric([name], stream["age_ms"] / _MS)
        rate.add_metric([name], stream["rows_s"])
        for quantile, value in (("0.5", stream["lag_ms"]), ("0.99", stream["lag_p99_ms"])):
            if value is not None:
                lag.add_metric([name, quantile], value / _MS)
    yield from (lag, age, rate)


def _standing(desk: DeskDocuments) -> Iterator[Metric]:
    yield _one_of("state", "how things stand", "state", STATES, desk["desk"]["state"])
    yield _gauge("open_gaps", "spans in which rows are known to be missing", desk["health"]["open_gaps"])
    yield _gauge("silent_streams", "streams that should have rows and have none", len(desk["desk"]["silent"]))


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"spymaster_{name}", meaning, value)


def _counter(name: str, meaning: str, value: float) -> Metric:
    return CounterMetricFamily(f"spymaster_{name}", meaning, value)


def _one_of(name: str, meaning: str, label: str, values: tuple[str, ...], value: str) -> Metric:
    found = GaugeMetricFamily(f"spymaster_{name}", meaning, labels=[label])
    for each in values:
        found.add_metric([each], float(each == value))
    return found


def _histogram(name: str, meaning: str, durations: Durations) -> Metric:
    counts, buckets = 0, []
    for bound, count in zip([*map(str, BOUNDS_S), "+Inf"], durations.counts, strict=True):
        counts += count
        buckets.append((bound, counts))
    return HistogramMetricFamily(f"spymaster_{name}", meaning, buckets, durations.total_s)
