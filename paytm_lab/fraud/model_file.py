"""A trained model as plain numbers: a versioned msgpack file with a digest; never pickle.

Whoever reads one runs no code of its author. What is read is checked in full: types, sizes,
indexes, and that every tree ends.
"""

from __future__ import annotations

import math
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from paytm_lab.core.errors import BadInput, MalformedFile
from paytm_lab.fraud.rules import Thresholds

FORMAT, FORMAT_VERSION = "paytm-lab-model", 1
BYTES_MAX = 8 * 2**20
KINDS = ("linear", "forest", "boosting")
NAME_CHARS_MAX = 24
FEATURES_MAX = 512
_TYPES = {"float64": "<f8", "float32": "<f4", "int32": "<i4", "int16": "<i2"}
_LINEAR = {"weights": "float64", "bias": "float64", "mean": "float64"}
_TREES = {
    "feature": "int16", "threshold": "float64", "left": "int32", "right": "int32",
    "value": "float64", "roots": "int32", "base": "float64",
}  # fmt: skip
Arrays = dict[str, NDArray[Any]]


class _Array(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[int, ...]
    data: bytes


class _Payload(msgspec.Struct, frozen=True):
    name: str
    version: int
    kind: str
    features: tuple[str, ...]
    thresholds: Thresholds
    facts: dict[str, str | float | int | bool | None]
    arrays: dict[str, _Array]


class _Envelope(msgspec.Struct, frozen=True):
    format: str
    format_version: int
    digest: str
    payload: bytes


class ModelFile(msgspec.Struct, frozen=True):
    """``kind`` linear: ``weights`` and ``mean`` per feature, ``bias`` (1). forest and boosting:
    nodes of all trees one after the other; ``feature`` is -1 in a leaf; a row goes ``left`` where
    its feature is at most ``threshold``; ``value``: of every node, the score (boosting: log odds)
    of a row that ends there; ``roots``: first node of each tree; ``base`` (1): log odds to start
    from (forest: unused). ``facts``: about the training, for people.
    """

    name: str
    version: int
    kind: str
    features: tuple[str, ...]
    thresholds: Thresholds
    arrays: Arrays
    facts: dict[str, str | float | int | bool | None] = {}

    @property
    def id(self) -> str:
        """Name and version, as stored with each decision."""
        return f"{self.name}:{self.version}"

    @property
    def digest(self) -> str:
        """Of all that is in it: equal models, equal digests."""
        return _digest(_payload(self))


def encode(model: ModelFile) -> bytes:
    """BadInput for a model that would not be read back."""
    check(model)
    try:
        payload = _payload(model)
        msgspec.msgpack.decode(payload, type=_Payload)
    except (TypeError, msgspec.MsgspecError) as error:
        raise BadInput(
            f"the facts of model {model.id} cannot be kept: {error}",
            place="model file",
            remedy="Facts are text, numbers, true or false.",
        ) from error
    body = msgspec.msgpack.encode(_Envelope(FORMAT, FORMAT_VERSION, _digest(payload), payload))
    if len(body) > BYTES_MAX:
        raise BadInput(
            f"model {model.id} takes {len(body):,} bytes",
            place="model file",
            remedy=f"At most {BYTES_MAX:,}: train fewer or smaller trees.",
        )
    return body


def decode(body: bytes, place: str = "model file") -> ModelFile:
    """MalformedFile for anything but a whole, sound model of this format."""
    try:
        if len(body) > BYTES_MAX:
            raise BadInput(f"{len(body):,} bytes are more than {BYTES_MAX:,}")
        envelope = msgspec.msgpack.decode(body, type=_Envelope)
        if (envelope.format, envelope.format_version) != (FORMAT, FORMAT_VERSION):
            raise BadInput(
                f"format {envelope.format!r} version {envelope.format_version} is not"
                f" {FORMAT!r} version {FORMAT_VERSION}"
            )
        if envelope.digest != _digest(envelope.payload):
            raise BadInput("its digest does not fit: it was changed or cut")
        payload = msgspec.msgpack.decode(envelope.payload, type=_Payload)
        model = ModelFile(
            payload.name, payload.version, payload.kind, payload.features, payload.thresholds,
            {name: _array(name, each) for name, each in payload.arrays.items()}, payload.facts,
        )  # fmt: skip
        check(model)
    except (msgspec.DecodeError, BadInput) as error:
        said = error.message if isinstance(error, BadInput) else str(error)
        raise MalformedFile(
            f"this is no model: {said}", place=place, remedy="Export it again."
        ) from error
    return model


def save(model: ModelFile, path: Path | str) -> Path:
    """Write it whole or not at all; the path."""
    target = Path(path)
    partly = target.with_name(f".{target.name}.part")
    partly.write_bytes(encode(model))
    return partly.replace(target)


def load(path: Path | str) -> ModelFile:
    """MalformedFile where there is none, or no sound one."""
    try:
        size = Path(path).stat().st_size
        body = b"" if size > BYTES_MAX else Path(path).read_bytes()
    except OSError as error:
        raise MalformedFile(f"cannot read: {error.strerror}", place=str(path)) from error
    if size > BYTES_MAX:
        raise MalformedFile(f"{size:,} bytes are more than {BYTES_MAX:,}", place=str(path))
    return decode(body, str(path))


def check(model: ModelFile) -> None:
    """BadInput, with what is wrong."""
    name_is_sound = (
        0 < len(model.name) <= NAME_CHARS_MAX
        and model.name.isascii()
        and model.name.replace("_", "").replace("-", "").isalnum()
    )
    if not name_is_sound or not 1 <= model.version < 10**6:
        raise _unsound(
            f"{model.name!r} version {model.version!r} cannot name it (1 to {NAME_CHARS_MAX}"
            " ASCII letters, digits, - or _; a version from 1)"
        )
    if model.kind not in KINDS:
        raise _unsound(f"kind {model.kind!r} is none of {', '.join(KINDS)}")
    if not 1 <= len(model.features) <= FEATURES_MAX or len(set(model.features)) != len(
        model.features
    ):
        raise _unsound("its features are none, too many, or not distinct")
    check_thresholds(model.thresholds)
    wanted = _LINEAR if model.kind == "linear" else _TREES
    if {name: each.dtype.name for name, each in model.arrays.items()} != wanted:
        raise _unsound(f"its arrays are not those of kind {model.kind}: {', '.join(wanted)}")
    for name, each in model.arrays.items():
        if each.ndim != 1 or (each.dtype.kind == "f" and not np.isfinite(each).all()):
            raise _unsound(f"{name} is no list of finite numbers")
    if model.kind == "linear":
        _check_linear(model)
    else:
        _check_trees(model)


def check_thresholds(thresholds: Thresholds) -> None:
    block, review = thresholds.block_score, thresholds.review_score
    sound = math.isfinite(block) and block >= 0
    if not sound or (review is not None and not 0 <= review <= block):
        raise _unsound(f"thresholds {review!r} (review) and {block!r} (block) are not in order")


def _check_linear(model: ModelFile) -> None:
    sizes = {name: len(each) for name, each in model.arrays.items()}
    count = len(model.features)
    if sizes != {"weights": count, "mean": count, "bias": 1}:
        raise _unsound(f"arrays of {sizes} entries do not belong to {count} features")


def _check_trees(model: ModelFile) -> None:
    arrays = model.arrays
    nodes = len(arrays["feature"])
    if nodes < 1 or any(
        len(arrays[name]) != nodes for name in ("threshold", "left", "right", "value")
    ):
        raise _unsound("the lists of nodes differ in length")
    if not len(arrays["roots"]) or len(arrays["base"]) != 1:
        raise _unsound("there are no trees")
    feature, own = arrays["feature"], np.arange(nodes)
    inner = feature >= 0
    if feature.min() < -1 or feature.max() >= len(model.features):
        raise _unsound("a node asks for a feature that is not there")
    if arrays["roots"].min() < 0 or arrays["roots"].max() >= nodes:
        raise _unsound("a tree begins at a node that is not there")
    for side in ("left", "right"):
        child = arrays[side][inner]
        # Children stand behind their parent, so every way ends.
        if len(child) and ((child <= own[inner]).any() or child.max() >= nodes):
            raise _unsound("a node's children are not behind it")
    if model.kind == "forest" and (arrays["value"].min() < 0 or arrays["value"].max() > 1):
        raise _unsound("a value of a forest is outside 0..1")


def _unsound(what: str) -> BadInput:
    return BadInput(what, place="model file")


def _payload(model: ModelFile) -> bytes:
    arrays = {
        name: _Array(
            each.dtype.name,
            each.shape,
            np.ascontiguousarray(each, _TYPES[each.dtype.name]).tobytes(),
        )
        for name, each in sorted(model.arrays.items())
    }
    return msgspec.msgpack.encode(
        _Payload(
            model.name, model.version, model.kind, model.features, model.thresholds,
            dict(sorted(model.facts.items())), arrays,
        )
    )  # fmt: skip


def _array(name: str, stored: _Array) -> NDArray[Any]:
    kind = _TYPES.get(stored.dtype)
    if kind is None or any(size < 0 for size in stored.shape):
        raise _unsound(f"{name} is of type {stored.dtype!r}")
    if math.prod(stored.shape) * np.dtype(kind).itemsize != len(stored.data):
        raise _unsound(f"{name} holds {len(stored.data)} bytes, its shape says otherwise")
    return np.frombuffer(stored.data, kind).reshape(stored.shape).astype(stored.dtype)


def _digest(payload: bytes) -> str:
    return blake2b(payload, digest_size=16).hexdigest()
