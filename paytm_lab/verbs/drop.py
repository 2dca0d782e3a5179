"""stack labs, stack drop: which labs lie on the servers; what is dropped leaves them for good."""

from __future__ import annotations

from paytm_lab import preflight, wiring
from paytm_lab.config import Settings
from paytm_lab.core.errors import BadInput, NotFound
from paytm_lab.terminal import note, print_json, say, table
from paytm_lab.verbs.common import Common
from paytm_lab.wiring.labs_on_servers import GONE, LabOnServers, is_there, labs, of
from paytm_lab.wiring.services import announced

PLAIN = "(plain names)"


def list_labs(common: Common) -> int:
    """Every lab on the servers: its folder, whether that is still there, its size on the shards."""
    settings = common.settings()
    preflight.require_servers(settings)
    found = labs(settings)
    if common.as_json:
        print_json({"labs": [each._asdict() for each in found], "max": settings.cassandra_labs_max})
        return 0
    table([_row(each) for each in found])
    say(f"{len(found)} labs on these servers, of {settings.cassandra_labs_max} at most")
    if any(each.folder_is == GONE for each in found):
        note("those whose folder is gone: paytm-lab stack drop --gone", common.quiet)
    return 0


def _row(lab: LabOnServers) -> dict[str, str]:
    return {
        "lab": lab.namespace or PLAIN,
        "made": lab.made_at,
        "shards_mib": f"{lab.size_bytes / 2**20:,.1f}",
        "folder_is": lab.folder_is,
        "folder": lab.folder,
    }


def drop(common: Common, sure: bool, namespace: str | None = None) -> int:
    """Remove the databases, topics, keyspace, keys and nodes of one lab: of the settings' folder,
    or of that name. BadInput without ``sure``, with the words to add; NotFound where the servers
    hold no such lab.
    """
    settings = common.settings()
    preflight.require_servers(settings)
    if namespace is None:
        what = f"the lab of {settings.data_dir}"
        shards = wiring.stored_shards(settings)
        if shards is None:
            raise NotFound(
                f"the servers hold no lab of {settings.data_dir}",
                place=f"namespace {settings.namespace}",
                remedy="Name its folder with --data; paytm-lab stack labs lists all.",
            )
    else:
        what = f"the lab {namespace}"
        if namespace not in [each.namespace for each in labs(settings)]:
            raise NotFound(
                f"the servers hold no lab {namespace!r:.80}",
                remedy="paytm-lab stack labs lists all.",
            )
        settings = of(settings, namespace)
    _require_unused(settings)
    _require_sure(sure, f"{what} from the servers", f"namespace {settings.namespace}")
    wiring.remove(settings)
    if common.as_json:
        print_json({"namespace": settings.namespace, "removed": True})
    else:
        say(f"removed from the servers: the lab {settings.namespace}; its folder stays")
    return 0


def drop_gone(common: Common, sure: bool) -> int:
    """Remove all labs whose folder was on this machine and is no more; one after the other."""
    settings = common.settings()
    preflight.require_servers(settings)
    gone = [each for each in labs(settings) if each.folder_is == GONE and each.namespace]
    if gone:
        names = ", ".join(f"{each.namespace} ({each.folder})" for each in gone)
        _require_sure(sure, f"{len(gone)} labs from the servers, whose folders are gone: {names}")
    for each in gone:  # before any of them goes
        _require_unused(of(settings, each.namespace))
    removed = []
    for each in gone:
        if is_there(each):  # whoever opened it meanwhile made its folder
            note(f"left: {each.namespace}, {each.folder} is there again", common.quiet)
            continue
        wiring.remove(of(settings, each.namespace))
        removed.append(each.namespace)
        note(f"removed: {each.namespace} ({each.folder})", common.as_json or common.quiet)
    if common.as_json:
        print_json({"removed": removed})
    else:
        say(f"{len(removed)} labs removed from the servers")
    return 0


def _require_sure(sure: bool, what: str, place: str = "") -> None:
    if not sure:
        raise BadInput(
            f"this removes {what}: databases, topics, keyspace, keys and nodes. There is no way"
            " back",
            place=place,
            remedy="Repeat it with --yes.",
        )


def _require_unused(settings: Settings) -> None:
    running = announced(settings)
    if running:
        raise BadInput(
            "services of this lab run: "
            + ", ".join(f"{name} at {places}" for name, places in running.items()),
            place=f"namespace {settings.namespace}",
            remedy="Stop them first.",
        )
