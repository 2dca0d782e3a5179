"""`paytm-lab stack drop`: one lab leaves the servers, others stay."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from paytm_lab import Lab, wiring
from paytm_lab.cli import app
from paytm_lab.config import PREFIX, Settings
from paytm_lab.core.errors import BadInput, NotFound, StorageFull
from paytm_lab.verbs.common import Common
from paytm_lab.verbs.drop import drop, drop_gone, list_labs
from paytm_lab.wiring import stored_shards
from paytm_lab.wiring.labs_on_servers import HERE, NOTE, labs
from paytm_lab.wiring.services import Services, announced
from tests import servers


@pytest.fixture(autouse=True)
def on_the_stack(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if servers.STACK_DIR:
        monkeypatch.setenv(f"{PREFIX}STACK_DIR", servers.STACK_DIR)


def made(profile: str, folder: Path) -> Common:
    with Lab(profile, data=folder, shards=2, seed=7) as lab:
        lab.create_account("1", 100)
        lab.create_account("2", 0)
        assert lab.transfer("1", "2", 5).status == "COMPLETED"
    return Common(profile, folder)


def test_it_goes_only_when_one_is_sure_and_others_stay(
    profile: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    going, staying = made(profile, tmp_path / "going"), made(profile, tmp_path / "staying")
    with pytest.raises(BadInput, match=r"no way back.*--yes"):
        drop(going, sure=False)
    with Lab(profile, data=tmp_path / "going", read_only=True) as lab:
        assert lab.account("2").balance_paise == 500
    if profile == "servers":
        assert drop(going, sure=True) == 0
        assert going.settings().namespace in capsys.readouterr().out
        with pytest.raises(NotFound, match="--data"):
            drop(going, sure=True)
    with Lab(profile, data=tmp_path / "staying", read_only=True) as lab:
        assert lab.account("2").balance_paise == 500
    assert staying.settings().namespace != going.settings().namespace or profile == "embedded"
    assert profile == "embedded" or drop(staying, sure=True) == 0


def test_not_while_its_services_run(profile: str, tmp_path: Path) -> None:
    common = made(profile, tmp_path / "lab")
    with Lab(profile, data=tmp_path / "lab", password_hash_memory_kib=64) as lab:
        services = Services(lab.system)
        services.register(services.make("auth"))
        if profile == "servers":  # an embedded lab's services are known in its process alone
            assert list(announced(common.settings())) == ["auth"]
            with pytest.raises(BadInput, match=r"auth at .* Stop them"):
                drop(common, sure=True)
        services.close()
    assert announced(common.settings()) == {}
    assert profile == "embedded" or drop(common, sure=True) == 0


def test_a_folder_that_never_was_one(profile: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no lab of"):
        drop(Common(profile, tmp_path / "none"), sure=True)


def test_all_labs_are_listed_and_one_is_dropped_by_its_name(
    profile: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = made(profile, tmp_path / "lab")
    if profile == "embedded":  # its folder is all there is of it
        assert not (tmp_path / "lab" / NOTE).exists()
        return
    name = common.settings().namespace
    capsys.readouterr()
    assert list_labs(replace(common, as_json=True)) == 0
    listed = json.loads(capsys.readouterr().out)
    (found,) = [each for each in listed["labs"] if each["namespace"] == name]
    assert found["folder"] == str(tmp_path / "lab") and found["folder_is"] == "here"
    assert found["size_bytes"] > 0 and found["made_at"].startswith("20")
    assert listed["max"] >= 1
    with pytest.raises(NotFound, match="no lab 'nobody'"):
        drop(common, True, "nobody")
    with pytest.raises(BadInput, match="no way back"):
        drop(common, False, name)
    assert drop(common, True, name) == 0
    assert name not in [each.namespace for each in labs(common.settings())]


def test_labs_whose_folder_is_gone_are_dropped_together(profile: str, tmp_path: Path) -> None:
    gone, staying = made(profile, tmp_path / "gone"), made(profile, tmp_path / "staying")
    shutil.rmtree(tmp_path / "gone")
    if profile == "embedded":
        assert stored_shards(gone.settings()) is None
        return
    with pytest.raises(BadInput, match="whose folders are gone"):
        drop_gone(gone, False)
    drop_gone(gone, True)
    names = {each.namespace: each for each in labs(staying.settings())}
    assert gone.settings().namespace not in names
    with Lab(profile, data=tmp_path / "staying") as lab:  # while it is open it has its folder
        shutil.rmtree(tmp_path / "staying")
        lab.close()
    with Lab(profile, data=tmp_path / "staying", read_only=True):
        drop_gone(gone, True)
        assert staying.settings().namespace in [e.namespace for e in labs(staying.settings())]
    assert names[staying.settings().namespace].folder_is == HERE
    assert drop(staying, True) == 0


def test_no_gone_lab_is_dropped_while_one_of_them_serves(profile: str, tmp_path: Path) -> None:
    made_labs = [made(profile, tmp_path / name) for name in "abc"]
    with Lab(profile, data=tmp_path / "b", password_hash_memory_kib=64) as lab:
        services = Services(lab.system)
        services.register(services.make("auth"))
        if profile == "servers":
            for name in "abc":
                shutil.rmtree(tmp_path / name)
            with pytest.raises(BadInput, match="Stop them first"):
                drop_gone(made_labs[0], True)
        services.close()
    for common in made_labs:
        assert stored_shards(common.settings()) == 2
        assert profile == "embedded" or drop(common, True) == 0


def test_a_lab_that_is_opened_again_meanwhile_stays(
    profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = sorted(
        (made(profile, tmp_path / name) for name in "ab"),
        key=lambda common: common.settings().namespace,
    )
    if profile == "embedded":  # a folder is all there is of one
        assert stored_shards(first.settings()) == stored_shards(second.settings()) == 2
        return
    for name in "ab":
        shutil.rmtree(tmp_path / name)
    remove = wiring.remove

    def removed_while_the_other_is_opened(settings: Settings) -> None:
        remove(settings)
        Lab(profile, data=second.data).open().close()

    with monkeypatch.context() as patched:
        patched.setattr(wiring, "remove", removed_while_the_other_is_opened)
        assert drop_gone(first, True) == 0
    assert stored_shards(first.settings()) is None
    with Lab(profile, data=second.data, read_only=True) as lab:
        assert lab.account("2").balance_paise == 500
    assert drop(second, True) == 0


def test_a_lab_that_was_given_its_name_is_nobodys_to_drop(profile: str, tmp_path: Path) -> None:
    name = servers.new_namespace()
    with Lab(profile, data=tmp_path / "named", namespace=name) as lab:
        lab.create_account("1", 100)
    shutil.rmtree(tmp_path / "named")
    if profile == "embedded":
        assert stored_shards(Common(profile, tmp_path / "named").settings()) is None
        return
    common = Common(profile, tmp_path / "other")
    (found,) = [each for each in labs(common.settings()) if each.namespace == name]
    assert found.folder_is == ""
    drop_gone(common, True)
    assert name in [each.namespace for each in labs(common.settings())]
    assert drop(common, True, name) == 0


def test_one_lab_too_many_is_refused_before_anything_is_made(
    profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made(profile, tmp_path / "first")
    monkeypatch.setenv(f"{PREFIX}CASSANDRA_LABS_MAX", "1")
    with Lab(
        profile, data=tmp_path / "first", read_only=True
    ) as lab:  # one that is there may go on
        assert lab.account("2").balance_paise == 500
    if profile == "embedded":
        assert stored_shards(made(profile, tmp_path / "second").settings()) == 2
        return
    second = Common(profile, tmp_path / "second")
    with pytest.raises(StorageFull, match=r"CASSANDRA_LABS_MAX is 1.*stack labs"):
        made(profile, tmp_path / "second")
    assert second.settings().namespace not in [e.namespace for e in labs(first.settings())]
    assert drop(first, True) == 0


def test_an_empty_name_is_not_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        app(["stack", "drop", "--yes", "--data", ""], prog_name="paytm-lab")
    assert ended.value.code == 2
    assert "it is empty" in " ".join(capfd.readouterr().err.replace("│", " ").split())
