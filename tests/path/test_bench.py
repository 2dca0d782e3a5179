"""`paytm-lab bench`: each benchmark runs, briefly, and says what it is meant to say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from paytm_lab.benchmarks import engine, outbox, routing
from tests.path.command_line import Cli


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("routing", ["strategy keys_per_s"]),
        ("outbox", ["events_per_s"]),
        (
            "engine",
            [
                "in_flight cross_shard_share transfers_per_s latency_ms_p50 latency_ms_p99"
                " rows_per_payment bytes_per_payment raw_per_s raw_ratio",
                "transfers_per_s latency_ms_p50 offered_per_s",
                "transfers_per_s hot_accounts hot_ratio",
            ],
        ),
        (
            "pipeline",
            [
                "what payments_per_s drain_ratio",
                "what payments_per_s done_per_s lag_s",
                "what process cpu_ms_per_payment cpu_share",
                "what decision_ms_p50 decision_ms_p99 processes",
            ],
        ),
        ("audit", ["mode seconds entries"]),
        (
            "simulate",
            ["what payments_per_s", "what payments_per_s drawn_per_s", "what events_per_s ratio"],
        ),
        (
            "fraud",
            [
                "what payments_per_s frauds",
                "what features rows_per_s",
                "what model rows_per_s raw_to_score_rows_per_s train_s model_bytes",
                "what model metric published mean sd",
                "what model as added_ms_p50 added_ms_p99 without_ms_p50",
                "what model round rounds gate_ms_p50 added_ms_p50 ratio round_ms_p50",
            ],
        ),
        ("notebooks", ["notebook parameters seconds passed error"]),
        (
            "http",
            [
                "workers events connections bulk offered_per_s transfers_per_s latency_ms_p50"
                " latency_ms_p95 latency_ms_p99 errors cpu_s_client cpu_s_service"
                " cpu_s_databases cpu_s_others",
                "connections hot_accounts hot_ratio",
            ],
        ),
    ],
)
def test_bench_quick_prints_one_line(name: str, kinds: list[str], cli: Cli) -> None:
    """Each row is of one of these kinds, and there is one of each."""
    done = cli("bench", name, "--quick", "--json")
    assert done.code == 0, done.err
    assert len(done.out.strip().splitlines()) == 1
    assert (done.json["bench"], done.json["profile"]) == (name, "embedded")
    found = [
        {kind for kind in kinds if set(kind.split()) <= row.keys()} for row in done.json["rows"]
    ]
    assert all(found) and set.union(*found) == set(kinds)


def test_bench_notebooks_says_why_one_failed(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one of three sets of parameters: in its row, and with the cell on stderr."""
    sources = ["seed = 7\nusers = 10", "if users < 10:\n    raise ValueError('too few\\nof them')"]
    cells = [
        {"cell_type": "code", "id": f"c{n}", "source": source, "outputs": []}
        | {"metadata": {"tags": ["parameters"][n:]}, "execution_count": None}
        for n, source in enumerate(sources)
    ]
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01_small.ipynb").write_text(
        json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    )
    monkeypatch.chdir(tmp_path)
    done = cli("bench", "notebooks", "--json")
    assert done.code == 0
    assert [(row["passed"], row["error"]) for row in done.json["rows"]] == [
        (True, ""),
        (True, ""),
        (False, "ValueError: too few"),
    ]
    told = "with seed=9, users=5: 01_small.ipynb failed in this cell:\n    if users < 10:"
    assert told in done.err and "ValueError: too few\nof them" in done.err
    assert done.err.count("failed in this cell") == 1


def test_bench_makes_the_folder_that_it_is_given(tmp_path: Path, cli: Cli) -> None:
    done = cli("bench", "routing", "--quick", "--json", "--data", str(tmp_path / "new" / "one"))
    assert done.code == 0, done.err
    assert list((tmp_path / "new" / "one").iterdir()) == [], "and leaves nothing of its own"


def test_bench_lists_what_there_is(cli: Cli) -> None:
    done = cli("bench")
    assert done.code == 0
    for module in (engine, outbox, routing):
        assert module.__name__.rpartition(".")[2] in done.out


def test_bench_of_no_store_measures_no_servers(cli: Cli) -> None:
    done = cli("bench", "routing", "--quick", "--profile", "servers")
    assert done.code == 2
    assert "routing measures no servers" in done.err
