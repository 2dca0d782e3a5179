"""Where the services listen and how strict they are: the settings that only ``serve`` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

DAY_S = 86_400
SERVICES = ("auth", "fraud", "notification", "analytics", "shard_manager")


class ServiceSettings(BaseSettings):
    """The part of ``config.Settings`` that the five services read."""

    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="The address that services listen on; others than this machine need another.",
    )
    auth_port: int = Field(8001, ge=1, le=65_535, description="Port of the auth service.")
    fraud_port: int = Field(8003, ge=1, le=65_535, description="Port of the fraud service.")
    analytics_port: int = Field(8005, ge=1, le=65_535, description="Port of the analytics service.")
    shard_manager_port: int = Field(8006, ge=1, le=65_535, description="Port of the shard manager.")
    notification_port: int = Field(
        8004, ge=1, le=65_535, description="Port of the notification service."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least that services write to their log."
    )
    body_bytes_max: int = Field(
        262_144, ge=1_024, le=16_777_216, description="The longest body that a request may have."
    )
    payments_per_window_max: int = Field(
        6_000, ge=1, le=10_000_000,
        description="Payments that one caller may ask for within the window, and a hundred times so"
        " many with the permission transfer:any; more are refused for a while.",
    )  # fmt: skip
    rate_window_s: int = Field(
        60, ge=1, le=3_600, description="Length of the window of payments asked for, in seconds."
    )
    access_token_s: int = Field(
        300, ge=1, le=3_600, description="How long an access token counts, in seconds."
    )
    session_s: int = Field(
        7 * DAY_S, ge=60, le=90 * DAY_S,
        description="How long a session lasts from the login on, in seconds.",
    )  # fmt: skip
    login_attempts_max: int = Field(
        10, ge=1, le=1_000,
        description="Failed logins of one user, and ten times so many of one address, within the"
        " window; more are refused for a while.",
    )  # fmt: skip
    login_window_s: int = Field(
        300, ge=1, le=DAY_S, description="Length of the window of failed logins, in seconds."
    )
    password_hash_memory_kib: int = Field(
        19_456, ge=64, le=1_048_576, description="Memory that hashing a password by argon2id takes."
    )
    password_hash_passes: int = Field(
        2, ge=1, le=16, description="Passes that hashing a password by argon2id takes."
    )

    # What carries notifications out
    notification_email: Literal["", "file", "console", "memory", "smtp"] = Field(
        "", description="Where emails go; empty: as notification_channel says."
    )
    notification_sms: Literal["", "file", "console", "memory", "http"] = Field(
        "", description="Where SMS go; empty: as notification_channel says."
    )
    notification_push: Literal["", "file", "console", "memory", "http"] = Field(
        "", description="Where push notifications go; empty: as notification_channel says."
    )
    notification_smtp_server: str = Field(
        "localhost:587", max_length=300, pattern=r"^[^\s,]+:0*[1-9][0-9]{0,4}$",
        description="The mail server, as host:port.",
    )  # fmt: skip
    notification_smtp_tls: Literal["starttls", "implicit", "none"] = Field(
        "starttls", description="How the way to the mail server is encrypted."
    )
    notification_smtp_ca: Path | None = Field(
        None, description="Authorities that sign the mail server's certificate; the system's else."
    )
    notification_smtp_user: str = Field(
        "", max_length=255, description="Who logs in at the mail server; empty: nobody does."
    )
    notification_smtp_password: SecretStr | None = Field(
        None, description="The password of notification_smtp_user."
    )
    notification_smtp_from: str = Field(
        "paytm-lab@lab.invalid",
        max_length=254,
        pattern=r"^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+$",
        description="The address that emails come from.",
    )
    notification_smtp_timeout_s: float = Field(
        10.0, gt=0, le=120, description="How long one answer of the mail server may take, seconds."
    )
    notification_http_url: str = Field(
        "", max_length=2_000,
        description="The provider of SMS and push: /sms or /push is added. Empty: the lab's own, in"
        " the notification service.",
    )  # fmt: skip
    notification_http_secret: SecretStr | None = Field(
        None, description="What requests to the provider are signed with; the lab's own else."
    )
    notification_http_timeout_s: float = Field(
        5.0, gt=0, le=120, description="How long one answer of the provider may take, in seconds."
    )
    notification_attempts_max: int = Field(
        8, ge=1, le=100,
        description="Tries that a provider answers with 'not now' before a notification is given"
        " up.",
    )  # fmt: skip
    notification_backoff_s: float = Field(
        2.0, gt=0, le=600,
        description="Wait after the first such try, in seconds; each next one is twice as long.",
    )  # fmt: skip
    notification_alert_users: str = Field(
        "", max_length=2_000,
        description="Users, by comma, who get system alerts, besides the operators' inbox.",
    )  # fmt: skip
