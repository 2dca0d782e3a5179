"""What the notification service reads and answers, as JSON. Times are RFC 3339 UTC."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["email", "sms", "push"]
State = Literal["sent", "waiting", "sending", "failed", "unknown", "claimed"]
Kinds = Annotated[list[Kind], Field(max_length=3)]
TIME_PATTERN = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
Time = Annotated[str, Field(pattern=TIME_PATTERN, examples=["22:00"])]


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class QuietHoursBody(Strict):
    """From one time of the day to another, over midnight where the second is earlier."""

    starts: Time
    ends: Time
    zone: str = Field("Asia/Kolkata", max_length=64, description="IANA name of a time zone.")


class PreferencesBody(Strict):
    """``null``: as it is by default; ``[]``: tell nothing."""

    paid: Kinds | None = Field(None, description="Own payments: made, failed, cancelled.")
    received: Kinds | None = Field(None, description="Money that came.")
    alert: Kinds | None = Field(None, description="Fraud alerts; they pass quiet hours.")
    system: Kinds | None = Field(None, description="System alerts, for those who get them.")
    quiet_hours: QuietHoursBody | None = Field(
        None, description="All else waits for their end; null: none."
    )


class Preferences(BaseModel):
    user_id: str
    paid: list[Kind]
    received: list[Kind]
    alert: list[Kind]
    system: list[Kind]
    quiet_hours: QuietHoursBody | None


class ContactsBody(Strict):
    """Empty: nothing is known; email goes to an address of the lab then."""

    email: str = Field("", max_length=254, examples=["asha@example.com"])
    phone: str = Field("", max_length=16, description="E.164", examples=["+919812345678"])
    push_token: str = Field("", max_length=512)


class Contacts(ContactsBody):
    user_id: str


class Notification(BaseModel):
    """``at``: when what it tells of happened; ``ended_at``: when it was sent or given up;
    ``due_at``: when a waiting one is tried.
    """

    notification_id: str
    channel: Kind
    template: str
    subject: str
    body: str
    about: str = Field(description="The payment's id, or the system alert's.")
    state: State
    at: str
    ended_at: str | None
    due_at: str | None


class Notifications(BaseModel):
    user_id: str
    notifications: list[Notification]
    next_cursor: str | None = Field(description="Of the next page; null at the end.")


class DeadLetter(BaseModel):
    notification_id: str
    user_id: str
    channel: Kind
    template: str
    about: str
    error: str = Field(description="What the provider said last.")
    attempts: int
    failed_at: str


class DeadLetters(BaseModel):
    day: str
    dead_letters: list[DeadLetter]
    next_cursor: str | None


class Retried(BaseModel):
    notification_id: str
    state: Literal["waiting"] = "waiting"


class Taken(BaseModel):
    """``repeated``: it had come before, and was not taken again."""

    notification_id: str
    repeated: bool


class ProviderMessage(BaseModel):
    notification_id: str
    channel: str
    user_id: str
    to: str
    text: str
    at: str


class ProviderMessages(BaseModel):
    messages: list[ProviderMessage]
