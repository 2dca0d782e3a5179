"""What every test stands on: none of the developer's own settings, data or randomness."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest

from paytm_lab.config import PREFIX, Settings

# A failing example is printed in a form to paste; in CI the examples are always the same.
hypothesis.settings.register_profile(
    "lab", deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True
)
hypothesis.settings.load_profile("lab")


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
