"""The page of a daemon that records a market: what stands on it is what the daemon judged, and nothing goes wrong."""

import json
import re
import urllib.request

import pytest

from spymaster.engines.profile import read_profile
from spymaster.query.sessions import session_at
from tests.gateway.browser import chromium, heard, served_here, until

# Judged within seconds: what is typical needs no minute to be known here.
QUICK = read_profile('name = "SIM"\nlike = "ES"\n[typical]\nwarm_up_s = 4\nmean_snaps = 200\n', "quick.toml")
JUDGED = "spymaster.model.nearest && spymaster.model.nearest[1].score != null"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    session_at(0, "cme")  # to load the calendar takes a second
    with served_here(tmp_path_factory.mktemp("daemon"), "sim:rate=300,start=2025-12-02T17:00:00Z", 2, QUICK) as url:
        yield url


@pytest.fixture(scope="module")
def tabs():
    with chromium() as found:
        yield found


def test_within_its_first_minute_the_page_says_nearest_level_score_largest_cause_and_health(tabs, daemon):
    with tabs.page(daemon) as page:
        until(page, f"document.body.dataset.state === 'live' && {JUDGED}", 60)
        page.wait_for_selector(".row[aria-selected=true]")
        seen = page.evaluate(
            """() => { const [id, level] = spymaster.model.nearest; const say = document.querySelector("#say").textContent;
            return {level, say, tree: null, id}; }"""
        )
        tree = heard(page)
        level = seen["level"]
        assert re.search(r"Nearest: [A-Z].* [\d,]+\.\d\d, (at the price|[\d.]+ (above|below))", seen["say"])
        assert f"{level['price']:,.2f}" in seen["say"]
        assert f"Score {round_half_up(level['score'])}, " in seen["say"]
        assert "LIVE" in tree and "data whole since" in tree
        assert re.search(r"Levels around the price", tree) and "not a probability" in tree
        assert all(word in tree for word in ("Rows at risk", "Durable to", "Open gaps", "Gold", "Disk"))


def test_the_reading_says_what_the_daemons_own_document_says(tabs, daemon):
    with tabs.page(daemon) as page:
        until(page, f"document.body.dataset.state === 'live' && {JUDGED}", 60)
        for _ in range(20):  # a snap may come between the two looks
            at, said = page.evaluate(
                "() => [spymaster.model.snap.ts_event_ns, [spymaster.model.nearest[0], document.querySelector('#say').textContent]]"
            )
            with urllib.request.urlopen(f"{daemon}api/levels") as answer:
                snap = json.load(answer)["snap"]
            if float(snap["ts_event_ns"]) == float(at):
                break
        else:
            pytest.skip("no two looks at the same snap on this machine")
        nearest = min(snap["levels"].items(), key=lambda one: (abs(one[1]["distance_ticks"]), -one[1]["price"]))
        assert said[0] == nearest[0]


def test_a_chosen_level_theme_and_window_survive_a_reload(tabs, daemon):
    with tabs.page(daemon) as page:
        until(page, "document.querySelectorAll('.row').length > 2", 60)
        page.locator("#rows").focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("t")
        page.get_by_role("button", name="1 h").click()
        chosen = page.evaluate("() => ({...spymaster.model.chosen.of})")
        page.reload()
        until(page, "document.querySelectorAll('.row').length > 2", 60)
        again = page.evaluate("() => spymaster.model.chosen.of")
        assert (chosen["theme"], chosen["span"]) == ("light", 3600)
        assert {name: again[name] for name in ("level", "theme", "span")} == {
            name: chosen[name] for name in ("level", "theme", "span")
        }
        assert page.evaluate("() => document.documentElement.dataset.theme") == "light"


def test_a_zone_set_by_a_click_on_the_price_axis_is_the_daemons_and_survives_a_reload(tabs, daemon):
    with tabs.page(daemon) as page:
        until(page, "document.querySelectorAll('.row').length > 2", 60)
        box = page.locator("#stage").bounding_box()
        page.mouse.click(box["x"] + box["width"] - 20, box["y"] + box["height"] / 3)
        page.get_by_role("button", name="Set").click()
        until(page, "Object.keys(spymaster.model.doc.zones ?? {}).length === 1")
        zones = page.evaluate("() => spymaster.model.doc.zones")
        page.reload()
        until(page, "spymaster.model.levels.some(([, level]) => level.kinds.includes('USER_HOTZONE'))")
        assert page.evaluate("() => spymaster.model.doc.zones") == zones


def round_half_up(score: float) -> int:
    """As JavaScript rounds."""
    return int(score + 0.5)
