from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, SecretStr, ValidationError

from paytm_lab.config import MASK, PREFIX, Settings, describe
from paytm_lab.core.errors import InvalidSetting

PACKAGE = Path(__file__).parents[2] / "paytm_lab"


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to look for .env in, and none of the variables."""
    monkeypatch.setitem(Settings.model_config, "env_file", ".env")
    monkeypatch.delenv(f"{PREFIX}DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.chdir(tmp_path)


def test_defaults_are_valid_and_described() -> None:
    settings = Settings()
    rows = describe(settings)
    assert sorted(row.name for row in rows) == sorted(Settings.model_fields)
    assert (rows[0].name, rows[-1].name) == ("profile", "cassandra_password")
    assert {row.source for row in rows} == {"default"}
    assert all(row.description.endswith(".") for row in rows)
    assert {row.variable for row in rows} == {f"{PREFIX}{n.upper()}" for n in Settings.model_fields}
    assert (settings.shards, settings.seed, settings.fraud_gate) == (4, None, "after")


def test_the_strongest_source_wins_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text(
        f"{PREFIX}SHARDS=8\n{PREFIX}VELOCITY_LIMIT=5\n{PREFIX}REVIEW_SCORE=0.5\nOTHER=1\n"
    )
    monkeypatch.setenv(f"{PREFIX}SHARDS", "16")
    monkeypatch.setenv(f"{PREFIX}VELOCITY_LIMIT", "6")
    settings = Settings(shards=2, velocity_limit=None)
    assert (settings.shards, settings.velocity_limit, settings.review_score) == (2, 6, 0.5)
    names = ("shards", "velocity_limit", "review_score", "quiet")
    assert [settings.source(n) for n in names] == ["argument", "environment", ".env", "default"]


def test_variables_are_read_in_any_case_and_empty_means_not_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("paytm_lab_Shards", "3")
    monkeypatch.setenv(f"{PREFIX}SEED", "")
    settings = Settings()
    assert settings.shards == 3
    assert (settings.seed, settings.source("seed")) == (None, "default")


def test_the_data_folder_is_absolute_and_knows_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Settings(data_dir="~/lab").data_dir == tmp_path / "lab"
    assert Settings(data_dir="lab").data_dir == tmp_path / "lab"
    with pytest.raises(InvalidSetting, match="NUL"):
        Settings(data_dir="a\0b")
    assert Settings().data_dir.name == "paytm_lab"


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("shards", "0", "a whole number from 1 to 64 (default 4)"),
        ("shards", "four", "a whole number from 1 to 64 (default 4)"),
        ("profile", "server", "one of embedded, servers (default embedded)"),
        ("fraud_gate", "During", "one of after, before, off (default after)"),
        ("velocity_window_s", "nan", "a number above 0"),
        ("gather_window_ms", "-1", "a number from 0 to 60000 (default 2.0)"),
        ("quiet", "maybe", "true or false (default False)"),
        ("seed", "1.5", "a whole number from 0 below 9223372036854775808 (default: drawn)"),
        ("review_score", "1.1", "a number from 0 to 1 (default 0.7)"),
        ("data_dir", "~no-such-user/lab", "the path of a folder"),
    ],
)
def test_an_invalid_value_names_variable_value_place_and_remedy(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, remedy: str
) -> None:
    monkeypatch.setenv(PREFIX + name.upper(), value)
    with pytest.raises(InvalidSetting) as caught:
        Settings()
    assert f"{PREFIX}{name.upper()}={value!r} cannot be used" in str(caught.value)
    assert caught.value.place == "environment"
    assert remedy in caught.value.remedy
    assert "Input should be" not in str(caught.value), "said once, in one voice"
    assert "Value error" not in str(caught.value)
    assert caught.value.exit_code == 2
    with pytest.raises(InvalidSetting, match=f"^{name}=") as caught:
        Settings(**{name: value})
    assert caught.value.place == "argument"


@pytest.mark.parametrize("place", ["environment", ".env"])
def test_an_unknown_variable_is_an_error_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    if place == ".env":
        Path(".env").write_text(f"{PREFIX}SHARD=8\n")
    else:
        monkeypatch.setenv(f"{PREFIX}SHARD", "8")
    with pytest.raises(InvalidSetting, match="PAYTM_LAB_SHARD is not a setting") as caught:
        Settings()
    assert caught.value.place == place
    assert "Did you mean PAYTM_LAB_SHARDS?" in caught.value.remedy


def test_an_unknown_argument_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(InvalidSetting, match=r"shrads is not a setting .* Did you mean shards\?"):
        Settings(shrads=8)
    with pytest.raises(InvalidSetting) as caught:
        Settings(qqqqqqqq=8)
    assert "Did you mean" not in str(caught.value)


def test_settings_are_frozen() -> None:
    settings = Settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.shards = 8


class _WithSecret(Settings):
    signing_key: SecretStr = Field(SecretStr(""), min_length=8, description="A secret.")


def test_secrets_never_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}SIGNING_KEY", "hunter2-hunter2")
    settings = _WithSecret()
    (row,) = [row for row in describe(settings) if row.name == "signing_key"]
    assert (row.name, row.value, row.source) == ("signing_key", MASK, "environment")
    assert settings.signing_key.get_secret_value() == "hunter2-hunter2"
    assert "hunter2" not in repr(settings)
    monkeypatch.setenv(f"{PREFIX}SIGNING_KEY", "hunter2")
    with pytest.raises(InvalidSetting) as caught:
        _WithSecret()
    assert "hunter2" not in f"{caught.value!r} {caught.value}"


@pytest.fixture
def stack_dir(tmp_path: Path) -> Path:
    """The folder of servers that were started: their addresses and a password."""
    (tmp_path / "connection.env").write_text(
        f"{PREFIX}MYSQL_PASSWORD=hunter2\n{PREFIX}REDIS_SERVER=127.0.0.1:16379\n"
    )
    return tmp_path


def test_the_stack_says_where_its_servers_are(
    stack_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(profile="servers", stack_dir=stack_dir)
    assert (settings.redis_server, settings.source("redis_server")) == ("127.0.0.1:16379", "stack")
    assert settings.mysql_password is not None
    assert settings.mysql_password.get_secret_value() == "hunter2"
    monkeypatch.setenv(f"{PREFIX}REDIS_SERVER", "127.0.0.1:26379")
    assert Settings(profile="servers", stack_dir=stack_dir).redis_server == "127.0.0.1:26379"
    assert Settings(stack_dir=stack_dir).mysql_password is None


def test_a_strange_line_of_the_stack_is_named(stack_dir: Path) -> None:
    (stack_dir / "connection.env").write_text(f"{PREFIX}SHARDS=8\n")
    with pytest.raises(InvalidSetting, match=r"PAYTM_LAB_SHARDS is not a setting \(at stack\)"):
        Settings(profile="servers", stack_dir=stack_dir)


def test_each_folder_is_a_lab_of_its_own_on_the_servers(tmp_path: Path) -> None:
    a, b = (Settings(profile="servers", data_dir=tmp_path / n) for n in "ab")
    assert a.namespace.startswith("d_")
    assert a.namespace != b.namespace
    assert a.namespace == Settings(profile="servers", data_dir=tmp_path / "a").namespace
    assert (a.database_name, a.keyspace) == (f"paytm_{a.namespace}", f"paytm_style_{a.namespace}")
    assert Settings(profile="servers", data_dir=tmp_path / "a", namespace="x").namespace == "x"


def test_the_default_folder_has_the_plain_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(f"{PREFIX}DATA_DIR", raising=False)
    settings = Settings(profile="servers")
    assert settings.namespace == ""
    assert (settings.database_name, settings.keyspace, settings.chroot) == (
        "paytm_lab", "paytm_style", "/paytm_lab",
    )  # fmt: skip


@pytest.mark.parametrize("text", ["", "a", "a:b", ":1", "a:0", "a:65536", "a:1,", "a:\u0661"])
def test_a_server_is_host_and_port(text: str) -> None:
    with pytest.raises(InvalidSetting, match="mysql_servers="):
        Settings(mysql_servers=text)
    with pytest.raises(InvalidSetting, match="one server is expected"):
        Settings(redis_server="a:1,b:2")


@given(name=st.sampled_from(sorted(Settings.model_fields)), value=st.text(max_size=20))
def test_any_text_is_a_value_or_a_named_error(name: str, value: str) -> None:
    try:
        refusal, settings = None, Settings(**{name: value})
    except InvalidSetting as error:
        refusal, settings = error, None
    if settings is not None:
        assert settings.source(name) == "argument"
    else:
        assert refusal.message.startswith(f"{name}=")
        assert refusal.remedy.startswith("Give ")


def test_every_setting_is_used() -> None:
    """A setting that changes nothing would be a lie."""
    code = "".join(p.read_text() for p in PACKAGE.rglob("*.py") if p.name != "config.py")
    assert [n for n in Settings.model_fields if not re.search(rf"\.{n}\b", code)] == []


def test_only_config_reads_the_environment() -> None:
    readers = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "environb"}:
                readers.add(path.relative_to(PACKAGE).as_posix())
            if isinstance(node, ast.Name) and node.id in {"EnvSettingsSource", "dotenv_values"}:
                readers.add(path.relative_to(PACKAGE).as_posix())
    # Children, kernels too, get the environment of the process that starts them.
    assert readers == {
        "children.py",
        "config.py",
        "reporting/notebooks.py",
        "stack/processes.py",
        "stack/programs.py",
    }
