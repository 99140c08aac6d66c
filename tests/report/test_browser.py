"""The cohort's page in a real browser: headless Chromium, without a network."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import pair_pages
from helpers.pages import DICE, page, tables
from helpers.pictures import GRIDS, ball
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select

from benchmarks.browser import CHROMIUM, DRIVER, chromium, open_page
from nir.quality.verdict import Check, as_baseline
from nir.report.figures.pair import draw_images
from nir.report.gather import read_tables, write_tables
from nir.report.ratings import COLUMNS, fold_ratings, results_of

GRADES = ("pass", "warn", "fail")

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="no browser: install Debian's packages chromium and chromium-driver",
)
PAIRS, MANY = 80, 1560  # the second is LPBA40, all ordered pairs
ROWS = PAIRS * len(DICE)
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
RATED = {"fixed": "f0", "moving": "m0", "method": "nir", "rating": "poor", "note": "dull"}


def write_site(folder: Path, pairs: int) -> Path:
    """Write results of pairs by three methods, whose scores differ, and their report."""
    few, labels = tables(folder)
    metrics = pd.concat([few.iloc[: len(DICE)]] * pairs, ignore_index=True)
    number = np.arange(len(metrics)) // len(DICE)
    metrics["fixed"] = [f"f{n // 40}" for n in number]
    metrics["moving"] = [f"m{n}" for n in number]
    metrics["dice_after"] += np.sin(number) / 10
    metrics.loc[len(metrics) - 1, "dice_after"] = np.nan
    metrics["seconds_registration"] = number + 2.0
    labels = labels.assign(fixed="f0", moving="m0")
    write_tables(folder, metrics, labels)
    keys = list(metrics[["fixed", "moving", "method"]].itertuples(index=False, name=None))
    (folder / "thumb.png").write_bytes(PIXEL)
    page(
        folder,
        metrics,
        labels,
        figures=dict.fromkeys(keys, ("thumb.png", "pair.html")),
        checks={key: [Check("c", "C", GRADES[n % 3], "So.", 1.0)] for n, key in enumerate(keys)},
        ratings=pd.DataFrame([RATED | {"rater": "ann"}]),
        left_out={"s-9": ["damaged"]},
        notes=[("s-8", "was cut")],
    )
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of results with a report of two pages of rows."""
    return write_site(tmp_path_factory.mktemp("site ä"), PAIRS)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of one registration."""
    folder = tmp_path_factory.mktemp("pair")
    draw_images(ball(GRIDS["LAS"]), folder / "figures")
    content = pair_pages.result(pair_pages.NIR, [1, 2, 3], warnings=["look"])
    pair_pages.write(folder, content, pair_pages.LABELS)
    pair_pages.page(folder, as_baseline(pair_pages.CHECKS))
    return folder / "report.html"


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def browser(downloads: Path) -> Iterator[Chrome]:
    with chromium(downloads) as found:
        yield found


@pytest.fixture
def opened(browser: Chrome, site: Path) -> Iterator[Chrome]:
    """The page, opened afresh; it leaves no drafts."""
    open_page(browser, site / "report.html")
    yield browser
    browser.execute_script("localStorage.clear()")


def one(place: Chrome | WebElement, css: str) -> WebElement:
    return place.find_element(By.CSS_SELECTOR, css)


def column(browser: Chrome, number: int) -> list[str]:
    """Texts of a column, the rows as shown; the first column is 1."""
    words = "return [...arguments[0].rows].map(row => row.cells[arguments[1] - 1].textContent)"
    return browser.execute_script(words, one(browser, "#registrations tbody"), number)


def wait_for(holds: Callable[[], bool]) -> None:
    """Wait until something holds, for a minute."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def requests(browser: Chrome) -> list[str]:
    """Return what the browser asked for since the last call, but what the page itself holds."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [e["params"]["request"]["url"] for e in events if e["method"].endswith("WillBeSent")]
    return [url for url in urls if not url.startswith("data:")]


def button(browser: Chrome, heading: str) -> WebElement:
    return browser.find_element(By.XPATH, f"//th/button[text()='{heading}']")


def shown(browser: Chrome) -> str:
    return one(browser, "#shown").text


def test_a_large_report_draws_a_page_of_rows_alone(browser: Chrome, tmp_path: Path) -> None:
    """So it opens in about the time of a small one, which benchmarks.reports measures."""
    path = write_site(tmp_path, MANY) / "report.html"
    assert path.stat().st_size < 50e6
    open_page(browser, path)
    rows = MANY * len(DICE)
    assert shown(browser) == f"{rows} of {rows} shown, page 1 of 24"
    assert browser.execute_script("return document.querySelectorAll('tr').length") < 400


def test_nothing_is_asked_of_a_network_and_no_fault_told(browser: Chrome, site: Path) -> None:
    browser.get_log("performance")
    open_page(browser, site / "report.html")
    picture = one(browser, "td.picture img")
    browser.execute_script("arguments[0].scrollIntoView()", picture)
    wait_for(lambda: browser.execute_script("return arguments[0].naturalWidth", picture) == 1)
    assert browser.get_log("browser") == []
    asked = requests(browser)
    assert {url.rpartition("/")[2] for url in asked} >= {"report.html", "thumb.png"}
    assert [url for url in asked if not url.startswith("file:")] == []


def test_a_fault_would_be_noticed(browser: Chrome, tmp_path: Path) -> None:
    bad = "<script>fetch('http://example.org').catch(error => { unknown })</script>"
    (tmp_path / "bad.html").write_text(bad)
    browser.get_log("browser")
    open_page(browser, tmp_path / "bad.html")
    wait_for(lambda: bool(browser.get_log("browser")))


def test_pages_of_200(opened: Chrome) -> None:
    assert shown(opened) == f"{ROWS} of {ROWS} shown, page 1 of 2"
    first = column(opened, 2)
    assert len(first) == 200
    one(opened, "#previous").click()
    assert column(opened, 2) == first
    for key in (Keys.ENTER, Keys.SPACE):  # there is no third page
        one(opened, "#next").send_keys(key)
        assert "page 2 of 2" in shown(opened)
    assert len(column(opened, 2)) == ROWS - 200
    assert set(column(opened, 2)[1:]).isdisjoint(first[:-1])
    one(opened, "#previous").click()
    assert column(opened, 2) == first


@pytest.mark.parametrize("key", [None, Keys.ENTER, Keys.SPACE])
def test_sorts_by_click_and_by_key(opened: Chrome, key: str | None) -> None:
    def press() -> str | None:
        target = button(opened, "Dice")
        target.send_keys(key) if key else target.click()
        return one(opened, "#registrations th:nth-child(6)").get_attribute("aria-sort")

    assert one(opened, "#registrations th:nth-child(6)").get_attribute("aria-sort") == "none"
    assert press() == "ascending"
    lowest = [float(text) for text in column(opened, 6)]
    assert lowest == sorted(lowest)
    assert lowest[0] == 0.5
    assert press() == "descending"
    highest = [float(text) for text in column(opened, 6)]
    assert highest == sorted(highest, reverse=True)
    assert highest[0] == 0.9
    assert len(opened.find_elements(By.CSS_SELECTOR, "th[aria-sort$=ending]")) == 1


def test_sorts_words_numbers_in_words_and_the_unknown(opened: Chrome) -> None:
    button(opened, "Moving").click()
    assert column(opened, 2)[:7] == ["m0"] * 3 + ["m1"] * 3 + ["m2"]
    button(opened, "Moving").click()
    assert column(opened, 2)[0] == f"m{PAIRS - 1}"
    button(opened, "Verdict").click()
    assert column(opened, 4) == ["✕ fail"] * PAIRS + ["! warn"] * PAIRS + ["✓ pass"] * (
        200 - 2 * PAIRS
    )
    button(opened, "Rating").click()
    assert "poor (ann): dull" in one(opened, "#registrations tbody td.rating").text
    Select(one(opened, "#of-method")).select_by_visible_text("nir")
    one(opened, "#find").send_keys("m7")
    for _ in range(2):
        button(opened, "Dice").click()
        assert column(opened, 6)[-1] == "n/a"


def test_filters(opened: Chrome) -> None:
    one(opened, "#find").send_keys("F1 m79")
    assert shown(opened) == f"3 of {ROWS} shown"
    assert not one(opened, "#paging").is_displayed()
    assert column(opened, 3) == list(DICE)
    Select(one(opened, "#of-method")).select_by_visible_text("syn")
    assert shown(opened) == f"1 of {ROWS} shown"
    one(opened, "#find").send_keys(Keys.BACKSPACE * 6)
    assert shown(opened) == f"{PAIRS} of {ROWS} shown"
    Select(one(opened, "#of-verdict")).select_by_visible_text("fail")
    assert shown(opened) == f"0 of {ROWS} shown"
    Select(one(opened, "#of-method")).select_by_visible_text("all")
    assert set(column(opened, 4)) == {"✕ fail"}
    Select(one(opened, "#of-rating")).select_by_visible_text("poor")
    assert column(opened, 2) == ["m0"]


def rate(browser: Chrome, row: int, rating: str, note: str = "") -> None:
    """Rate by the keyboard alone."""
    cell = one(browser, f"#registrations tbody tr:nth-child({row}) td.rating")
    one(cell, "select").send_keys(rating)
    if note:
        one(cell, "select").send_keys(Keys.TAB)
        browser.switch_to.active_element.send_keys(note)


def saved(downloads: Path, name: str) -> Path:
    """Wait for a download, which is an empty file at first."""
    path = downloads / name
    wait_for(lambda: path.exists() and path.stat().st_size > 0)
    return path


def test_rates_downloads_and_folds(opened: Chrome, site: Path, downloads: Path) -> None:
    assert not one(opened, "#save-json").is_enabled()
    one(opened, "#rater").send_keys("bo")
    rate(opened, 1, "exclude", 'a "big"  tear; left ')
    rate(opened, 2, "excellent")
    rate(opened, 3, "poor")
    rate(opened, 3, Keys.HOME)
    assert one(opened, "#rated").text == "2 rated by you"
    opened.refresh()  # drafts are kept
    assert one(opened, "#rater").get_attribute("value") == "bo"
    first = one(opened, "#registrations tbody td.rating")
    assert Select(one(first, "select")).first_selected_option.text == "exclude"
    Select(one(opened, "#of-rating")).select_by_visible_text("excellent")
    assert column(opened, 3) == ["syn"]
    for kind in ("json", "tsv"):
        one(opened, f"#save-{kind}").click()
    key = {"fixed": "f0", "moving": "m0", "rater": "bo"}
    results = results_of(read_tables(site)[0]).values()
    expected = [
        key | {"method": "affine", "rating": "exclude", "note": 'a "big" tear; left'},
        key | {"method": "syn", "rating": "excellent", "note": ""},
    ]
    expected = [row | {"result": result} for row, result in zip(expected, results, strict=False)]
    path = saved(downloads, "ratings.json")
    assert json.loads(path.read_text(encoding="utf-8")) == expected
    from_json, _ = fold_ratings([path], site)
    assert list(from_json) == list(COLUMNS)
    assert from_json.equals(fold_ratings([saved(downloads, "ratings.tsv")], site)[0])


def test_drafts_of_results_that_changed_are_told(
    browser: Chrome, downloads: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = write_site(tmp_path_factory.mktemp("again"), 1)
    path = folder / "report.html"
    open_page(browser, path)
    for row in (1, 2):
        rate(browser, row, "poor")
    text = path.read_text(encoding="utf-8")
    found = browser.find_elements(By.CSS_SELECTOR, "#registrations tbody tr")
    results = [row.get_attribute("data-result") for row in found[:2]]
    changed = text.replace(f'data-result="{results[0]}"', 'data-result="1 2 3 4"', 1)
    path.write_text(changed, encoding="utf-8")
    browser.refresh()
    cells = browser.find_elements(By.CSS_SELECTOR, "#registrations tbody td.rating")
    chosen = [Select(one(cell, "select")).first_selected_option.text for cell in cells]
    assert chosen == ["poor", "poor", "not rated"]
    assert ["The result has changed" in cell.text for cell in cells] == [True, False, False]
    assert one(browser, "#rated").text == "2 rated by you, 1 of them before their result changed"
    (downloads / "ratings.json").unlink(missing_ok=True)  # of another test
    one(browser, "#save-json").click()
    rows = json.loads(saved(downloads, "ratings.json").read_text(encoding="utf-8"))
    assert [row["result"] for row in rows] == results
    one(cells[0], "button").click()
    assert one(browser, "#rated").text == "2 rated by you"
    assert "The result has changed" not in cells[0].text
    (downloads / "ratings.json").unlink()
    one(browser, "#save-json").click()
    rows = json.loads(saved(downloads, "ratings.json").read_text(encoding="utf-8"))
    assert [(row["rating"], row["result"]) for row in rows] == [
        ("poor", "1 2 3 4"),
        ("poor", results[1]),
    ]
    path.write_text(changed.replace("1 2 3 4", "1.0005 2 3.001 4"), encoding="utf-8")
    browser.refresh()  # the last digits of another machine
    assert one(browser, "#rated").text == "2 rated by you"


def test_rates_where_storage_is_denied(browser: Chrome, site: Path) -> None:
    deny = "Object.defineProperty(window, 'localStorage', {get() { throw new Error('denied'); }})"
    command = "Page.addScriptToEvaluateOnNewDocument"
    script = browser.execute_cdp_cmd(command, {"source": deny})
    try:
        open_page(browser, site / "report.html")
        rate(browser, 1, "poor")
        assert "1 rated by you; this browser keeps nothing" in one(browser, "#rated").text
        assert one(browser, "#save-json").is_enabled()
        assert browser.get_log("browser") == []
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_reads_in_full_without_scripts(browser: Chrome, site: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get((site / "report.html").as_uri())
        assert not one(browser, "#controls").is_displayed()
        assert not browser.find_elements(By.CSS_SELECTOR, "th button, td select")
        last = browser.find_element(By.CSS_SELECTOR, f"#registrations tbody tr:nth-child({ROWS})")
        assert last.is_displayed()
        assert re.sub(r"\s+", " ", last.text).startswith(f"f1 m{PAIRS - 1} nir ✕ fail 0.600 n/a")
        assert "not rated" in last.text
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.mark.parametrize("pixels", [1280, 400])
def test_pages_fit_the_screen(browser: Chrome, site: Path, pair: Path, pixels: int) -> None:
    size = {"width": pixels, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    texts = "return [...document.querySelectorAll('p, td, li, label, button, figcaption')]"
    chips = "return [...document.querySelectorAll('.verdict')].filter(x => x.offsetParent)"
    sizes = f"{texts}.map(text => parseFloat(getComputedStyle(text).fontSize))"
    try:
        for path in (site / "report.html", pair):
            open_page(browser, path)
            wide = browser.execute_script("return document.documentElement.scrollWidth")
            assert wide <= pixels, path
            assert min(browser.execute_script(sizes)) >= 13
            for chip in browser.execute_script(chips):
                assert int(chip.get_property("scrollWidth")) <= int(
                    chip.get_property("clientWidth")
                )
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def luminance(colour: str) -> float:
    """Relative luminance of a CSS colour (WCAG 2.2)."""
    channels = np.array([float(c) for c in re.findall(r"[\d.]+", colour)[:3]]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(browser: Chrome, element: WebElement) -> float:
    """Contrast of a text with what lies behind it, 1 to 21."""
    words = """
    let behind = arguments[0];
    while (/, 0\\)|transparent/.test(getComputedStyle(behind).backgroundColor)) {
      behind = behind.parentElement;
    }
    return [getComputedStyle(arguments[0]).color, getComputedStyle(behind).backgroundColor];
    """
    dark, light = sorted(luminance(c) for c in browser.execute_script(words, element))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(browser: Chrome, site: Path, pair: Path, scheme: str) -> None:
    texts = ["h1", ".soft", ".notice", ".summary p", "a", "td", "thead th", "pre", "figcaption"]
    texts += [f".verdict.{grade}" for grade in GRADES]
    controls = ["thead button", "td.rating p", "td.rating select", "#find", "#of-method"]
    controls += ["#save-json", "#previous", "#next"]
    feature: dict[str, Any] = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)
    ground = "return getComputedStyle(document.body).backgroundColor"
    try:
        for path, more in ((site / "report.html", controls), (pair, ["blockquote", ".tags span"])):
            open_page(browser, path)
            assert (luminance(browser.execute_script(ground)) < 0.1) == (scheme == "dark")
            for css in (*texts, *more):
                assert contrast(browser, one(browser, css)) >= 4.5, (path, css)
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_a_focus_is_seen_and_the_order_is_that_of_the_page(opened: Chrome) -> None:
    one(opened, "#find").send_keys("")
    reached = []
    for _ in range(6):
        active = opened.switch_to.active_element
        reached.append(active.get_attribute("id"))
        outline = "return getComputedStyle(arguments[0]).outlineStyle"
        assert opened.execute_script(outline, active) != "none", reached[-1]
        active.send_keys(Keys.TAB)
    assert reached == ["find", "of-method", "of-verdict", "of-rating", "rater", "previous"]


def test_every_picture_has_a_text_and_every_control_a_name(opened: Chrome) -> None:
    words = "return [...document.images].filter(image => !image.alt.trim()).length"
    assert opened.execute_script(words) == 0
    for control in opened.find_elements(By.CSS_SELECTOR, ".controls :is(input, select, button)"):
        assert control.accessible_name
    cell = one(opened, "#registrations tbody td.rating")
    assert one(cell, "select").accessible_name == "Your rating of f0 ← m0, affine"
    assert one(cell, "input").accessible_name == "Your note on f0 ← m0, affine"
    for chip in opened.find_elements(By.CSS_SELECTOR, "tbody tr:nth-child(-n+3) .verdict"):
        assert chip.text in ("✓ pass", "! warn", "✕ fail")  # never by colour alone


def test_the_page_of_a_pair_flickers_by_pointer_and_by_key(browser: Chrome, pair: Path) -> None:
    browser.get_log("performance")
    browser.get_log("browser")
    open_page(browser, pair)
    box, over = one(browser, ".flicker"), one(browser, ".frame .over.warped")

    def look() -> list[str]:
        words = "const s = getComputedStyle(arguments[0]); return [s.animationName, s.opacity]"
        return browser.execute_script(words, over)

    assert look() == ["none", "0"]
    ActionChains(browser).move_to_element(box).perform()
    wait_for(lambda: look() == ["flicker", "1"])
    wait_for(lambda: look() == ["flicker", "0"])
    ActionChains(browser).move_to_element(one(browser, "h1")).perform()
    wait_for(lambda: look() == ["none", "0"])
    one(browser, "#with-warped").send_keys(Keys.TAB)
    assert look()[0] == "flicker"
    assert browser.switch_to.active_element == box
    assert browser.get_log("browser") == []
    assert set(requests(browser)) == {pair.as_uri()}
    assert browser.execute_script("return [...document.images].every(i => i.alt && i.naturalWidth)")
