"""The one error tree: its drawing shows every error, under its parent and with its exit code."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator

import paytm_lab
from paytm_lab.core import errors


def below(kind: type[errors.PaytmLabError]) -> Iterator[type[errors.PaytmLabError]]:
    """The package's own; a test may have made others."""
    for child in kind.__subclasses__():
        if child.__module__.startswith(f"{paytm_lab.__name__}."):
            yield child
            yield from below(child)


def drawn() -> dict[str, tuple[str, int | None]]:
    """Name -> (parent, exit code or None where the drawing leaves it to the parent)."""
    found: dict[str, tuple[str, int | None]] = {}
    above: list[str] = ["PaytmLabError"]
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^([│ ]*)[├└]── (\w+)(?: +exit (\d))?", line)
        if match is None:
            continue
        depth = len(match[1]) // 4 + 1
        above[depth:] = [match[2]]
        found[match[2]] = (above[depth - 1], None if match[3] is None else int(match[3]))
    return found


def test_the_drawing_is_the_tree() -> None:
    for module in pkgutil.walk_packages(paytm_lab.__path__, "paytm_lab."):
        importlib.import_module(module.name)
    known = {kind.__name__: kind for kind in below(errors.PaytmLabError)}
    tree = drawn()
    assert set(tree) == set(known)
    for name, (parent, exit_code) in tree.items():
        assert [base.__name__ for base in known[name].__bases__] == [parent], name
        above = known[name].__bases__[0]
        assert known[name].exit_code == (above.exit_code if exit_code is None else exit_code), name


def test_every_error_has_its_own_code() -> None:
    codes = [kind.code for kind in below(errors.PaytmLabError)]
    assert len(set(codes)) == len(codes)
    assert {kind.__module__ for kind in below(errors.PaytmLabError)} == {errors.__name__}
