"""The page in a real browser: no error, no request, nothing wider than a phone."""

import shutil

import pytest

from securitynet.reports.html import render_html

pytestmark = pytest.mark.browser
NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update "
    "--disable-sync --no-first-run"
).split()


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("Chromium is not installed")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser, tmp_path):
    contexts = []

    def open_(html, width, scheme="light"):
        """Return the open page, what its console said, and what else it asked for."""
        file = tmp_path / "page.html"
        file.write_text(html, encoding="utf-8")
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        contexts.append(context)
        page, said, asked = context.new_page(), [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        page.wait_for_load_state()
        asked = [url for url in asked if url != file.as_uri() and not url.startswith("data:")]
        return page, said, asked

    yield open_
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def html(demo):
    records, read_array = demo
    return render_html(records, read_array, title="A report", introduction="An introduction.")


WIDER = """() => [...document.querySelectorAll("body *")]
  .filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .filter(e => !e.closest(".scroll") && getComputedStyle(e).position !== "absolute"
               && !e.closest("thead"))
  .map(e => e.tagName + ": " + e.textContent.slice(0, 60))"""


@pytest.mark.parametrize("width", [320, 390, 800, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_quietly_and_fits(open_page, html, width, scheme):
    page, said, asked = open_page(html, width, scheme)
    assert (said, asked) == ([], [])
    size = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    across, room = page.evaluate(size)
    assert across <= room == width
    assert page.evaluate(WIDER) == []


def test_all_pictures_are_decoded(open_page, html):
    page, _, _ = open_page(html, 1280)
    sizes = page.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth])")
    assert len(sizes) > 100
    assert all(done and width > 0 for done, width in sizes)


@pytest.mark.parametrize("width", [390, 1280])
def test_tables_need_no_scrolling(open_page, html, width):
    page, _, _ = open_page(html, width)
    inner = "[...document.querySelectorAll('.scroll')].map(e => e.scrollWidth - e.clientWidth)"
    assert max(page.evaluate(inner)) <= 0


def test_no_word_of_a_table_is_broken(open_page, html):
    """A method's id stands on one line: as high as a line of its text."""
    page, _, _ = open_page(html, 1280)
    ids = "[...document.querySelectorAll('.scroll tbody th > bdi')]"
    lines = page.evaluate(f"{ids}.map(e => e.getClientRects().length)")
    assert lines and set(lines) == {1}


def test_light_and_dark_pages_have_contrast(open_page, html):
    for scheme in ("light", "dark"):
        page, _, _ = open_page(html, 800, scheme)
        found = page.evaluate(
            "[...document.querySelectorAll('p, td, th, dd, .flag, .word, li b, figcaption')]"
            ".map(e => getComputedStyle(e).color)"
        )
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert min(contrast(colour, ground) for colour in set(found)) >= 4.5


def contrast(first, second):
    """The ratio of WCAG 2, from ``rgb(r, g, b)``."""

    def luminance(colour):
        parts = [int(part) / 255 for part in colour[4:-1].split(",")[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_hostile_records_do_nothing(open_page, make):
    text = (
        '<script>alert(1)</script><img src=x onerror=alert(2)>"><svg onload=alert(3)>'
        "<a href=javascript:alert(4)>x</a>\u202e<link rel=stylesheet href=http://127.0.0.1:9/x>"
        + "y"
        * 1_000_000
    )
    names = {"model": text, "dataset": text, "origin": text, "environment": {text: text}}
    details = {"norms": [1.0, 2.0, 3.0], "classes": [text] * 3}
    records = [
        make.record(method=f"mia.{text}", status="failed", error=text, flags=(text,), **names),
        make.record(method=f"backdoor.{text}", details=details, **names),
    ]
    html = render_html(records, {}.__getitem__, title=text, introduction=text)
    page, said, asked = open_page(html, 390)
    page.wait_for_timeout(200)
    assert (said, asked) == ([], [])
    assert page.evaluate("document.scripts.length") == 0
    assert page.evaluate(WIDER) == []
