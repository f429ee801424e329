"""Lines that fit, from words that stay whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from securitynet.reports.layout import Row, fit, wrapped

WORDS = st.lists(st.text("abcéßД0123456789.[]", min_size=1, max_size=12), max_size=30)


@given(WORDS, st.integers(20, 60), st.integers(0, 4), st.integers(0, 6))
def test_words_that_fit_stay_whole_and_in_order(words, width, indent, hang):
    text = " ".join(words)
    lines = wrapped(text, width, indent=indent, hang=hang)
    assert all(cell_len(line) <= width for line in lines)
    assert " ".join(lines).split() == words
    assert all(line.startswith(" " * hang) for line in lines[1:])


@given(st.text(min_size=1, max_size=200), st.integers(1, 40))
def test_no_line_is_too_wide_whatever_the_text(text, width):
    room = max(width, 2)  # one wide character needs two cells
    assert all(cell_len(line) <= room for line in wrapped(text, room))


def test_a_figure_keeps_its_interval():
    text = "The copy agrees 0.942 [0.924, 0.960] after n = 600 queries, p = 0.002"
    for width in range(20, 60):
        joined = wrapped(text, width)
        for whole in ("0.942 [0.924, 0.960]", "n = 600", "p = 0.002"):
            assert sum(whole in line for line in joined) == 1, width


def test_only_a_word_longer_than_a_line_is_broken():
    assert wrapped("a abcdefghij b", 4) == ["a", "abcd", "efgh", "ij b"]
    assert wrapped("広い文字", 4) == ["広い", "文字"]


def test_wide_characters_take_two_cells():
    assert wrapped("広い 文字 です", 6) == ["広い", "文字", "です"]
    assert wrapped("広い 文字 です", 9) == ["広い 文字", "です"]


def test_without_a_width_there_is_one_line():
    assert wrapped("word " * 500, None) == [("word " * 500).strip()]


HEADS = {"accuracy": "accuracy", "excess": "excess", "n": "n"}
ROWS = [
    Row("steal.knockoff", (f"response={r}",), {"accuracy": a, "excess": e, "n": "600"})
    for r, a, e in (
        ("soft", "0.967 [0.944, 0.990]", "0.121 [-0.33, 0.58]"),
        ("hard", "0.974 [0.957, 0.991]", "-0.061 [-0.26, 0.14]"),
    )
]


def laid_out(width, **options):
    layout = fit("method", HEADS, [ROWS], width, **options)
    return layout, [*layout.header(), *(line for row in ROWS for line in layout.lines(row, width))]


def test_all_on_one_line_where_there_is_room():
    layout, lines = laid_out(100)
    assert lines == [
        "method                                        accuracy                excess    n",
        "  steal.knockoff (response=soft)  0.967 [0.944, 0.990]   0.121 [-0.33, 0.58]  600",
        "  steal.knockoff (response=hard)  0.974 [0.957, 0.991]  -0.061 [-0.26, 0.14]  600",
    ]
    assert (layout.hoisted, layout.dropped) == ((), ())


def test_what_is_the_same_in_a_group_is_said_once_if_that_helps():
    layout, lines = laid_out(78, hoistable=("n",))
    assert layout.hoisted == ("n",)
    assert len(lines) == 3


def test_what_differs_in_a_group_is_not_said_once():
    rows = [Row("a", (), {"n": "1"}), Row("b", (), {"n": "2"})]
    assert fit("method", {"n": "n"}, [rows], 3, hoistable=("n",)).is_stacked
    split = fit("method", {"n": "n", "m": "m"}, [[Row("a", (), {"n": "1", "m": "3"})]], 10)
    assert split.hoisted == ()


def test_intervals_go_below_their_values_and_options_below_the_name():
    assert laid_out(52)[1] == [
        "method                  accuracy         excess    n",
        "  steal.knockoff           0.967          0.121  600",
        "  response=soft   [0.944, 0.990]  [-0.33, 0.58]",
        "  steal.knockoff           0.974         -0.061  600",
        "  response=hard   [0.957, 0.991]  [-0.26, 0.14]",
    ]


def test_the_least_important_column_goes_first_and_is_named():
    layout, lines = laid_out(47, least=("n", "accuracy"))
    assert layout.dropped == ("n",)
    assert max(map(cell_len, lines)) == 47
    assert laid_out(46, least=("n", "accuracy"))[0].dropped == ("n", "accuracy")


def test_a_line_a_figure_where_nothing_else_fits():
    layout, lines = laid_out(26, least=("n", "accuracy"))
    assert layout.is_stacked
    assert lines[:6] == [
        "  steal.knockoff",
        "    (response=soft)",
        "    accuracy",
        "      0.967 [0.944, 0.990]",
        "    excess",
        "      0.121 [-0.33, 0.58]",
    ]


@pytest.mark.parametrize("width", [*range(20, 100, 3), None])
def test_no_figure_is_lost_and_no_line_too_wide(width):
    layout, lines = laid_out(width, least=("n",))
    assert width is None or max(map(cell_len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    for row in ROWS:
        for name in layout.heads:
            assert all(part in text for part in row.cells[name].split(" [", 1))
