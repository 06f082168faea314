"""The only reader of the environment. Settings are read once and handed down as plain values.

Each comes, in this order, from the command line, the environment (`DATA_ROOT` or `SPYMASTER_DATA_ROOT`), `.env` and
`spymaster.toml` in the working directory, or its default. Where none of them names WAL_ROOT, a lake that the command
line or an argument names has its log in it, at `{DATA_ROOT}/wal`: a log is one lake's.
"""

import os
import re
from pathlib import Path
from tomllib import TOMLDecodeError
from typing import Any

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from spymaster.engines.profile import ProfileName
from spymaster.errors import UsageError
from spymaster.journal import Form
from spymaster.service_manager import Manager

TOML_FILE = "spymaster.toml"
_REMOTE = ("s3_endpoint", "s3_bucket", "s3_region", "s3_access_key", "s3_secret_key", "cache_root")


def _setting(default: Any, name: str, description: str) -> Any:
    aliases = AliasChoices(name.lower(), f"spymaster_{name.lower()}")
    return Field(default=default, validation_alias=aliases, description=description)


class Settings(BaseSettings):
    """Every setting, with its default and what it means."""

    model_config = SettingsConfigDict(
        env_file=".env", toml_file=TOML_FILE, extra="ignore", frozen=True, populate_by_name=True
    )

    data_root: Path = _setting(Path("data/lake"), "DATA_ROOT", "the lake: bronze/, catalog.db, quarantine/")
    wal_root: Path = _setting(Path("wal"), "WAL_ROOT", "the write-ahead log; put it on the fastest local disk")
    raw_root: Path = _setting(
        Path("data/raw"), "RAW_ROOT", "the vendors' files that you keep; manifest.json lists them"
    )
    flush_interval_sec: float = _setting(5.0, "FLUSH_INTERVAL_SEC", "how long rows wait in the log before Bronze")
    wal_segment_size_mb: int = _setting(256, "WAL_SEGMENT_SIZE_MB", "a segment is sealed at this size at the latest")
    wal_sync_interval_ms: int = _setting(5, "WAL_SYNC_INTERVAL_MS", "how long a row may wait to be acknowledged")
    disk_reserve_mb: int = _setting(512, "DISK_RESERVE_MB", "ingest stops when less is free; Bronze at twice that")
    bus_max_mb: int = _setting(256, "BUS_MAX_MB", "what may wait for one live reader; 15 s of a busy open")
    profile: ProfileName = _setting("ES", "PROFILE", "whose levels are judged, and by what: ES, SPY or SIM")
    greeks_tolerance_sec: float = _setting(10.0, "GREEKS_TOLERANCE_SEC", "how old greeks of an option trade may be")
    gateway_host: str = _setting("127.0.0.1", "GATEWAY_HOST", "where the page is served; elsewhere it needs a token")
    gateway_port: int = _setting(8000, "GATEWAY_PORT", "the first port tried; 0 is any that is free")
    gateway_token: SecretStr | None = _setting(None, "GATEWAY_TOKEN", "what a client has to know; never printed")
    alerts_file: Path | None = _setting(None, "ALERTS_FILE", "which alerts are given, and how; docs/alerts.md")
    alert_webhook_url: SecretStr | None = _setting(None, "ALERT_WEBHOOK_URL", "where alerts are posted; never printed")
    log_format: Form = _setting("text", "LOG_FORMAT", "of a line of the journal: text or json")
    log_file: Path | None = _setting(None, "LOG_FILE", "what the journal goes to instead of stderr; 5 files of 10 MB")
    use_s3: bool = _setting(False, "USE_S3", "object storage; not built, refused")
    s3_endpoint: str | None = _setting(None, "S3_ENDPOINT", "object storage; not built, refused")
    s3_bucket: str | None = _setting(None, "S3_BUCKET", "object storage; not built, refused")
    s3_region: str | None = _setting(None, "S3_REGION", "object storage; not built, refused")
    s3_access_key: SecretStr | None = _setting(None, "S3_ACCESS_KEY", "never printed or stored; not built, refused")
    s3_secret_key: SecretStr | None = _setting(None, "S3_SECRET_KEY", "never printed or stored; not built, refused")
    cache_root: Path | None = _setting(None, "CACHE_ROOT", "a cache of a remote lake; not built, refused")
    databento_api_key: SecretStr | None = _setting(None, "DATABENTO_API_KEY", "never printed or stored")
    polygon_api_key: SecretStr | None = _setting(None, "POLYGON_API_KEY", "never printed or stored")
    massive_api_key: SecretStr | None = _setting(None, "MASSIVE_API_KEY", "never printed or stored")

    @field_validator("data_root", "wal_root", "raw_root", mode="before")
    @classmethod
    def _folder(cls, value: object) -> object:
        if isinstance(value, str) and not value.strip():
            raise ValueError("must name a folder; it is empty")
        return value

    @field_validator("log_file", "alerts_file", "gateway_token", "alert_webhook_url", mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        return None if isinstance(value, str) and not value.strip() else value

    @field_validator("flush_interval_sec")
    @classmethod
    def _flush_interval(cls, value: float) -> float:
        if not 0.1 <= value <= 300:
            raise ValueError("must be 0.1 to 300 seconds; 1 to 5 is what the lake is built for")
        return value

    @field_validator("greeks_tolerance_sec")
    @classmethod
    def _greeks_tolerance(cls, value: float) -> float:
        if not 0 < value <= 3600:
            raise ValueError("must be more than 0 and at most 3600 seconds")
        return value

    @field_validator("wal_segment_size_mb", "wal_sync_interval_ms", "disk_reserve_mb", "bus_max_mb")
    @classmethod
    def _positive(cls, value: int) -> int:
        if not 1 <= value <= 4096:
            raise ValueError("must be 1 to 4096")
        return value

    @field_validator("gateway_host")
    @classmethod
    def _host(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9._:-]{1,253}", value.strip()):
            raise ValueError("must be an address or a name of this machine")
        return value.strip()

    @field_validator("gateway_port")
    @classmethod
    def _port(cls, value: int) -> int:
        if not 0 <= value <= 65_535:
            raise ValueError("must be 0 to 65535")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, dotenv_settings, TomlConfigSettingsSource(settings_cls)

    @property
    def secrets(self) -> list[str]:
        """What no output may hold."""
        values = [getattr(self, name) for name in type(self).model_fields]
        return [value.get_secret_value() for value in values if isinstance(value, SecretStr)]

    @property
    def warnings(self) -> list[str]:
        """What is allowed and unwise."""
        if 1 <= self.flush_interval_sec <= 5:
            return []
        return [f"FLUSH_INTERVAL_SEC={self.flush_interval_sec:g} is outside 1 to 5 s: many small files, or much WAL"]


def load(**overrides: object) -> Settings:
    """Read the settings; `overrides` that are not None win.

    Raises:
        UsageError: a value is not allowed, or asks for what is not built.
    """
    try:
        settings = _with_own_log({name: value for name, value in overrides.items() if value is not None})
    except TOMLDecodeError as error:
        raise UsageError(f"{TOML_FILE} is not TOML: {error}. Nothing was started. Next: mend that line") from None
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{TOML_FILE} or .env is not UTF-8: {error}. Nothing was started. Next: save it as UTF-8"
        ) from None
    except ValidationError as error:
        first = error.errors(include_input=False)[0]  # the input may be a secret
        name = str(first["loc"][0]).upper().removeprefix("SPYMASTER_")
        reason = str(first["msg"]).removeprefix("Value error, ")
        raise UsageError(
            f"setting {name} is not usable: {reason}. Nothing was started. Next: mend it where it is set "
            f"(environment, .env or {TOML_FILE}); spymaster config show lists what is read"
        ) from None
    if settings.use_s3 or str(settings.data_root).startswith("s3:"):
        raise UsageError(
            "USE_S3=true (or an s3:// DATA_ROOT) asks for object storage, which is not built yet. Nothing was "
            "started or written. Next: unset USE_S3 and point DATA_ROOT at a local folder"
        )
    if asked := [name.upper() for name in _REMOTE if _is_set(getattr(settings, name))]:
        raise UsageError(
            f"{', '.join(asked)}: object storage is not built yet, nor a cache of it. Nothing was started or written. "
            f"Next: unset {'it' if len(asked) == 1 else 'them'}"
        )
    return settings


def service_manager() -> Manager:
    """Return what the service manager that started this process asks of it; it says so in the environment."""
    address = os.environ.get("NOTIFY_SOCKET") or None
    asked, of = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    watched = asked.isdecimal() and int(asked) > 0 and of in {"", str(os.getpid())}
    return Manager(address, int(asked) / 1e6 if watched else None)


def _is_set(value: str | Path | SecretStr | None) -> bool:
    """Whether a setting says something: an empty line of `.env` does not."""
    return bool(value.get_secret_value() if isinstance(value, SecretStr) else value and str(value) not in {"", "."})


def _with_own_log(overrides: dict[str, Any]) -> Settings:
    """Read the settings, and let a lake that `overrides` name keep its log apart, unless a log is named as well."""
    settings = Settings(**overrides)
    if "data_root" not in overrides or "wal_root" in settings.model_fields_set:
        return settings
    usual = Settings(**{name: value for name, value in overrides.items() if name != "data_root"})
    if usual.data_root.resolve() == settings.data_root.resolve():
        return settings
    return settings.model_copy(update={"wal_root": settings.data_root / "wal"})
