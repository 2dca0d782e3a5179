"""What every test stands on: none of the developer's own settings, data or randomness."""

from __future__ import annotations

import gc
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from paytm_lab.config import PREFIX, Settings
from tests import scratch

# A failing example is printed in a form to paste; in CI the examples are always the same.
hypothesis.settings.register_profile(
    "lab", deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True
)
hypothesis.settings.load_profile("lab")


PROFILES = ("embedded", "servers")
IN_MEMORY = pytest.StashKey[Path]()
KEPT = pytest.StashKey[Path | None]()


def pytest_configure(config: pytest.Config) -> None:
    """Temporary files in memory, unless somebody says where; xdist's workers follow the first."""
    first = not hasattr(config, "workerinput")
    if first and config.option.basetemp is None and "TMPDIR" not in os.environ:
        folder = scratch.make()
        if folder is not None:
            scratch.use(folder)
            config.stash[IN_MEMORY] = folder


def pytest_collection_finish(session: pytest.Session) -> None:
    """What was imported and collected stays to the end: the cycle collector need not go through it
    again and again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 25, 50)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if exitstatus:  # what failed is there to be looked at, until the next run
        session.config.stash.setdefault(KEPT, session.config.stash.get(IN_MEMORY, None))


def pytest_unconfigure(config: pytest.Config) -> None:
    folder = config.stash.get(IN_MEMORY, None)
    if folder is not None and config.stash.get(KEPT, None) is None:
        shutil.rmtree(folder, ignore_errors=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--profile",
        default="embedded",
        choices=(*PROFILES, "both"),
        help="which backends the tests that take a profile run on (servers: a running stack)",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with the ``profile`` fixture runs once for each profile that was asked for."""
    if "profile" in metafunc.fixturenames:
        asked = metafunc.config.getoption("--profile")
        profiles = PROFILES if asked == "both" else (asked,)
        metafunc.parametrize("profile", profiles, scope="session")


@pytest.fixture(scope="session", autouse=True)
def _no_settings_of_the_developer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.upper().startswith(PREFIX)]:
            patch.delenv(name)
        patch.setitem(Settings.model_config, "env_file", None)
        # Processes that a test starts read the environment anew.
        patch.setenv(f"{PREFIX}DATA_DIR", str(tmp_path_factory.mktemp("data")))
        patch.setenv("PLOTLY_RENDERER", "plotly_mimetype")
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A histogram of the processes that were killed and how long recoveries took, over all tests
    that recorded theirs.
    """
    kills: Counter[str] = Counter()
    recoveries: dict[str, str] = {}
    for report in terminalreporter.stats.get("passed", []):
        for name, value in getattr(report, "user_properties", []):
            if name == "kills":
                kills.update(value)
            elif name == "recovery":
                recoveries[report.nodeid] = ", ".join(f"{what} {s} s" for what, s in value.items())
    if kept := terminalreporter.config.stash.get(KEPT, None):
        terminalreporter.write_line(f"what the tests left is in {kept} until the next run")
    if kills:
        terminalreporter.section(f"{kills.total()} processes killed")
        for point, count in kills.most_common():
            terminalreporter.write_line(f"{count:4} {'#' * count} {point}")
    if recoveries:
        terminalreporter.section("recovered")
        for test, took in recoveries.items():
            terminalreporter.write_line(f"{test.split('::')[-1]}: {took}")
