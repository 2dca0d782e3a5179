"""Lines of the dashboards: what nobody measured is not drawn."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from paytm_lab.analytics import charts
from paytm_lab.core.events import rfc3339

START_S = 1_767_225_600


def points(*at_s: float) -> list[charts.Chart]:
    return [{"at": rfc3339(round((START_S + s) * 1e6)), "payments_per_s": {"0": s}} for s in at_s]


def test_a_minute_without_a_look_is_a_gap() -> None:
    drawn = charts.with_gaps(points(0, 1, 2, 62, 63), 5.0)
    assert [point.get("payments_per_s") for point in drawn] == [
        {"0": 0}, {"0": 1}, {"0": 2}, None, {"0": 62}, {"0": 63},
    ]  # fmt: skip
    assert drawn[3]["at"] == rfc3339(round((START_S + 62) * 1e6))


@given(st.lists(st.floats(0.0, 1e5, allow_nan=False), max_size=30).map(sorted))
def test_every_point_stays_and_a_line_never_spans_a_gap(at_s: list[float]) -> None:
    given_points = points(*at_s)
    drawn = charts.with_gaps(given_points, 5.0)
    assert [point for point in drawn if "payments_per_s" in point] == given_points
    gaps = sum(later - earlier > 5.0 for earlier, later in pairwise(at_s))
    # Times are told to the microsecond, so one at the very limit may fall to either side.
    near = sum(abs(b - a - 5.0) < 1e-5 for a, b in pairwise(at_s))
    assert abs((len(drawn) - len(given_points)) - gaps) <= near
