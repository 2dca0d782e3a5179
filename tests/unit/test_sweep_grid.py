"""Parameters as words: their types, their grids, their names on disk; a wrong one is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paytm_lab.core.errors import InvalidSetting, MissingPart
from paytm_lab.reporting.catalog import find_notebook
from paytm_lab.reporting.grid import (
    Point,
    assignments,
    digest,
    points,
    single_values,
    value_lists,
    varying,
)

KNOWN: dict[str, Any] = {
    "shards": 4, "zipf_s": 0.99, "data": "", "deep": False, "sizes": [1], "free": None,
}  # fmt: skip
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def values(**given: str) -> dict[str, list[Any]]:
    return value_lists("it", KNOWN, given)


def test_values_get_the_types_of_their_defaults() -> None:
    found = values(
        shards="4, 8,16", zipf_s="1,0.8", deep="true,no", sizes="[1,2],[3]", data="a,'b,c'"
    )
    assert found == {
        "shards": [4, 8, 16], "zipf_s": [1.0, 0.8], "deep": [True, False],
        "sizes": [[1, 2], [3]], "data": ["a", "b,c"],
    }  # fmt: skip
    assert type(found["zipf_s"][0]) is float
    assert values(free="1,word,None") == {"free": [1, "word", None]}


def test_one_value_keeps_its_commas() -> None:
    assert single_values("it", KNOWN, {"data": "a,b", "shards": "8"}) == {
        "data": "a,b",
        "shards": 8,
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"shard": "4"}, r"it has no parameter shard\. It has: shards=4, zipf_s=0.99, data=''"),
        ({"shards": "4,x"}, r"shards='x' is no int, as it needs it\. Its default is 4"),
        ({"shards": "4,"}, "shards='' is no int"),
        ({"shards": "4.0"}, "shards='4.0' is no int"),
        ({"shards": "true"}, "shards='true' is no int"),
        ({"zipf_s": "nan"}, "zipf_s='nan' is no float"),
        ({"zipf_s": "1e999"}, "zipf_s='1e999' is no float"),
        ({"deep": "1"}, "deep='1' is no bool"),
        ({"sizes": "1"}, "sizes='1' is no list"),
        ({"sizes": "[1,2"}, "is no list"),
        ({"shards": "4,8,4"}, "shards has the value 4 twice"),
        ({"zipf_s": "1,1.0"}, "zipf_s has the value 1.0 twice"),
        ({"shards": "9" * 5000}, "is no int"),
    ],
)
def test_what_does_not_fit_is_named(given: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidSetting, match=said):
        value_lists("it", KNOWN, given)


@pytest.mark.parametrize("word", ["shards", "=4", "a b=4", "4=4", ""])
def test_a_word_that_sets_nothing_is_named(word: str) -> None:
    with pytest.raises(InvalidSetting, match=r"sets no parameter\. Write -p name=value"):
        assignments([word])


def test_a_name_given_twice_is_named() -> None:
    with pytest.raises(InvalidSetting, match="n is given twice"):
        assignments(["n=1", "n=2"])
    assert assignments(["n=1", "text=a=b"]) == {"n": "1", "text": "a=b"}


def test_a_grid_is_every_combination_once() -> None:
    grid = points("work", {"a": [1, 2], "b": ["x"], "c": [0.5, 1.5]})
    assert [tuple(p.parameters.values()) for p in grid] == [
        (1, "x", 0.5), (1, "x", 1.5), (2, "x", 0.5), (2, "x", 1.5),
    ]  # fmt: skip
    assert len({p.digest for p in grid}) == 4
    assert varying(grid) == ["a", "c"] and varying(grid[:1]) == [] == varying([])
    assert str(grid[0]) == "a=1, b=x, c=0.5"


def test_a_grid_has_a_limit_that_is_not_reached_by_counting() -> None:
    wide = {f"p{n}": list(range(100)) for n in range(20)}
    with pytest.raises(InvalidSetting, match=r"points \(100 p0 x 100 p1.*more than 200"):
        points("work", wide)
    assert len(points("work", {"a": list(range(200))})) == 200
    with pytest.raises(InvalidSetting, match="higher --points-max"):
        points("work", {"a": list(range(201))})


def test_a_digest_follows_work_and_values_but_not_their_order() -> None:
    one = digest("work", {"a": 1, "b": 2})
    assert one == digest("work", {"b": 2, "a": 1})
    others = [
        digest("other", {"a": 1, "b": 2}),
        digest("work", {"a": 2, "b": 2}),
        digest("work", {"a": "1", "b": 2}),
        digest("work", {"a": True, "b": 2}),
        digest("work", {"a": 1.0, "b": 2}),
        digest("work", {"a": 1}),
    ]
    assert len({one, *others}) == 7
    assert len(one) == 32


@pytest.mark.parametrize(
    "name",
    ["01", "01_routing", "01_routing.ipynb", "routing", "Routing",
     str(NOTEBOOKS / "01_routing.ipynb"),
     "where does a user live,  and who moves when a shard is added"],
)  # fmt: skip
def test_a_notebook_is_found_by_number_name_title_or_path(name: str) -> None:
    assert find_notebook(NOTEBOOKS, name).name == "01_routing.ipynb"


@pytest.mark.parametrize("name", ["1", "0", "", "99", "rout", "../notebooks/none.ipynb"])
def test_an_unknown_notebook_is_an_error_with_the_list(name: str) -> None:
    with pytest.raises(
        InvalidSetting, match=r"there is no notebook .*01_routing \(Where does a user"
    ):
        find_notebook(NOTEBOOKS, name)


def test_a_folder_without_notebooks_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingPart, match="there are no notebooks in"):
        find_notebook(tmp_path, "01")


def test_points_compare_by_value() -> None:
    assert Point({"a": 1}, "d") == Point({"a": 1}, "d")
