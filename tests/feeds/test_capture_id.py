"""A file's capture id is a hash of its content and of the version of what reads it."""

import pytest

from spymaster import daemon
from spymaster.feeds.feed import DeliveryInfo

CONTENT = "0" * 64
PINNED = 2_136_201_312_788_952_381
DBN = DeliveryInfo("dbn:x.dbn", CONTENT, b"DBN")
FLAT_FILE = DeliveryInfo("flatfile:x.csv.gz", CONTENT, b"", format="massive.flatfile")


def test_the_id_of_a_files_capture_is_pinned_because_it_tells_what_is_already_captured() -> None:
    assert daemon.capture_id_of(DBN) == daemon.capture_id_of(FLAT_FILE) == PINNED


@pytest.mark.parametrize(
    ("version", "changed", "kept"), [("MASSIVE_VERSION", FLAT_FILE, DBN), ("DATABENTO_VERSION", DBN, FLAT_FILE)]
)
def test_a_new_version_of_one_vendors_normalizer_makes_new_captures_of_its_files_alone(
    version: str, changed: DeliveryInfo, kept: DeliveryInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, version, 2)

    assert daemon.capture_id_of(kept) == PINNED != daemon.capture_id_of(changed)
    assert (daemon.normalizer_version_of(changed), daemon.normalizer_version_of(kept)) == (2, 1)
