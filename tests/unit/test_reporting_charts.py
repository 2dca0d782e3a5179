"""Charts: each has titles with units, names its profile, draws something, and knows a phone."""

from __future__ import annotations

import json
from collections.abc import Callable

import pandas as pd
import plotly.graph_objects as go
import pytest

from paytm_lab.core.errors import BadInput
from paytm_lab.reporting import charts, frames, look
from tests.unit import reporting_samples as samples

Make = Callable[[pd.DataFrame], go.Figure]


def _by(column: str) -> Make:
    return lambda frame: charts.shard_balance(frame, by=column, profile="lab x")


def _on(make: Callable[..., go.Figure]) -> Make:
    return lambda frame: make(frame, profile="lab x")


CASES: dict[str, tuple[Make, Callable[[], pd.DataFrame]]] = {
    "shards by accounts": (_by("accounts"), samples.shards),
    "shards by balance": (_by("balance"), samples.shards),
    "shards by payments": (_by("payments"), samples.shards),
    "shards by load": (_by("load"), samples.shards),
    "throughput": (_on(charts.throughput), samples.payments),
    "latency": (_on(charts.latency_percentiles), samples.payments),
    "cost": (_on(charts.cross_shard_cost), samples.payments),
    "outcomes": (_on(charts.outcomes), samples.payments),
    "hourly": (_on(charts.hourly), lambda: frames.hourly_frame(samples.payments())),
    "fraud": (_on(charts.fraud_scores), samples.features),
    "decisions": (_on(charts.decisions), samples.features),
    "events": (_on(charts.event_counts), samples.events),
    "verdict": (_on(charts.verdict), samples.verdict),
    "drift": (_on(charts.balance_drift), samples.drift),
    "naive": (_on(charts.naive_loss), samples.naive),
    "backlog": (_on(charts.backlog), samples.backlog),
    "sequence": (_on(charts.sequence), samples.steps),
    "strategies": (_on(charts.strategy_balance), samples.routing),
    "moved": (_on(charts.keys_moved), samples.routing),
}


@pytest.mark.parametrize("name", CASES)
def test_every_chart_names_axes_profile_and_what_to_look_at(name: str) -> None:
    make, frame = CASES[name]
    fig = make(frame())
    layout = json.loads(fig.to_json())["layout"]
    assert "lab x" in layout["title"]["subtitle"]["text"]
    assert len(layout["title"]["text"]) > 15
    assert len(fig.data) > 0
    if name not in ("verdict", "sequence"):  # a table, and lanes whose names stand above
        for axis in ("xaxis", "yaxis"):
            assert layout[axis]["title"]["text"], axis
    if name == "sequence":
        assert layout["yaxis"]["title"]["text"].endswith("(ms)")
    meta = layout["meta"]
    assert meta["title"] == layout["title"]["text"].replace("<br>", " ")
    assert max(map(len, layout["title"]["text"].split("<br>"))) <= look.TITLE_CHARS
    assert layout["height"] == layout["margin"]["t"] + meta["height"]


@pytest.mark.parametrize("name", CASES)
def test_no_chart_is_ever_an_empty_panel(name: str) -> None:
    make, frame = CASES[name]
    fig = make(frame().iloc[:0])
    assert fig.data[0].mode == "text"
    assert len(fig.data[0].text[0]) > 15
    assert fig.layout.height <= 260


@pytest.mark.parametrize("name", CASES)
def test_the_same_frame_gives_the_same_figure(name: str) -> None:
    make, frame = CASES[name]
    assert make(frame()).to_json() == make(frame()).to_json()


def test_shard_balance_says_how_far_the_fullest_is_over() -> None:
    shards = samples.shards()
    shards["accounts"] = [100, 100, 100, 140]
    fig = charts.shard_balance(shards)
    title = fig.layout.title.text.replace("<br>", " ").replace("\u00a0", " ")
    assert "shard 3, is 27.3 % over" in title
    with pytest.raises(BadInput, match="by 'colour'"):
        charts.shard_balance(shards, by="colour")


def test_throughput_counts_every_timed_payment_once() -> None:
    payments = samples.payments()
    fig = charts.throughput(payments)
    middles, rates = fig.data[0].x, fig.data[0].y
    width_s = 2 * middles[0]
    spans_s = [2 * (middle - i * width_s) for i, middle in enumerate(middles)]
    made = sum(rate * span for rate, span in zip(rates, spans_s, strict=True))
    # A last bin shorter than a fifth of the others is not drawn: its rate would be noise.
    assert 0.99 * len(payments) < made < len(payments) + 0.5


def test_latency_percentiles_are_the_frames_own() -> None:
    payments = samples.payments()
    fig = charts.latency_percentiles(payments)
    same = payments[(payments["status"] == "COMPLETED") & ~payments["cross_shard"]]["latency_ms"]
    trace = fig.data[0]
    at_99 = min(range(len(trace.x)), key=lambda i: abs(trace.x[i] - 100))
    assert trace.y[at_99] == pytest.approx(same.quantile(0.99), rel=0.05)
    assert list(trace.y) == sorted(trace.y)
    assert max(trace.x) <= len(same), "no quantile finer than the data"


def test_cost_needs_both_paths() -> None:
    payments = samples.payments()
    fig = charts.cross_shard_cost(payments[~payments["cross_shard"]])
    assert "No cross shard payment" in fig.data[0].text[0].replace("<br>", " ")


def test_untimed_payments_become_a_sentence_not_an_empty_chart() -> None:
    payments = samples.payments()
    payments[["latency_ms", "submitted_s"]] = float("nan")
    for make in (charts.throughput, charts.latency_percentiles, charts.cross_shard_cost):
        assert make(payments).data[0].mode == "text"


def test_fraud_scores_hold_every_payment_and_the_threshold() -> None:
    features = samples.features()
    fig = charts.fraud_scores(features, threshold=0.7)
    assert sum(n or 0 for trace in fig.data for n in trace.y) == len(features)
    assert fig.layout.shapes[0].x0 == 0.7
    assert {t.name.split()[0] for t in fig.data} == {"allow", "review", "block"}


def test_zero_event_types_are_named_not_hidden() -> None:
    fig = charts.event_counts(samples.events())
    assert "SMSSent" in fig.layout.title.subtitle.text
    assert sum(len(trace.y) for trace in fig.data) == 13


def test_a_failed_verdict_says_so() -> None:
    assert "failed" in charts.verdict(samples.verdict("failed")).layout.title.text
    assert "unknown" in charts.verdict(samples.verdict("unknown")).layout.title.text


def test_drifting_users_are_always_drawn() -> None:
    fig = charts.balance_drift(samples.drift(off_paise=250), points_max=10)
    off = next(trace for trace in fig.data if trace.name == "drifting users")
    assert list(off.text) == ["17"]
    assert "₹2.50" in fig.layout.title.text


def test_a_label_cannot_inject_markup() -> None:
    fig = charts.sequence(samples.steps())
    texts = [note.text for note in fig.layout.annotations]
    assert "&lt;b&gt;%{x}&lt;/b&gt;" in texts
    assert not any("<b>" in text for text in texts)


def test_charts_of_a_run_take_the_run_or_its_frame() -> None:
    class Run:
        payments = samples.payments()
        shards = samples.shards()

    made = charts.Charts("lab x")
    assert made.throughput(Run()).to_json() == made.throughput(Run.payments).to_json()
    assert "lab x" in made.shard_balance(Run(), by="load").layout.title.subtitle.text
    assert len(made.hourly(Run()).data[0].x) == 24


@pytest.mark.parametrize(
    ("part", "whole", "said"),
    [(0, 10, "0.0 %"), (1, 100_000, "< 0.1 %"), (99_999, 100_000, "99.9 %"), (5, 5, "100 %")],
)
def test_shares_never_round_to_none_or_all(part: int, whole: int, said: str) -> None:
    assert look.share(part, whole) == said


def test_labels_of_one_length_keep_their_order() -> None:
    """The same in every process, whatever it hashes text to: recorded figures are compared."""
    names = [f"{letter}{letter}" for letter in "qwertyuiop"]
    fig = look.figure(
        [look.bars(list(range(10)), names, orientation="h")], title="t", profile="p", x="x", y="y"
    )
    assert list(fig.layout.meta["labels"]) == ["ii", "oo", "pp"]


def test_the_cost_of_crossing_says_what_kind_of_load_it_was() -> None:
    payments = samples.payments()
    subtitle = charts.cross_shard_cost(payments).layout.title.subtitle.text
    assert f"closed loop, {frames.in_flight_max(payments):,} in flight" in subtitle
    assert "offered" not in subtitle


@pytest.mark.parametrize("name", ["outcomes", "decisions", "events"])
def test_a_bar_twice_as_long_is_twice_as_many(name: str) -> None:
    make, frame = CASES[name]
    fig = make(frame())
    assert fig.layout.xaxis.type != "log" and "log" not in fig.layout.xaxis.title.text
    longest = max(n for bar in fig.data for n in bar.x if n is not None)
    low, high = fig.layout.xaxis.range or (0, longest)
    assert low == 0 and high >= longest


def test_the_label_of_a_small_bar_stands_beside_it() -> None:
    payments = samples.payments()
    (bar,) = charts.outcomes(payments).data
    placed = dict(zip(bar.x, bar.textposition, strict=True))
    assert sum(placed) == len(payments)
    assert placed[min(placed)] == "outside" and placed[max(placed)] == "inside"


def _note_of_accounts(accounts: list[int], by: str = "accounts") -> str:
    shards = frames.shards_frame(
        {"shard": n, "accounts": count, "balance_paise": 9, "payments": 9, "entries": 9}
        for n, count in enumerate(accounts)
    )
    return str(charts.shard_balance(shards, by=by).layout.meta["note"])


def test_a_crowded_shard_is_warned_of_with_what_to_do() -> None:
    for by in ("accounts", "load"):
        note = _note_of_accounts([50, 0, 0, 0], by)
        assert "warning" in note and "put a letter before such ids" in note
    assert "warning" in _note_of_accounts([151, 83, 83, 83])
    assert "warning" not in _note_of_accounts([150, 84, 83, 83]), "one and a half times is not over"
    assert "warning" not in _note_of_accounts([49, 0, 0, 0]), "too few to say"
    assert "warning" not in _note_of_accounts([70])
