"""Where the services listen and how strict they are: the settings that only ``serve`` reads."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
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
    shard_manager_port: int = Field(8006, ge=1, le=65_535, description="Port of the shard manager.")
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
