"""Every setting of the lab, in one frozen record. No other module reads the environment.

A value comes from, first match wins: an argument (a command's option, ``Lab(...)``'s keyword),
the environment (``PAYTM_LAB_SHARDS=8``), a file ``.env`` in the working folder, with
``profile=servers`` the file that ``paytm-lab stack up`` writes (``stack``), the default.
``paytm-lab config`` prints ``describe``: each value with its source.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import platformdirs
from pydantic import Field, PrivateAttr, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined
from pydantic_settings import (
    DotEnvSettingsSource,
    EnvSettingsSource,
    SettingsConfigDict,
)

from paytm_lab.config_servers import CONNECTION_FILE, ServerSettings
from paytm_lab.config_services import ServiceSettings
from paytm_lab.core.errors import InvalidSetting

PREFIX = "PAYTM_LAB_"
ENV_FILE = ".env"
MASK = "********"
DAY_S = 86_400
Source = Literal["default", "stack", "environment", ".env", "argument"]

Seconds = Annotated[float, Field(gt=0, le=365 * DAY_S, allow_inf_nan=False)]
Milliseconds = Annotated[float, Field(ge=0, le=60_000, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Partitions = Annotated[int, Field(ge=1, le=256)]


def _default_data_dir() -> Path:
    return platformdirs.user_data_path("paytm_lab", appauthor=False)


def _default_stack_dir() -> Path:
    return _default_data_dir() / "stack"


class Settings(ServerSettings, ServiceSettings):
    """The lab's settings. ``None`` as an argument means "not given".

    Raises InvalidSetting, which names the variable or argument, the value and the remedy: for a
    value outside its bounds, an unknown argument, an unknown ``PAYTM_LAB_*`` variable.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=ENV_FILE,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        validate_default=True,
    )
    _sources: dict[str, Source] = PrivateAttr(default_factory=dict)

    # The lab
    profile: Literal["embedded", "servers"] = Field(
        "embedded",
        description="Which backends: embedded (SQLite files, nothing to start) or servers (MySQL,"
        " Kafka, Redis, Cassandra, ZooKeeper).",
    )
    data_dir: Path = Field(
        default_factory=_default_data_dir, description="The folder that holds all state of a lab."
    )
    stack_dir: Path = Field(
        default_factory=_default_stack_dir,
        description="The folder of the servers that `paytm-lab stack up` starts.",
    )
    shards: int = Field(
        4,
        ge=1,
        le=64,
        description="How many shards a new lab has; an existing lab keeps its number.",
    )
    seed: int | None = Field(
        None,
        ge=0,
        lt=2**63,
        description="Seed of everything random; drawn and printed when not given.",
    )
    quiet: bool = Field(False, description="No progress bars and hints, only results.")

    # Posting
    batch_rows_max: Count = Field(
        1024, description="Operations that one commit of a shard's writer takes at most."
    )
    gather_window_ms: Milliseconds = Field(
        2.0,
        description="How long a busy writer waits for a batch to fill; an idle one never waits.",
    )
    in_flight_max: Count = Field(
        4096, description="Payments admitted at a time, in all; more are refused as overloaded."
    )
    in_flight_per_shard_max: Count = Field(
        2048, description="Payments admitted at a time that touch one shard, at either end."
    )
    outbox_rows_max: int = Field(
        100_000, ge=1, le=100_000_000,
        description="Rows in a shard's outbox beyond which new payments are refused (outbox_full).",
    )  # fmt: skip
    idle_finalise_ms: Milliseconds = Field(
        50.0,
        description="How long a finished cross-shard payment's last leg waits for a batch to join.",
    )
    deadline_s: Seconds = Field(
        30.0, description="How long a caller waits for a payment's outcome."
    )
    breaker_probe_s: Seconds = Field(
        0.5, description="How often a shard that is known to be down is asked again."
    )
    recovery_interval_s: Seconds = Field(
        1.0, description="How often recovery looks for payments that stayed PENDING."
    )
    pending_age_s: float = Field(
        1.0, ge=0, le=DAY_S, allow_inf_nan=False,
        description="How old a PENDING payment is before recovery takes it up.",
    )  # fmt: skip
    hold_ttl_s: Seconds = Field(
        float(DAY_S), description="How long a hold lasts before it expires and is released."
    )
    freeze_blocks_credit: bool = Field(
        False, description="Whether freezing an account refuses credits too, not only debits."
    )

    # Fraud
    fraud_gate: Literal["after", "before", "off"] = Field(
        "after",
        description="When a payment is scored: after it is posted, before it, or not at all.",
    )
    scorer_down: Literal["review", "allow", "refuse"] = Field(
        "review",
        description="What becomes of a payment while the scorer cannot answer.",
    )
    review_score: float = Field(
        0.7, ge=0, le=1,
        description="Score from which a payment goes to review. It and the next two are a lab's"
        " first rules; persons change them at the fraud service.",
    )  # fmt: skip
    velocity_limit: Count = Field(
        30, description="Payments of one sender within the window; the next one is blocked."
    )
    velocity_window_s: Seconds = Field(60.0, description="Length of the velocity window.")

    # Events
    partitions_payment_events: Partitions = Field(
        8, description="Partitions of payment_events, when the topic is created."
    )
    partitions_other: Partitions = Field(
        4, description="Partitions of every other topic, when it is created."
    )
    relay_batch_rows_max: Count = Field(
        2000, description="Outbox rows that one step of the relay takes at most."
    )
    consumer_batch_records_max: Count = Field(
        2000,
        description="Records that one step of a consumer takes at most; on real servers analytics"
        " holds what it takes and handles up to four times as many at once.",
    )
    notification_channel: Literal["file", "console", "memory"] = Field(
        "file",
        description="Where notifications go: files in the lab's folder, the console, or memory;"
        " notification_email, _sms and _push choose otherwise for one kind.",
    )

    def __init__(self, **arguments: Any) -> None:
        given = {k: v for k, v in arguments.items() if v is not None}
        found = _found(type(self), given)
        try:
            # The values are passed on explicitly, so that no source is read twice.
            super().__init__(_env_file=None, **{name: value for name, (value, _) in found.items()})  # type: ignore[call-arg]
        except ValidationError as error:
            raise _invalid(type(self), error.errors()[0], found) from None
        self._sources.update({name: source for name, (_, source) in found.items()})

    @field_validator("data_dir", "stack_dir")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        if "\0" in str(path):
            raise ValueError("a path cannot hold a NUL character")
        try:
            return path.expanduser().absolute()
        except RuntimeError as error:  # '~somebody' whom nobody knows
            raise ValueError(str(error)) from None

    def source(self, name: str) -> Source:
        """Where the value of this setting came from."""
        return self._sources.get(name, "default")


class SettingRow(NamedTuple):
    """One line of ``paytm-lab config``. ``value`` is a JSON scalar; a secret's is masked."""

    name: str
    value: str | int | float | bool | None
    source: Source
    variable: str
    description: str


def describe(settings: Settings) -> list[SettingRow]:
    """Every setting in the order of the classes (the services', then the servers' last), with its
    value (secrets masked) and its source.
    """
    fields = type(settings).model_fields
    last = [*ServiceSettings.model_fields, *ServerSettings.model_fields]
    return [
        SettingRow(
            name, _shown(getattr(settings, name)), settings.source(name), _variable(name),
            field.description or "",
        )
        for name, field in sorted(
            fields.items(), key=lambda item: last.index(item[0]) if item[0] in last else -1
        )
    ]  # fmt: skip


def _shown(value: Any) -> str | int | float | bool | None:
    if isinstance(value, SecretStr):
        return MASK if value.get_secret_value() else ""
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _found(cls: type[Settings], given: Mapping[str, Any]) -> dict[str, tuple[Any, Source]]:
    """setting -> (raw value, source) for each that is given anywhere; the strongest source wins."""
    found: dict[str, tuple[Any, Source]] = {}
    readers: list[tuple[EnvSettingsSource, Source]] = [
        (DotEnvSettingsSource(cls), ".env"),
        (EnvSettingsSource(cls), "environment"),
    ]
    for reader, source in readers:
        for variable, value in reader.env_vars.items():  # names in lower case
            if not variable.startswith(PREFIX.lower()):
                continue
            name = variable.removeprefix(PREFIX.lower())
            if name not in cls.model_fields:
                raise _unknown(variable.upper(), source, map(_variable, cls.model_fields))
            found[name] = (value, source)
    for name, value in given.items():
        if name not in cls.model_fields:
            raise _unknown(name, "argument", cls.model_fields)
        found[name] = (value, "argument")
    if found.get("profile", ("", ""))[0] == "servers":
        return _of_the_folder(found) | _of_the_stack(cls, found) | found
    return found


def _of_the_folder(found: Mapping[str, tuple[Any, Source]]) -> dict[str, tuple[Any, Source]]:
    """On the servers too a lab is where its folder says: each folder has a namespace of its own,
    the default folder the plain names.
    """
    try:
        folder = Path(found["data_dir"][0]).expanduser().absolute()
    except (KeyError, TypeError, RuntimeError):
        return {}
    if folder == _default_data_dir():
        return {}
    return {"namespace": (namespace_of(folder), "default")}


def namespace_of(folder: Path) -> str:
    """Of the lab in this absolute folder, on servers, unless another one is set."""
    return f"d_{blake2b(bytes(folder), digest_size=5).hexdigest()}"


def _of_the_stack(
    cls: type[Settings], found: Mapping[str, tuple[Any, Source]]
) -> dict[str, tuple[Any, Source]]:
    """What the servers' own folder says of them: addresses and passwords."""
    try:
        folder = Path(found["stack_dir"][0]) if "stack_dir" in found else _default_stack_dir()
        file = folder.expanduser() / CONNECTION_FILE
        if not file.is_file():
            return {}
        reader = DotEnvSettingsSource(cls, env_file=file)
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise InvalidSetting(
            f"the servers' {CONNECTION_FILE} cannot be read: {error}",
            place=str(found.get("stack_dir", ("",))[0]),
            remedy="Give another PAYTM_LAB_STACK_DIR, or start the servers: paytm-lab stack up.",
        ) from None
    names = {v: v.removeprefix(PREFIX.lower()) for v in reader.env_vars}
    for variable, name in names.items():
        if name not in ServerSettings.model_fields:
            raise _unknown(variable.upper(), "stack", map(_variable, ServerSettings.model_fields))
    return {names[v]: (value, "stack") for v, value in reader.env_vars.items()}


def _unknown(name: str, source: Source, known: Iterable[str]) -> InvalidSetting:
    nearest = difflib.get_close_matches(name, list(known), 1)
    suggestion = f"Did you mean {nearest[0]}? " if nearest else ""
    return InvalidSetting(
        f"{name} is not a setting",
        place=source,
        remedy=f"{suggestion}`paytm-lab config` lists every setting.",
    )


def _invalid(
    cls: type[Settings], detail: ErrorDetails, found: Mapping[str, tuple[Any, Source]]
) -> InvalidSetting:
    name = str(detail["loc"][0])
    field = cls.model_fields[name]
    value, source = found.get(name, (detail["input"], "default"))
    shown = MASK if field.annotation in (SecretStr, SecretStr | None) else f"{value!r:.80}"
    label = name if source == "argument" else _variable(name)
    return InvalidSetting(
        f"{label}={shown} cannot be used{_why(detail)}",
        place=source,
        remedy=f"Give {_expected(name, field)}. {field.description}",
    )


_KINDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    int | None: "a whole number",
    float: "a number",
    Path: "the path of a folder",
}
_SAID_BY_KIND = (
    "greater_than", "less_than", "int_", "float_", "bool_", "literal_", "finite_", "path_",
    "string_type",
)  # fmt: skip
_UNGIVEN = {"seed": "drawn"}  # what takes the place of a default that is None
_LIMITS = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}


def _why(detail: ErrorDetails) -> str:
    """pydantic's reason, where ``_expected`` does not say as much."""
    if detail["type"].startswith(_SAID_BY_KIND):
        return ""
    return f": {detail['msg'].removeprefix('Value error, ').rstrip('.')}"


def _expected(name: str, field: FieldInfo) -> str:
    """What a field takes, in words: 'a whole number from 1 to 64 (default 4)'."""
    annotation: Any = field.annotation
    kind = _KINDS.get(annotation, "a text")
    if get_origin(annotation) is Literal:
        kind = "one of " + ", ".join(get_args(annotation))
    limits = [
        f"{word} {getattr(limit, attribute)}"
        for limit in field.metadata
        for attribute, word in _LIMITS.items()
        if hasattr(limit, attribute)
    ]
    default = f"(default {field.default})"
    if field.default in (None, "", PydanticUndefined):
        default = f"(default: {_UNGIVEN[name]})" if name in _UNGIVEN else ""
    return " ".join([kind, *limits, default]).strip()
