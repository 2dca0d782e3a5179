"""Where the tests' own real servers are, and labs and names of their own on them."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

from paytm_lab.config import Settings

# Read before the tests take the developer's settings away; `make test-stack` sets it.
STACK_DIR = os.environ.get("PAYTM_LAB_STACK_DIR", "")


def new_namespace(word: str = "t") -> str:
    """A name that no other test uses."""
    return f"{word}_{secrets.token_hex(6)}"


def settings(namespace: str | None = None, **more: Any) -> Settings:
    """Settings of a lab on the tests' servers; a namespace of its own by default."""
    given = {"stack_dir": Path(STACK_DIR)} if STACK_DIR else {}
    return Settings(
        profile="servers", namespace=new_namespace() if namespace is None else namespace,
        **given, **more,
    )  # fmt: skip
