"""Where a stack keeps what: one folder."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

from paytm_lab.config_servers import CONNECTION_FILE
from paytm_lab.core.errors import BadInput, MalformedFile

MARKER = "paytm-lab-stack.json"
FORMAT = 1
PORT_MAX = 65_535


class Layout:
    """The paths of a stack in ``root``. Only ``make`` writes."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.data = self.root / "data"
        self.conf = self.root / "conf"
        self.logs = self.root / "logs"
        self.run = self.root / "run"
        self.connection = self.root / CONNECTION_FILE
        self.admin = self.root / "admin.env"
        self.marker = self.root / MARKER
        self.packages = self.root / "pkg"

    def require_ours(self) -> None:
        """BadInput when the folder holds something, but no stack."""
        if self.marker.is_file() or not self.root.exists():
            return
        if not self.root.is_dir():
            raise BadInput(f"{self.root} is not a folder", remedy="Name another with --dir.")
        held = sorted(path.name for path in self.root.iterdir() if path.name != "pkg")
        if held:
            raise BadInput(
                f"{self.root} does not look like a stack's folder: it has no {MARKER}, but holds"
                f" {', '.join(held[:4])}{' ...' if len(held) > 4 else ''}",
                remedy="Name an empty or new folder with --dir.",
            )

    def make(self, port_offset: int) -> None:
        self.require_ours()
        for folder in (self.root, self.data, self.conf, self.logs, self.run):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write(self.marker, json.dumps({"format": FORMAT, "port_offset": port_offset}) + "\n")

    def port_offset(self) -> int | None:
        """What the stack's ports are shifted by; None where there is no stack yet."""
        try:
            return int(json.loads(self.marker.read_text())["port_offset"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise MalformedFile(
                f"{self.marker} cannot be read: {error}",
                remedy='It holds {"format": 1, "port_offset": 0}.',
            ) from None


def write(path: Path, text: str) -> None:
    """The whole text or nothing, for the owner's eyes only: configurations hold passwords. Several
    threads may write one file: while mysql-0 starts, the others ask for its configuration.
    """
    new = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    new.rename(path)
