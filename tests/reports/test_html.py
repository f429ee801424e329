"""The page: well-formed, complete, self-contained, and inert whatever the records hold."""

import base64
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest

from securitynet.errors import IntegrityError
from securitynet.records import Measure
from securitynet.reports.html import render_html
from securitynet.reports.wording import NBSP, cell, figure, flag_text

VOID = {"meta", "img", "br"}
TAGS = {
    "html", "head", "meta", "title", "style", "body", "header", "main", "section", "h1", "h2",
    "h3", "p", "a", "b", "i", "bdi", "span", "small", "code", "br", "ul", "li", "dl", "dt", "dd",
    "table", "thead", "tbody", "tr", "th", "td", "div", "figure", "figcaption", "img",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "http-equiv", "content", "name", "id", "class", "aria-labelledby",
    "aria-label", "href", "scope", "role", "data-name", "tabindex", "src", "width", "alt",
}  # fmt: skip


class Page(HTMLParser):
    """Parses strictly: every tag is closed by its own end tag, in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts, self.style = [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            self.style += data
        else:
            self.texts.append(data)

    @property
    def text(self):
        return " ".join("".join(self.texts).replace(NBSP, " ").split())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page(demo):
    records, read_array = demo
    return render_html(records, read_array, title="A report", introduction="An introduction.")


@pytest.fixture(scope="module")
def parsed(page):
    return Page(page)


def charts(parsed):
    head = "data:image/svg+xml;base64,"
    uris = [image["src"] for image in parsed.all("img")]
    return [base64.b64decode(u[len(head) :]).decode() for u in uris if u.startswith(head)]


def test_every_measure_and_interval_is_there(demo, parsed):
    records, _ = demo
    for record in records:
        for name, measure in record.measures.items():
            assert cell(record, name) in parsed.text, (record.method, name, measure)
        for measure in record.nulls.values():
            assert figure(measure) in parsed.text
        assert record.model in parsed.text and record.weights_sha256 in parsed.text
        assert record.status == "ok" or record.error in parsed.text


def test_all_flags_are_explained(demo, parsed):
    for flag in {flag for record in demo[0] for flag in record.flags}:
        assert flag_text(flag) in parsed.text


def test_the_verdicts_come_first_and_the_explanation_last(page):
    heads = re.findall(r"<h2[^>]*>(?:<bdi>)?([^<]*)", page)
    assert heads[:2] == ["Verdicts", "Among published models"]
    assert heads[-1] == "How to read this"
    assert heads[2:-1] == [
        "pytorchcv/resnet20_cifar10",
        "self/digits-badnets",
        "self/digits-badnets-twin",
        "self/digits-overfitted",
        "self/digits-regularised",
        "timm/odd",
        "timm/resnet18.a1_in1k",
    ]


def test_the_summary_names_every_model_and_threat(page):
    summary = page[page.index('class="summary') : page.index("</table>")]
    assert summary.count("<tr") == 8
    words = re.findall(r'class="word (\w+)">([^<]*)', summary)
    assert ("bad", "Backdoor suspected") in words
    assert ("none", "No backdoor found") in words
    assert ("unknown", "Not evaluated") in words
    assert summary.count("not asked") == 2  # of the refused model only membership was asked


def test_one_model_has_its_sentences_at_the_top(demo):
    records, read_array = demo
    mine = [record for record in records if record.model == "self/digits-badnets"]
    text = render_html(mine, read_array, title="t")
    assert "summary" not in text.split("</style>")[1]
    assert text.index("Backdoor suspected: p") < text.index('id="m1"')


def test_tags_and_attributes_are_the_known_ones(parsed):
    assert {tag for tag, _ in parsed.elements} <= TAGS
    assert {name for _, attributes in parsed.elements for name in attributes} <= ATTRIBUTES


def test_nothing_is_loaded_from_anywhere(page, parsed):
    assert all(image["src"].startswith("data:image/") for image in parsed.all("img"))
    assert all(link["href"].startswith("#") for link in parsed.all("a"))
    words = re.sub(r'"data:image/[^"]*"', "", page)
    assert not re.search(r"https?:|//\w|url\(|@import|<script|<link|<base|<form", words)
    for svg in charts(parsed):
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|href|url\(|@import", svg)
    policy = next(m["content"] for m in parsed.all("meta") if "http-equiv" in m)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules == {
        "default-src": "'none'",
        "style-src": "'unsafe-inline'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_links_and_labels_lead_somewhere(parsed):
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    leads = {link["href"][1:] for link in parsed.all("a")}
    leads |= {a["aria-labelledby"] for _, a in parsed.elements if "aria-labelledby" in a}
    assert leads <= set(ids)


def test_every_picture_has_words_and_a_width(parsed):
    images = parsed.all("img")
    assert all(len(image["alt"]) > 20 and int(image["width"]) > 0 for image in images)
    assert len({image["alt"] for image in images}) > 10


def test_the_pictures_are_there(parsed):
    found = charts(parsed)
    titles = [re.search(r'class="t"[^>]*>([^<]*)', svg)[1] for svg in found]
    log = "ROC at low false positive rates, log axes"
    norms = "Smallest trigger of each class"
    for title in ("ROC", log, norms, "steal.knockoff (response=soft)", "backdoor.strip"):
        assert titles.count(title) == 6
    for svg in found:
        ElementTree.fromstring(svg)
    triggers = [image for image in parsed.all("img") if image["src"].startswith("data:image/png")]
    assert len(triggers) == 60
    assert parsed.text.count(", most suspicious") == 6


def test_the_page_is_small(page):
    assert len(page.encode()) < 2_000_000


def test_equal_records_give_equal_pages(demo, page):
    records, read_array = demo
    again = render_html(records, read_array, title="A report", introduction="An introduction.")
    assert again == page


def test_no_records(parsed):
    empty = Page(render_html([], {}.__getitem__, title="Nothing"))
    assert "There are no records to show" in empty.text
    assert "0 records on 0 models" in empty.text


def test_only_failures(make):
    records = [
        make.record(method=method, status="failed", error="no memory left", flags=("worker-died",))
        for method in ("mia.loss", "mia.logit", "steal.knockoff", "backdoor.strip")
    ]
    found = Page(render_html(records, {}.__getitem__, title="Failures"))
    assert "4 records on 1 model, 4 without figures" in found.text
    assert "mia.loss, mia.logit failed: no memory left" in found.text
    assert found.text.count("Not evaluated (failed: no memory left)") == 1
    assert found.text.count("Not evaluated, for the same reason.") == 2
    assert not found.all("table") and not found.all("img")


def test_pictures_that_cannot_be_drawn_are_named(demo):
    records, _ = demo

    def missing(sha256):
        raise IntegrityError("array is missing", where=sha256)

    found = Page(render_html(records, missing, title="t"))
    assert found.text.count("Not drawn, array is missing.") == 6


def test_the_environment_given_is_shown(make):
    found = Page(
        render_html([make.record()], {}.__getitem__, title="t", environment={"cpu": "X 1"})
    )
    assert "cpu X 1" in found.text and "torch 2.10.0" not in found.text


PAYLOADS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "</style><style>*{display:none}",
    "</title><h1>x",
    "{{ 7 * 7 }}{% raw %}",
    "<!-- ]]> -->",
    "\u202egnp.exe\u2066",
    "\x00\x1b[2J\ud800\ufffe",
    "$\\frac{1}{0}$",
    "&lt;b&gt;&amp;",
    "x" * 1_000_000,
    "<b>" * 300_000,
]


def hostile(make, text):
    """Records with the text wherever a stranger could put one."""
    rng, arrays = np.random.default_rng(0), {}
    names = {"model": text, "dataset": text, "origin": text, "environment": {text: text}}
    mia = make.membership(rng, method=f"mia.{text}", shift=1.0, config={text: text},
                          flags=(text,), **names)  # fmt: skip
    scores = {"edges": [0, 1, 2], text: [0.4, 0.6], "members": [0.5, 0.5]}
    twin = make.record(
        method=f"mia.{text}", config={text: False}, flags=(text,), nulls={text: Measure(0.5)},
        measures={"auc": Measure(0.6, 0.55, 0.65, 99), text: Measure(1e300)},
        details={"histogram": scores}, **names,
    )  # fmt: skip
    classes = {"norms": [1.0, 2.0, 3.0], "classes": [text] * 3}
    measures = {"p_value": Measure(0.5), "infected_label": Measure(1)}
    backdoor = make.record(
        method=f"backdoor.{text}", details=classes, weights_sha256=text, measures=measures, **names
    )
    failed = make.record(method=f"steal.{text}", status="failed", error=text, **names)
    return [mia, twin, backdoor, failed], arrays


@pytest.mark.parametrize("text", PAYLOADS, ids=range(len(PAYLOADS)))
def test_hostile_texts_are_inert(make, text):
    records, arrays = hostile(make, text)
    page = render_html(records, arrays.__getitem__, title=text, introduction=text)
    found = Page(page)
    assert {tag for tag, _ in found.elements} <= TAGS
    assert {name for _, attributes in found.elements for name in attributes} <= ATTRIBUTES
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe]", page
    )
    assert len(page) < 500_000
    assert len(found.all("style")) == len(found.all("title")) == len(found.all("h1")) == 1
    for svg in charts(found):
        tags = {element.tag.split("}")[1] for element in ElementTree.fromstring(svg).iter()}
        assert tags <= {"svg", "title", "style", "text", "path", "circle"}
    assert charts(found)


def test_hostile_texts_are_still_readable(make):
    text = PAYLOADS[0]
    records, arrays = hostile(make, text)
    found = Page(render_html(records, arrays.__getitem__, title=text))
    assert found.text.startswith(text)
    assert f"steal.{text} failed: {text}" in found.text
    assert any(text in svg_text for svg in charts(found)
               for svg_text in ElementTree.fromstring(svg).itertext())  # fmt: skip
