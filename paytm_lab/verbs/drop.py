"""stack drop: one lab's data leaves the servers, for good."""

from __future__ import annotations

from paytm_lab import wiring
from paytm_lab.config import Settings
from paytm_lab.core.errors import BadInput, NotFound
from paytm_lab.terminal import print_json, say
from paytm_lab.verbs.common import Common
from paytm_lab.wiring.services import announced


def drop(common: Common, sure: bool) -> int:
    """Remove the databases, topics, keyspace, keys and nodes of one lab. BadInput without
    ``sure``, with the words to add; NotFound where the servers hold no such lab.
    """
    settings = common.settings()
    shards = wiring.stored_shards(settings)
    if shards is None:
        raise NotFound(
            f"the servers hold no lab of {settings.data_dir}",
            place=f"namespace {settings.namespace}",
            remedy="Name its folder with --data.",
        )
    _require_unused(settings)
    if not sure:
        raise BadInput(
            f"this removes the lab of {settings.data_dir} from the servers: {shards} databases, its"
            " topics, its keyspace, its keys and nodes. There is no way back",
            place=f"namespace {settings.namespace}",
            remedy="Repeat it with --yes.",
        )
    wiring.remove(settings)
    if common.as_json:
        print_json({"namespace": settings.namespace, "removed": True})
    else:
        say(f"removed from the servers: the lab {settings.namespace}; its folder stays")
    return 0


def _require_unused(settings: Settings) -> None:
    running = announced(settings)
    if running:
        raise BadInput(
            "services of this lab run: "
            + ", ".join(f"{name} at {places}" for name, places in running.items()),
            place=f"namespace {settings.namespace}",
            remedy="Stop them first.",
        )
