"""What all rooms share: where the real market data lies that many tests read."""

import os
from pathlib import Path

import databento
import pytest
from hypothesis import settings

settings.register_profile("spymaster", deadline=None)  # no timing fails a test
settings.load_profile("spymaster")

RECORDED_DBN_SCHEMAS = {
    "None", "trades", "mbp-10", "definition", "statistics", "status", "mbp-1", "tbbo", "bbo-1s", "bbo-1m", "cmbp-1",
    "cbbo-1s", "cbbo-1m", "tcbbo",
}  # fmt: skip
# Their headers ask for bare ids and list none, so that nothing but a definition names them: they are refused.
NAMELESS_DBN_FILES = {"test_data.statistics.v1.dbn.zst", "test_data.statistics.v3.dbn.zst"}

# The folder is not part of the repository: its data may not be republished.
REAL_DATA = Path(os.getenv("SPYMASTER_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data" / "real")
_ABSENT = f"no real market data at {REAL_DATA}; set SPYMASTER_TEST_DATA to its folder"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real market data; tests that need it are skipped where it is not there."""
    if not REAL_DATA.is_dir():
        pytest.skip(_ABSENT)
    return REAL_DATA


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once for each real DBN file, or for each that is recorded."""
    for argument in ("real_dbn_file", "recorded_dbn_file"):
        if argument in metafunc.fixturenames:
            files = sorted(path for path in REAL_DATA.rglob("*.dbn*") if path.is_file())
            if argument == "recorded_dbn_file":
                files = [path for path in files if is_recorded(path)]
            absent = pytest.param(None, marks=pytest.mark.skip(reason=_ABSENT), id="absent")
            found = [pytest.param(path, id=str(path.relative_to(REAL_DATA))) for path in files]
            metafunc.parametrize(argument, found or [absent])


def is_recorded(path: Path) -> bool:
    """Whether a real DBN file is recorded, by its schema as the vendor's library reads it: `None` for mixed records."""
    schema = str(databento.DBNStore.from_bytes(path.read_bytes()).schema)
    return schema in RECORDED_DBN_SCHEMAS and path.name not in NAMELESS_DBN_FILES
