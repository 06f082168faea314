"""What looks at the page sees what is wrong with one."""

from pathlib import Path

import pytest

from tests.gateway.browser import chromium
from tests.long.page_looks import fill_and_edge, grey, seriously_wrong

SOUND = "<html lang=en><title>page</title><main><h1>A page</h1><button>Set</button></main>"
BOX = "<style>body{margin:20px}div{width:60px;height:18px}</style><div style='%s'></div>"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    blank = Path(tmp_path_factory.mktemp("page"), "blank.html")
    blank.write_text("")
    with chromium() as tabs, tabs.page(blank.as_uri()) as found:
        yield found


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ("", []),
        ("<button></button>", ["button-name"]),
        ("<p style='color:#bbb;background:#fff'>as of 14:31</p>", ["color-contrast"]),
    ],
)
def test_what_cannot_be_read_or_reached_is_found_with_its_name(page, wrong, found):
    page.set_content(SOUND.replace("</main>", f"{wrong}</main>"))

    assert [one.partition(":")[0] for one in seriously_wrong(page)] == found


@pytest.mark.parametrize(
    ("look", "filled", "outlined"),
    [
        ("background:#a83e00", True, False),
        ("box-shadow:inset 0 0 0 1.5px #005a9e", False, True),
        ("color:#005a9e", False, False),
    ],
)
def test_a_filled_box_an_outlined_one_and_none_are_told_apart_in_grey(page, look, filled, outlined):
    page.set_content(BOX % look)

    fill, edge = fill_and_edge(grey(page, page.locator("div")))

    assert (fill > 25, edge > 25) == (filled, outlined)
