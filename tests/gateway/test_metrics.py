"""`/metrics`, as a scraper reads it."""

from prometheus_client.parser import text_string_to_metric_families

from spymaster.recording.durations import BOUNDS_S, Durations


def scraped(live):
    status, headers, body = live.ask("/metrics")
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    return {family.name: family for family in text_string_to_metric_families(body.decode())}


def test_every_family_parses_and_names_what_an_operator_asks_for(live):
    found = scraped(live)

    assert {
        "rows_at_risk", "lag_seconds", "sync_seconds", "flush_seconds", "backlog_segments", "dropped_rows", "open_gaps",
        "reconnects", "rows", "stream_age_seconds", "disk_level", "state", "pages", "snaps", "problems",
    } <= {name.removeprefix("spymaster_") for name in found}  # fmt: skip
    assert all(name.startswith("spymaster_") and family.documentation for name, family in found.items())
    empty = {name.removeprefix("spymaster_") for name, family in found.items() if not family.samples}
    assert empty <= {"lag_seconds", "signals"}  # of a market of another time; no level has one


def test_rows_are_those_of_the_status_and_only_ever_grow(live):
    before, status, after = scraped(live), live.in_loop(live.daemon.status), scraped(live)

    for name, stream in status["streams"].items():
        low, high = (appended(found, name) for found in (before, after))
        assert low <= stream["appended"] <= high


def appended(found, stream):
    wanted = {"stream": stream, "stage": "appended"}
    return next((sample.value for sample in found["spymaster_rows"].samples if sample.labels == wanted), 0)


def test_syncs_are_counted_by_how_long_they_took(live):
    samples = scraped(live)["spymaster_sync_seconds"].samples
    buckets = [sample.value for sample in samples if sample.name.endswith("_bucket")]

    assert len(buckets) == len(BOUNDS_S) + 1
    assert buckets == sorted(buckets)
    assert buckets[-1] == next(sample.value for sample in samples if sample.name.endswith("_count")) > 0


def test_one_state_is_the_state(live):
    samples = scraped(live)["spymaster_state"].samples

    assert sum(sample.value for sample in samples) == 1


def test_a_duration_counts_at_the_first_bound_that_it_does_not_exceed():
    durations = Durations()
    for seconds in (0.0, BOUNDS_S[0], 0.02, BOUNDS_S[-1], 99.0):
        durations.took(seconds)

    assert durations.counts == [2, 0, 0, 0, 0, 1, *[0] * 8, 1, 1]
    assert durations.total_s == sum((BOUNDS_S[0], 0.02, BOUNDS_S[-1], 99.0))
