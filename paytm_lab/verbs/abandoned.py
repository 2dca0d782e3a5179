"""Labs on real servers that nobody would look for any more are removed there."""

from __future__ import annotations

from pathlib import Path

from paytm_lab.config import Settings
from paytm_lab.core.errors import PaytmLabError
from paytm_lab.terminal import note

TEMPORARY = "paytm_lab-"  # how the folders of labs begin that were given none


def named_by_folder(settings: Settings) -> bool:
    """Whether a folder's lab has names of its own on servers; those that somebody gave are
    theirs.
    """
    return settings.profile == "servers" and settings.source("namespace") == "default"


def remove_abandoned(profile: str, folder: Path) -> None:
    """A failing notebook's own lab, which it could not close. In files it is gone by itself."""
    settings = Settings(profile=profile, data_dir=folder)
    if named_by_folder(settings) and folder.name.startswith(TEMPORARY):
        from paytm_lab import wiring  # only where there are servers

        try:
            wiring.remove(settings)
        except PaytmLabError as error:
            note(f"the lab of {folder} stays on the servers: {error}", settings.quiet)
