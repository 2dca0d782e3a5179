"""Who lacks an optional part of the package is told how to get it."""

from __future__ import annotations

import tomllib
from importlib import util
from pathlib import Path

import pytest

from paytm_lab.core import extras
from paytm_lab.core.errors import MissingPart


def test_nothing_is_said_of_what_is_there() -> None:
    extras.need("sklearn", "numba")


def test_what_is_missing_is_named_with_the_extras_that_bring_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(MissingPart, match=r"scikit-learn, distributed is not .*\[dask,science\]"):
        extras.need("sklearn", "distributed")


def test_each_extra_is_one_of_pyproject() -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    declared = {
        (line.split(">=")[0], extra)
        for extra, lines in project["optional-dependencies"].items()
        for line in lines
    }
    assert set(extras._EXTRAS.values()) == declared
    assert all(util.find_spec(module) for module in extras._EXTRAS)
