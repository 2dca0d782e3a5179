"""What the commands say: reasons, the next step, how to repeat, and which options go together."""

from __future__ import annotations

from pathlib import Path

from tests.path.command_line import Cli

POOR = "from_user,to_user,amount\nasha,ravi,5\nasha,ravi,7\nravi,mira,1000\nmira,asha,99\n"


def poor(folder: Path) -> Path:
    """Payments that cost more than an opening balance of 10 rupees: three of four fail."""
    file = folder / "poor.csv"
    file.write_text(POOR)
    return file


# -- a run's own line ------------------------------------------------------------------------------


def test_a_run_says_why_payments_failed(tmp_path: Path, cli: Cli) -> None:
    words = f"run --transfers {poor(tmp_path)} --opening-balance 10 --in-flight 1".split()
    said = cli(*words, "--data", str(tmp_path / "lab"))
    assert "1 COMPLETED, 3 FAILED (insufficient_funds 3)" in said.out
    run = cli(*words, "--data", str(tmp_path / "other"), "--json").json["run"]
    assert run["answers"] == {"COMPLETED": 1, "FAILED": 3}
    assert run["reasons"] == {"FAILED": {"insufficient_funds": 3}}
