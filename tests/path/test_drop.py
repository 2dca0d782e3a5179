"""`paytm-lab stack drop`: one lab leaves the servers, others stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from paytm_lab import Lab
from paytm_lab.config import PREFIX
from paytm_lab.core.errors import BadInput, NotFound
from paytm_lab.verbs.common import Common
from paytm_lab.verbs.drop import drop
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


def test_a_folder_that_never_was_one(profile: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no lab of"):
        drop(Common(profile, tmp_path / "none"), sure=True)
