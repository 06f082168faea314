"""The long trials that are written of are there by their names."""

import re
from pathlib import Path

from tests.long.__main__ import TRIALS

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"python -m tests\.long ([a-z ]+)|make torture ARGS=\"?([a-z ]+)")


def test_each_trial_that_is_named_can_be_run():
    texts = [*ROOT.glob("docs/*.md"), *ROOT.glob("tests/long/*.py"), ROOT / "README.md", ROOT / ".ci" / "run"]
    named = {
        (word, file.name)
        for file in texts
        for found in NAMED.finditer(" ".join(file.read_text().split()))
        for word in (found[1] or found[2]).split()
    }

    assert len(named) > 8
    assert not [one for one in sorted(named) if one[0] not in TRIALS]
