"""Settings: where they come from, what is refused, and that secrets stay secret."""

import pytest

from spymaster import settings
from spymaster.errors import UsageError


@pytest.fixture(autouse=True)
def clean(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in settings.Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"SPYMASTER_{name.upper()}", raising=False)


def test_the_defaults_are_the_documented_ones():
    loaded = settings.load()

    assert (str(loaded.data_root), str(loaded.wal_root)) == ("data/lake", "wal")
    assert (loaded.flush_interval_sec, loaded.wal_segment_size_mb, loaded.wal_sync_interval_ms) == (5.0, 256, 5)
    assert (loaded.disk_reserve_mb, loaded.bus_max_mb) == (512, 256)
    assert (loaded.log_format, loaded.log_file) == ("text", None)
    assert loaded.warnings == []


def test_a_name_works_with_and_without_its_prefix_and_in_both_files(tmp_path, monkeypatch):
    (tmp_path / "spymaster.toml").write_text('WAL_ROOT = "/from-toml"\nflush_interval_sec = 2\n')
    assert str(settings.load().wal_root) == "/from-toml"
    (tmp_path / ".env").write_text("WAL_ROOT=/from-dotenv\n")
    assert str(settings.load().wal_root) == "/from-dotenv"
    monkeypatch.setenv("SPYMASTER_WAL_ROOT", "/from-environment")
    assert str(settings.load().wal_root) == "/from-environment"
    assert str(settings.load(wal_root="/from-argument").wal_root) == "/from-argument"
    assert settings.load().flush_interval_sec == 2


def test_a_lake_that_is_named_has_its_log_in_it_unless_the_log_is_named_as_well(monkeypatch):
    assert str(settings.load(data_root="other/").wal_root) == "other/wal"
    assert str(settings.load(data_root="data/lake").wal_root) == "wal"  # the settings' own
    assert str(settings.load(data_root="other", wal_root="log").wal_root) == "log"
    monkeypatch.setenv("DATA_ROOT", "own")
    assert str(settings.load().wal_root) == "wal"
    assert str(settings.load(data_root="./own").wal_root) == "wal"
    assert str(settings.load(data_root="other").wal_root) == "other/wal"
    monkeypatch.setenv("WAL_ROOT", "log")
    assert str(settings.load(data_root="other").wal_root) == "log"


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("FLUSH_INTERVAL_SEC", "0", "setting FLUSH_INTERVAL_SEC is not usable: must be 0.1 to 300 seconds"),
        ("FLUSH_INTERVAL_SEC", "301", "must be 0.1 to 300"),
        ("WAL_SEGMENT_SIZE_MB", "0", "must be 1 to 4096"),
        ("DISK_RESERVE_MB", "0", "must be 1 to 4096"),
        ("BUS_MAX_MB", "0", "must be 1 to 4096"),
        ("WAL_SYNC_INTERVAL_MS", "soon", "setting WAL_SYNC_INTERVAL_MS is not usable"),
        ("LOG_FORMAT", "xml", "setting LOG_FORMAT is not usable: Input should be 'text' or 'json'"),
        ("USE_S3", "true", "USE_S3=true .* is not built yet"),
        ("DATA_ROOT", "", "setting DATA_ROOT is not usable: must name a folder"),
        ("WAL_ROOT", " ", "setting WAL_ROOT is not usable: must name a folder"),
        ("DATA_ROOT", "s3://spymaster-lake", "is not built yet"),
        ("RAW_ROOT", "", "setting RAW_ROOT is not usable: must name a folder"),
        ("S3_ENDPOINT", "http://localhost:9000", "^S3_ENDPOINT: object storage is not built yet"),
        ("S3_BUCKET", "spymaster-lake", "^S3_BUCKET: object storage is not built yet"),
        ("SPYMASTER_S3_REGION", "us-east-1", "^S3_REGION: object storage is not built yet"),
        ("S3_ACCESS_KEY", "zxcvb", "^S3_ACCESS_KEY: object storage is not built yet"),
        ("S3_SECRET_KEY", "zxcvb", "^S3_SECRET_KEY: object storage is not built yet"),
        ("CACHE_ROOT", "cache", "^CACHE_ROOT: object storage is not built yet, nor a cache"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(monkeypatch, name, value, line):
    monkeypatch.setenv(name, value)

    with pytest.raises(UsageError, match=line) as refused:
        settings.load()
    assert "\n" not in str(refused.value)
    assert "Next:" in str(refused.value)
    assert "zxcvb" not in str(refused.value)


def test_an_empty_line_of_what_is_not_built_says_nothing(tmp_path):
    (tmp_path / ".env").write_text("S3_ENDPOINT=\nS3_SECRET_KEY=\nCACHE_ROOT=\n")

    assert str(settings.load().raw_root) == "data/raw"


def test_an_unwise_flush_interval_is_allowed_with_a_warning():
    assert "outside 1 to 5 s" in settings.load(flush_interval_sec=60).warnings[0]


def test_a_file_that_is_not_toml_is_refused_in_one_line(tmp_path):
    (tmp_path / "spymaster.toml").write_text("wal_root = \n")

    with pytest.raises(UsageError, match="is not TOML"):
        settings.load()


def test_a_secret_is_not_in_any_text_of_the_settings(monkeypatch):
    monkeypatch.setenv("DATABENTO_API_KEY", "db-topsecret")

    assert "topsecret" not in repr(settings.load()) + str(settings.load().model_dump())


def test_the_journals_settings_have_both_names_and_an_empty_file_is_none(monkeypatch):
    monkeypatch.setenv("SPYMASTER_LOG_FORMAT", "json")
    monkeypatch.setenv("LOG_FILE", "kept/journal")
    assert (settings.load().log_format, str(settings.load().log_file)) == ("json", "kept/journal")
    monkeypatch.setenv("LOG_FILE", " ")
    assert settings.load().log_file is None


def test_every_secret_that_is_set_is_known_to_whoever_must_leave_it_out(monkeypatch):
    assert settings.load().secrets == []
    known = [name for name, field in settings.Settings.model_fields.items() if "SecretStr" in str(field.annotation)]
    secret = [name for name in known if not name.startswith("s3_")]  # which are refused
    for name in secret:
        monkeypatch.setenv(name.upper(), f"marked-{name}")

    assert settings.load().secrets == [f"marked-{name}" for name in secret]
    assert len(secret) >= 3


@pytest.mark.parametrize("name", ["spymaster.toml", ".env"])
def test_a_file_that_is_not_utf_8_is_refused_in_one_line(tmp_path, name):
    (tmp_path / name).write_bytes(b'WAL_ROOT = "\xff\xfe"\n')

    with pytest.raises(UsageError, match="is not UTF-8") as refused:
        settings.load()
    assert "\n" not in str(refused.value)
