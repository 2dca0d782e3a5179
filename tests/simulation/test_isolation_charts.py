"""Charts of isolation: what they say is what their rows hold."""

from __future__ import annotations

from paytm_lab.reporting import isolation_charts as charts
from paytm_lab.simulation import isolation
from paytm_lab.simulation.bank_test import AS_OF, JEPSEN, NAIVE, Read


def title(figure: object) -> str:
    return str(figure.layout.title.text).replace("<br>", " ")  # type: ignore[attr-defined]


def test_an_order_is_drawn_step_by_step() -> None:
    history = isolation.play("repeatable read", "ABABAB")
    figure = charts.interleaving(history)
    assert "₹10.00 that was committed is gone" in title(figure)
    drawn = [text for trace in figure.data for text in trace.text]
    assert drawn.count("reads ₹100") == 2
    assert "write: waits" in drawn
    committed = next(trace for trace in figure.data if trace.name == "committed")
    assert list(committed.text)[-1] == "₹110"
    assert "has to try again" in title(charts.interleaving(isolation.play("deferred", "ABABAB")))
    assert "one client waited" in title(charts.interleaving(isolation.play("immediate", "ABABAB")))


def test_all_orders_are_counted_and_the_engine_is_marked() -> None:
    rows = isolation.count_outcomes(isolation.all_orders())
    figure = charts.order_outcomes(rows, rows[:1])
    assert "loses an update in 18 of 20" in title(figure)
    bars = [trace for trace in figure.data if trace.type == "bar"]
    assert sum(sum(trace.x) for trace in bars) == 20 * len(rows)
    (engine,) = [trace for trace in figure.data if trace.type == "scatter"]
    assert (list(engine.x), list(engine.y)) == ([8], ["autocommit"])
    assert charts.order_outcomes([]).data[0].mode == "text"


def test_totals_of_the_bank() -> None:
    good = JEPSEN.openings()
    reads = [
        Read(AS_OF, 0.0, good), Read(NAIVE, 0.1, good), Read(NAIVE, 0.2, good | {"1": 0}),
    ]  # fmt: skip
    figure = charts.bank_totals(reads)
    assert f"0 of 1 {AS_OF}" in title(figure)
    assert f"1 of 2 {NAIVE}" in title(figure)
    assert [list(trace.y) for trace in figure.data] == [[100.0], [100.0, 87.0]]
    assert charts.bank_totals([]).data[0].mode == "text"
