"""Parameters as words -> typed values, and the grid of points that a sweep goes through."""

from __future__ import annotations

import ast
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paytm_lab.core.errors import InvalidSetting

POINTS_MAX = 200
_OPENING, _CLOSING, _QUOTES = "([{", ")]}", "'\""
_TRUTHS = {"true": True, "yes": True, "false": False, "no": False}


@dataclass(frozen=True, slots=True)
class Point:
    """One combination of parameters. ``digest`` names its results: the same work with the same
    parameters has the same one, whichever grid it stands in.
    """

    parameters: Mapping[str, Any]
    digest: str

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.parameters.items())


def assignments(words: Sequence[str]) -> dict[str, str]:
    """'name=text' words as a mapping. InvalidSetting: no such word, or a name given twice."""
    given: dict[str, str] = {}
    for word in words:
        name, equals, text = word.partition("=")
        name = name.strip()
        if not equals or not name.isidentifier():
            raise InvalidSetting(
                f"{word!r:.80} sets no parameter", remedy="Write -p name=value, for example -p n=4."
            )
        if name in given:
            raise InvalidSetting(
                f"parameter {name} is given twice", remedy="Write all its values into one -p."
            )
        given[name] = text
    return given


def single_values(
    name: str, known: Mapping[str, Any], given: Mapping[str, str], remedy: str = ""
) -> dict[str, Any]:
    """One value for each given parameter, of the type of its default in ``known``.

    InvalidSetting: a name that ``name`` does not know, or a text of another type.
    """
    check_names(name, known, given)
    return {key: _typed(name, key, text, known[key]) for key, text in given.items()}


def value_lists(
    name: str, known: Mapping[str, Any], given: Mapping[str, str]
) -> dict[str, list[Any]]:
    """The values of each given parameter, which its text parts by commas (not those inside
    brackets or quotes). InvalidSetting as ``single_values``, and for a value that comes twice.
    """
    check_names(name, known, given)
    found = {}
    for key, text in given.items():
        values = [_typed(name, key, part, known[key]) for part in _split(text)]
        keys = [json.dumps(value, default=repr) for value in values]
        twice = next((v for v, k in zip(values, keys, strict=True) if keys.count(k) > 1), None)
        if twice is not None:
            raise InvalidSetting(f"parameter {key} has the value {twice!r} twice")
        found[key] = values
    return found


def check_names(name: str, known: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        there = ", ".join(f"{key}={default!r}" for key, default in known.items())
        raise InvalidSetting(
            f"{name} has no parameter {', '.join(unknown)}", remedy=f"It has: {there or 'none'}."
        )


def points(
    work: str, values: Mapping[str, Sequence[Any]], points_max: int = POINTS_MAX
) -> list[Point]:
    """Every combination, the last parameter changing fastest. ``work`` says, in the digests, what
    is done with them (a name and a version of its source). InvalidSetting: more than
    ``points_max``.
    """
    number = 1
    for choices in values.values():
        number *= len(choices)
    if number > points_max:
        sizes = " x ".join(f"{len(v)} {k}" for k, v in values.items() if len(v) > 1)
        raise InvalidSetting(
            f"the grid has {number:,} points ({sizes}), more than {points_max:,}",
            remedy="Give fewer values, or a higher --points-max.",
        )
    combined = (dict(zip(values, chosen, strict=True)) for chosen in _combinations(values))
    return [Point(parameters, digest(work, parameters)) for parameters in combined]


def digest(work: str, parameters: Mapping[str, Any]) -> str:
    """32 hex digits of the work and its parameters, whatever their order."""
    text = json.dumps([work, dict(parameters)], sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def varying(all_points: Sequence[Point]) -> list[str]:
    """The parameters that differ between points, in their order."""
    if not all_points:
        return []
    first = all_points[0].parameters
    return [k for k, v in first.items() if any(p.parameters[k] != v for p in all_points)]


def _combinations(values: Mapping[str, Sequence[Any]]) -> Any:
    return itertools.product(*values.values())


def _split(text: str) -> list[str]:
    """At the commas that stand outside brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in _QUOTES:
            quote = character
        else:
            depth += (character in _OPENING) - (character in _CLOSING)
            if character == "," and depth == 0:
                parts.append("")
                continue
        parts[-1] += character
    return [part.strip() for part in parts]


def _typed(name: str, key: str, text: str, default: Any) -> Any:
    """``text`` as a value of the default's type; whole numbers may stand for fractions."""
    if isinstance(default, str):
        quoted = len(text) > 1 and text[0] in _QUOTES and text[-1] == text[0]
        return text[1:-1] if quoted else text
    value = _literal(text)
    if default is None or type(value) is type(default):
        return value
    if isinstance(default, float) and type(value) is int:
        return float(value)
    kind = type(default).__name__
    raise InvalidSetting(
        f"{key}={text!r:.80} is no {kind}, as {name} needs it",
        remedy=f"Its default is {default!r}.",
    )


def _literal(text: str) -> Any:
    """A number, truth or literal; else the text itself. Only finite numbers count."""
    word = text.strip()
    if word.lower() in _TRUTHS:
        return _TRUTHS[word.lower()]
    try:
        value = ast.literal_eval(word)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    if isinstance(value, float) and value - value != 0:  # 1e999
        return text
    return value
