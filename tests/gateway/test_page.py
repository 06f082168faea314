"""The page of a daemon that records a market: what stands on it is what the daemon judged, and nothing goes wrong."""

import re

import pytest

from spymaster.engines.profile import read_profile
from spymaster.query.sessions import session_at
from tests.gateway.browser import chromium, heard, served_here, until

# Judged within seconds: what is typical needs no minute to be known here.
QUICK = read_profile('name = "SIM"\nlike = "ES"\n[typical]\nwarm_up_s = 4\nmean_snaps = 200\n', "quick.toml")
MARKET = "sim:rate=300,start=2025-12-02T17:00:00Z"
LISTED = "document.querySelectorAll('.row').length > 2"
READING = """() => {
  const {model} = spymaster, [id, level] = model.nearest;
  return {id, level, mid: model.mid, say: document.querySelector('#say').textContent,
          prices: model.levels.map(([, one]) => one.price)};
}"""


@pytest.fixture(scope="module")
def tabs():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def url(tabs, tmp_path_factory):
    session_at(0, "cme")  # to load the calendar takes a second
    with served_here(tmp_path_factory.mktemp("daemon"), MARKET, 2, QUICK) as found:
        yield found


def test_the_page_says_nearest_level_score_largest_cause_and_health_and_asks_nobody_else(tabs, url):
    with tabs.page(url) as page:
        until(page, "document.body.dataset.state === 'live' && spymaster.model.nearest?.[1].score != null", 60)
        until(page, "/Score \\d+/.test(document.querySelector('#say').textContent)")
        seen, tree = page.evaluate(READING), heard(page)

    level, score = seen["level"], int(seen["level"]["score"] + 0.5)
    nearest = min(seen["prices"], key=lambda price: (abs(price - seen["mid"]), -price))
    assert level["price"] == nearest
    assert re.match(rf"Nearest: [A-Z][\w -]+ {nearest:,.2f}, (at the price|[\d.]+ (above|below))\. ", seen["say"])
    assert f"Score {score}, " in seen["say"]
    assert largest_cause(level) in seen["say"]
    for words in ("LIVE", "data whole since", "Levels around the price", "not a probability"):
        assert words in tree
    for figure in ("Feeds", "Event lag", "Rows at risk", "Durable to", "Open gaps", "Gold", "Disk"):
        assert figure in tree


def largest_cause(level):
    """The component with most points, as the reading says it; none has any where it says so."""
    points = {name: one for name, one in level["points"].items() if one is not None and int(abs(one) + 0.5)}
    if not points:
        return "no evidence either way"
    name = max(points, key=lambda one: abs(points[one]))
    sign = "+" if points[name] > 0 else "−"  # noqa: RUF001  # a real minus
    return f"{sign}{int(abs(points[name]) + 0.5)}"


def test_a_zone_set_by_a_click_and_what_was_chosen_survive_a_reload(tabs, url):
    with tabs.page(url) as page:
        until(page, LISTED, 60)
        page.locator("#rows").focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("t")
        page.get_by_role("button", name="1 h").click()
        box = page.locator("#stage").bounding_box()
        page.mouse.click(box["x"] + box["width"] - 20, box["y"] + box["height"] / 3)
        page.get_by_role("button", name="Set").click()
        until(page, "Object.keys(spymaster.model.doc.zones ?? {}).length === 1")
        zones, chosen = page.evaluate("() => [spymaster.model.doc.zones, {...spymaster.model.chosen.of}]")
        page.reload()
        until(page, f"{LISTED} && spymaster.model.levels.some(([, level]) => level.kinds.includes('USER_HOTZONE'))")
        again = page.evaluate("() => [spymaster.model.doc.zones, {...spymaster.model.chosen.of}]")

        assert again[0] == zones
        assert (chosen["theme"], chosen["span"]) == ("light", 3600)
        for name in ("level", "theme", "span"):
            assert again[1][name] == chosen[name]
        assert page.evaluate("() => document.documentElement.dataset.theme") == "light"
