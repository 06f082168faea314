"""Which package brings Massive's client, and the version that a careless installer takes refused."""

import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from spymaster.errors import UsageError
from spymaster.feeds import massive_package
from tests.packages import install

PYPROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


@pytest.fixture(autouse=True)
def site_packages(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    return tmp_path


@pytest.mark.parametrize(
    ("packages", "module"),
    [
        ({"massive": "2.9.1"}, "massive"),
        ({"polygon-api-client": "1.16.3"}, "polygon"),
        ({"massive": "2.10.0", "polygon-api-client": "0.2.11"}, "massive"),
        ({"massive": "2.8", "polygon-api-client": "1.15"}, "polygon"),
        ({"massive": "3.0rc1"}, "massive"),
    ],
)
def test_the_client_is_taken_under_its_new_name_or_else_its_old_one(site_packages, packages, module):
    for name, version in packages.items():
        install(site_packages, name, version)

    assert massive_package.required().module == module


@pytest.mark.parametrize(
    ("packages", "found"),
    [
        ({}, "neither massive nor polygon-api-client is installed"),
        ({"polygon-api-client": "0.2.11"}, "polygon-api-client 0.2.11 is not >=1.15"),
        (
            {"massive": "2.8.4", "polygon-api-client": "1.14.9"},
            "massive 2.8.4 is not >=2.9, polygon-api-client 1.14.9 is not >=1.15",
        ),
    ],
)
def test_another_api_is_refused_in_one_line_that_says_what_to_install(site_packages, packages, found):
    for name, version in packages.items():
        install(site_packages, name, version)

    with pytest.raises(UsageError) as refused:
        massive_package.required()

    assert f": {found}. Nothing was started. Next: " in str(refused.value)
    assert 'pip install "massive>=2.9"' in str(refused.value)
    assert 'pip install "spymaster[polygon]"' in str(refused.value)
    assert "databento before 0.88" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_pyproject_asks_for_the_versions_that_will_do_and_the_advice_for_its_databento():
    named = map(Requirement, [*PYPROJECT["dependencies"], *PYPROJECT["optional-dependencies"]["polygon"]])
    asked = [(requirement.name, str(requirement.specifier)) for requirement in named]

    for client in massive_package.CLIENTS:
        assert (client.package, str(client.versions)) in asked
        assert f"{client.package}{client.versions}" in massive_package.ADVICE
    below = re.search(r"databento before ([\d.]+)", massive_package.ADVICE)[1]
    assert ("databento", f"<{below}") in asked
