"""Charts: their data against what the evidence says, their drawing against the axes' geometry."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from securitynet.records import Measure
from securitynet.reports.charts import (
    INK,
    Area,
    Axis,
    Chart,
    Line,
    band,
    spread,
    stairs,
    steps,
)
from securitynet.reports.curves import histogram, largest_margins, roc, stealing, trigger_norms
from securitynet.reports.paper import to_png
from securitynet.reports.svg import WIDTH, to_svg
from securitynet.reports.wording import labeller

SVG = "{http://www.w3.org/2000/svg}"


def labels(axis):
    return [text for _, text in axis.marks()]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0.85, 1.0, ["0.85", "0.90", "0.95", "1.00"]),
        (-0.61, 0.02, ["-0.6", "-0.4", "-0.2", "0.0"]),
        (0, 14, ["0", "5", "10"]),
        (0, 12345, ["0", "2,500", "5,000", "7,500", "10,000"]),
    ],
)
def test_ticks_are_round(low, high, expected):
    axis = Axis("x", low, high)
    found = labels(axis)
    assert found == expected
    values = [value for value, _ in axis.marks()]
    assert all(float(text.replace(",", "")) == pytest.approx(v) for v, text in axis.marks())
    assert np.ptp(np.diff(values)) == pytest.approx(0, abs=1e-9)
    assert 3 <= len(values) <= 7


@given(st.floats(-1e6, 1e6), st.floats(1e-4, 1e6))
def test_ticks_of_any_axis_lie_on_it_and_differ(low, width):
    marks = Axis("x", low, low + width).marks()
    assert all(low - 1e-6 * width <= v <= low + width * (1 + 1e-6) for v, _ in marks)
    assert 2 <= len(marks) <= 7


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1e-3, 1, ["0.001", "0.01", "0.1", "1"]),
        (2e-3, 0.5, ["0.01", "0.1"]),
        (10, 20000, ["10", "100", "1,000", "10,000"]),
        (1e-6, 1, ["1e-6", "0.0001", "0.01", "1"]),
    ],
)
def test_ticks_of_a_log_axis_are_powers_of_ten(low, high, expected):
    assert labels(Axis("x", low, high, is_log=True)) in (expected, expected[::-1])


def test_places_on_an_axis():
    assert [Axis("x", 2, 4).share(v) for v in (1, 2, 3, 4, 9)] == [0, 0, 0.5, 1, 1]
    axis = Axis("x", 0.01, 1, is_log=True)
    assert [axis.share(v) for v in (0, 0.01, 0.1, 1)] == pytest.approx([0, 0, 0.5, 1])


@pytest.mark.parametrize(
    ("low", "high", "is_log"),
    [(1, 1, False), (2, 1, False), (0, 1, True), (0, np.inf, False), (-1e308, 1e308, False)],
)
def test_what_is_no_axis_is_refused(low, high, is_log):
    with pytest.raises(ValueError, match="no axis"):
        Axis("x", low, high, is_log)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_cannot_be_drawn_is_refused(value):
    with pytest.raises(ValueError, match="not finite"):
        Chart("t", Axis("x", 0, 1), Axis("y", 0, 1), lines=(Line(((0, value),), 0),))


def test_crowded_labels():
    names = tuple((float(k), "automobile") for k in range(10))
    assert Axis("class", 0, 9, ticks=names).is_crowded(400, 7)
    assert not Axis("class", 0, 9, ticks=tuple((k, str(k)) for k in range(10))).is_crowded(400, 7)
    assert not Axis("class", 0, 9, ticks=((0.0, "x"),)).is_crowded(400, 7)


def test_shapes():
    assert band([1, 2], [3, 4], [5, 6]) == ((1, 3), (2, 4), (2, 6), (1, 5))
    assert steps([0, 1, 2], [5, 6, 7]) == ((0, 5), (1, 5), (1, 6), (2, 6), (2, 7))
    assert stairs([0, 1, 3], [5, 6], 0) == ((0, 0), (0, 5), (1, 5), (1, 6), (3, 6), (3, 0))


def test_the_spread_of_figures():
    assert spread([0.5, 0.9]) == pytest.approx((0.468, 0.932))
    low, high = spread([0.9, 1.0], (0.0, 1.0))
    assert 0.89 < low < 0.9 and 1.0 < high < 1.01
    assert spread([]) == pytest.approx((-0.08, 1.08))
    low, high = spread([0.0, 0.0])
    assert low < 0 < high


# --- what is drawn of a record


def curve(fpr, tpr, width=0.1):
    fpr, tpr = np.array(fpr), np.array(tpr)
    return {"fpr": fpr.tolist(), "tpr": tpr.tolist(), "low": (tpr - width).tolist(),
            "high": (tpr + width).tolist()}  # fmt: skip


@pytest.fixture
def attacked(make):
    def build(method, auc, details):
        measures = {"auc": Measure(auc, auc - 0.1, auc + 0.1, 100)}
        return make.record(method=method, measures=measures, details=details)

    return build


FPR = [0.0, 0.01, 0.1, 0.5, 0.9, 1.0]
TPR = [0.1, 0.2, 0.4, 0.8, 0.9, 1.0]


def test_a_roc_curve_holds_its_value_until_the_next_rate(attacked):
    record = attacked("mia.loss", 0.75, {"roc": curve(FPR, TPR)})
    chart = roc([record], labeller([record]))
    line, chance = chart.lines
    assert line.points == steps(FPR, TPR)
    assert line.name == "mia.loss: AUC 0.750"
    assert (chance.points, chance.name) == (((0, 0), (1, 1)), "chance")
    lower, upper = chart.areas[0].points[:11], chart.areas[0].points[:10:-1]
    assert [y for _, y in lower] == pytest.approx([y - 0.1 for _, y in line.points])
    assert [y for _, y in upper] == pytest.approx([y + 0.1 for _, y in line.points])
    assert [x for x, _ in lower] == [x for x, _ in upper] == [x for x, _ in line.points]


@pytest.mark.parametrize(
    ("smallest", "low"), [(0.01, 0.01), (0.0017, 0.001), (2e-4, 1e-4), (1e-9, 1e-5)]
)
def test_log_axes_begin_at_the_power_of_ten_below_the_smallest_rate(attacked, smallest, low):
    details = {"roc": curve([0.0, smallest, 0.1, 0.2, 0.9, 1.0], TPR)}
    record = attacked("mia.loss", 0.75, details)
    chart = roc([record], labeller([record]), is_log=True)
    assert chart.x.is_log and chart.y.is_log
    assert chart.x.low == chart.y.low == pytest.approx(low)


def test_attacks_with_one_curve_share_a_line_and_the_strongest_come_first(attacked):
    same = {"roc": curve(FPR, TPR)}
    others = [
        attacked(f"mia.{k}", 0.6 - k / 100, {"roc": curve(FPR, np.array(TPR) * (0.9 - k / 100))})
        for k in range(7)
    ]
    twins = [attacked("mia.loss", 0.75, same), attacked("mia.logit", 0.75, same)]
    records = [*others, *twins]
    names = [line.name for line in roc(records, labeller(records)).lines]
    assert names[0] == "mia.loss, logit: AUC 0.750"
    assert names[1:] == [f"mia.{k}: AUC {0.6 - k / 100:.3f}" for k in range(4)] + ["chance"]


def test_an_attack_with_two_scores_is_a_point(attacked):
    record = attacked("mia.correctness", 0.52, {"roc": curve([0.0, 0.95, 1.0], [0.0, 0.99, 1.0])})
    chart = roc([record], labeller([record]))
    whisker, point, _ = chart.lines
    assert point.points == ((0.95, 0.99),) and not point.is_joined and point.marker
    assert whisker.points == ((0.95, pytest.approx(0.89)), (0.95, pytest.approx(1.09)))
    assert not chart.areas


def test_a_long_curve_is_thinned(attacked):
    rates = np.linspace(0, 1, 50_000)
    record = attacked("mia.loss", 0.5, {"roc": curve(rates, rates)})
    line = roc([record], labeller([record])).lines[0]
    assert len(line.points) < 5000
    assert line.points[0] == (0, 0) and line.points[-1] == (1, 1)


def test_a_histogram_shows_both_groups(attacked):
    content = {"edges": [0, 1, 2], "members": [0.25, 0.75], "nonmembers": [0.5, 0.5]}
    record = attacked("mia.loss", 0.6, {"histogram": content})
    chart = histogram(record, labeller([record]))
    assert [area.name for area in chart.areas] == ["members (training images)", "non-members"]
    assert chart.y.is_log  # one bin has most of the members: the tails would not be seen
    assert [y for _, y in chart.areas[0].points[1:-1]] == [0.25, 0.25, 0.75, 0.75]
    assert chart.y.low <= 0.25 and chart.y.high > 0.75
    flat = {"edges": [0, 1, 2], "clean": [0.5, 0.5], "triggered": [0.5, 0.5]}
    chart = histogram(attacked("backdoor.strip", 0.6, {"histogram": flat, "threshold": 3.0}), str)
    assert not chart.y.is_log and chart.y.low == 0
    assert [line.points[0][0] for line in chart.lines if line.name == "threshold"] == [3.0]
    assert chart.x.low < 0 and chart.x.high > 3


def test_the_budget_curve_has_floor_and_intervals(make):
    record = make.theft("a/b", "soft", 0.4)
    (chart,) = stealing([record], labeller([record]))
    named = {line.name.split()[0].strip(":"): line for line in chart.lines if line.name}
    assert set(named) == {"agreement", "floor", "accuracy"}
    assert [text for _, text in chart.x.marks()] == ["100", "1,000", "10,000"]
    for start, measure in (("agreement", "agreement"), ("floor", "floor_agreement")):
        expected = [point[measure]["value"] for point in record.details["curve"]]
        assert [y for _, y in named[start].points] == pytest.approx(expected)
        whiskers = [line.points for line in chart.lines
                    if not line.name and line.colour == named[start].colour]  # fmt: skip
        ends = [(p[measure]["low"], p[measure]["high"]) for p in record.details["curve"]]
        assert np.ravel([(low, high) for (_, low), (_, high) in whiskers]) == pytest.approx(
            np.ravel(ends)
        )
    assert [x for x, _ in named["agreement"].points] == [100, 1000, 10000]


def test_charts_of_thefts_share_their_vertical_axis(make):
    records = [make.theft("a/b", "soft", 0.4), make.theft("a/b", "hard", 0.1)]
    first, second = stealing(records, labeller(records))
    assert first.y == second.y
    assert (first.title, second.title) == (
        "steal.knockoff (response=soft)",
        "steal.knockoff (response=hard)",
    )


def test_one_budget_is_no_curve(make):
    records = [make.theft("a/b", response, 0.4, budgets=(600,)) for response in ("soft", "hard")]
    (chart,) = stealing(records, labeller(records))
    assert labels(chart.x) == ["response=soft", "response=hard"]
    assert chart.title == "Stealing with 600 queries"
    assert not any(line.is_joined for line in chart.lines if line.name)


def test_labels_of_close_budgets_make_room(make):
    budgets = (100, 110, 120, 200, 1000, 9900, 10000)
    (chart,) = stealing([make.theft("a/b", "soft", 0.4, budgets=budgets)], str)
    assert labels(chart.x) == ["100", "200", "1,000", "10,000"]
    assert not chart.x.is_crowded(360, 7)


def test_the_infected_class_stands_out(make):
    rng = np.random.default_rng(0)
    record = make.triggers(rng, "a/b", {}, p=0.001)
    chart = trigger_norms(record)
    norms = record.details["norms"]
    assert [area.points[2][1] for area in chart.areas] == norms
    assert [area.colour for area in chart.areas] == [int(k == 3) for k in range(10)]
    assert chart.lines[0].points[0][1] == np.median(norms)
    assert labels(chart.x)[3] == "cat"


def test_a_thousand_classes_are_one_outline(make):
    norms = np.linspace(10, 20, 1000).tolist()
    record = make.record(details={"norms": norms}, measures={"infected_label": Measure(700)})
    outline, bar = trigger_norms(record).areas
    assert max(y for _, y in outline.points) == 20
    left, right = bar.points[0][0], bar.points[1][0]
    assert left < 700 < right and bar.points[2][1] == norms[700]


def test_margins_are_drawn_and_an_unreached_class_has_none(make):
    details = {"margins": [20.0, 24.0, -3.0, 60.0]}
    chart = largest_margins(make.record(details=details, measures={"infected_label": Measure(3)}))
    assert [area.points[2][1] for area in chart.areas] == [20, 24, 0, 60]
    assert [area.colour for area in chart.areas] == [0, 0, 0, 1]
    assert chart.lines[0].points[0][1] == 22


def test_nothing_to_draw(make):
    record = make.record(details={"norms": [None, None], "curve": [], "roc": None})
    assert largest_margins(record) is None
    assert trigger_norms(record) is roc([record], str) is histogram(record, str) is None
    assert stealing([record], str) == []


# --- how it is drawn


def absolute(commands):
    """The corners of a path of M, l, h, v and Z, in pixels."""
    x = y = 0.0
    found = []
    for name, rest in re.findall(r"([MlhvZ])([^MlhvZ]*)", commands):
        numbers = [float(n) for n in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", rest)]
        if name == "M":
            x, y = numbers
        elif name == "l":
            x, y = x + numbers[0], y + numbers[1]
        elif name == "h":
            x += numbers[0]
        elif name == "v":
            y += numbers[0]
        found.append((x, y))
    return found


def paths(svg, style):
    tree = ElementTree.fromstring(svg)
    return [absolute(e.get("d")) for e in tree.iter(f"{SVG}path") if e.get("class") == style]


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


POINTS = ((0.0, 0.0), (1.0, 20.0), (1.0, 30.0), (3.0, 30.0), (4.0, 40.0))


def test_points_are_drawn_where_the_axes_say():
    chart = Chart("t", Axis("across", 0, 4), Axis("up", 0, 40), lines=(Line(POINTS, 0, "name"),))
    svg = to_svg(chart)
    (corners,) = [p for p in paths(svg, "l x") if len(p) == 3]
    (left, top), (_, bottom), (right, _) = corners
    drawn = paths(svg, "l s0")[0]
    for (x, y), (across, down) in zip(POINTS, drawn, strict=True):
        assert across == pytest.approx(left + x / 4 * (right - left), abs=0.06)
        assert down == pytest.approx(bottom - y / 40 * (bottom - top), abs=0.06)
    assert {"t", "across", "up", "name", "0", "40"} <= set(texts(svg))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=60))
def test_errors_of_rounding_do_not_add_up(points):
    chart = Chart("t", Axis("x", 0, 1), Axis("y", 0, 1), lines=(Line((*points, (1, 1)), 0),))
    svg = to_svg(chart)
    (corners,) = [p for p in paths(svg, "l x") if len(p) == 3]
    assert paths(svg, "l s0")[0][-1] == pytest.approx((corners[2][0], corners[0][1]), abs=0.06)


def test_nothing_leaves_the_picture():
    wild = ((-1e9, -1e9), (1e9, 1e9), (0.5, 1e300))
    chart = Chart("t", Axis("x", 0, 1), Axis("y", 0, 1), (Area(wild, 1),), (Line(wild, 0),))
    svg = to_svg(chart)
    drawn = [point for style in ("l s0", "f1") for path in paths(svg, style) for point in path]
    assert all(0 <= x <= WIDTH and 0 <= y <= 300 for x, y in drawn)


def test_texts_lie_within_the_picture_and_the_legend_is_wrapped():
    name = "an attack with a long name, and another with a long name, and one more"
    chart = Chart("t", Axis("x", 0, 1), Axis("y", 0, 1), lines=(Line(POINTS, 0, name),))
    svg = to_svg(chart)
    found = [text for text in texts(svg) if text in name and text != "t"]
    assert " ".join(found) == name and len(found) == 2
    tree = ElementTree.fromstring(svg)
    height = float(tree.get("viewBox").split()[3])
    assert all(0 < float(e.get("y")) < height for e in tree.iter(f"{SVG}text"))


def test_markup_in_texts_is_text():
    title = '<script>alert("1")</script> & $x$'
    chart = Chart(title, Axis(title, 0, 1), Axis(title, 0, 1), (Area(POINTS, 0, title),))
    svg = to_svg(chart, is_adaptive=True)
    assert texts(svg).count(title) == 4
    tags = {element.tag for element in ElementTree.fromstring(svg).iter()}
    assert tags == {f"{SVG}{tag}" for tag in ("svg", "title", "style", "text", "path")}


def test_colours_follow_the_page_only_where_asked():
    chart = Chart("t", Axis("x", 0, 1), Axis("y", 0, 1), lines=(Line(POINTS, INK),))
    assert "prefers-color-scheme" in to_svg(chart, is_adaptive=True)
    assert "prefers-color-scheme" not in to_svg(chart)
    assert to_svg(chart) == to_svg(chart)


def test_a_chart_is_described_in_words():
    chart = Chart("ROC", Axis("false", 0, 1), Axis("true", 0, 1), lines=(Line(POINTS, 0, "loss"),))
    assert chart.description == "ROC: true against false. Shown: loss."


def test_png_for_papers(demo):
    from io import BytesIO

    from PIL import Image

    records = [r for r in demo[0] if r.method.startswith("mia.")][:3]
    chart = roc(records, labeller(records))
    image = np.asarray(Image.open(BytesIO(to_png(chart))).convert("RGB"))
    assert image.shape[1] == 920  # 4.6 inches of 200 dots
    flat = {tuple(colour) for colour in image.reshape(-1, 3).tolist()}
    assert (255, 255, 255) in flat
    assert {(0, 114, 178), (213, 94, 0), (0, 158, 115)} <= flat  # all three curves
