"""The rules of alerts: what a file says, over defaults; what it cannot say is one line."""

import tomllib
from pathlib import Path

import pytest

from spymaster.errors import UsageError
from spymaster.watch.rules import KINDS, Rules, read_rules

DOCUMENT = Path(__file__).parents[2] / "docs" / "alerts.md"


def test_without_a_file_the_defaults_hold(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert read_rules(None) == Rules()
    assert all(Rules().tells(kind) and Rules().posts(kind) for kind in KINDS)


def test_alerts_toml_in_the_working_folder_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "alerts.toml").write_text("[kinds]\nsignal = {webhook = false}\nlag = {alert = false}\n")
    rules = read_rules(None)

    assert (rules.tells("signal"), rules.posts("signal")) == (True, False)
    assert (rules.tells("lag"), rules.posts("lag")) == (False, False)
    assert rules.thresholds == Rules().thresholds


def test_the_documented_example_is_the_defaults():
    _, example = DOCUMENT.read_text().split("```toml\n")
    rules = Rules.model_validate(tomllib.loads(example.split("```")[0]))

    assert rules.thresholds == Rules().thresholds
    assert (rules.signals, rules.most_a_minute) == (Rules().signals, Rules().most_a_minute)
    assert rules.kinds.keys() == set(KINDS)
    assert all(rules.tells(kind) and rules.posts(kind) for kind in KINDS)


@pytest.mark.parametrize(("text", "says"), [
    ("[thresholds]\nsilent_s = 'soon'", "thresholds.silent_s: Input should be a valid number"),
    ("[thresholds]\nsilence_s = 5", "thresholds.silence_s: Extra inputs are not permitted"),
    ("[thresholds]\nlag_ms = -1", "thresholds.lag_ms: "),
    ("[thresholds]\ndisk = 'full'", "thresholds.disk: "),
    ("[kinds.signals]\nwebhook = true", "kinds.signals: "),
    ("[kinds.signal]\nwebhook = 1", "kinds.signal.webhook: Input should be a valid boolean"),
    ("signals = ['BREAKS']", "signals.0: "),
    ("signals = [", "it is no TOML: "),
    ("# \xe9", "it is no TOML: "),
    ("#" * 70_000, "it is larger than 64 KB"),
])  # fmt: skip
def test_a_file_that_is_wrong_is_one_line_that_names_the_key(tmp_path, text, says):
    file = tmp_path / "alerts.toml"
    file.write_bytes(text.encode("latin-1"))

    with pytest.raises(UsageError) as refused:
        read_rules(file)

    line = str(refused.value)
    assert line.startswith(f"the rules of alerts in {file} are not usable: {says}")
    assert "\n" not in line
    assert "Nothing was started. Next: " in line


def test_a_file_that_is_named_and_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        read_rules(tmp_path / "rules.toml")
