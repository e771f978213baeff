"""The benchmarks' own arithmetic and drawings, and that each of them still runs."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "tests/bench"


@pytest.fixture(autouse=True)
def _on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    # The scripts are no package: each finds its neighbours as it does when it is run.
    monkeypatch.syspath_prepend(str(BENCH))


def report_of(benchmarks: dict[str, Any]) -> dict[str, Any]:
    return {
        "machine": "a machine",
        "at": "2026-01-01",
        "load": 0.1,
        "benchmarks": {name: {"figures": found} for name, found in benchmarks.items()},
    }


def three(middle: float, unit: str) -> dict[str, float]:
    return {f"median_{unit}": middle, f"least_{unit}": middle / 2, f"most_{unit}": middle * 2}


def peers_figures() -> dict[str, Any]:
    sides = {"durable": three(400, "us"), "dbos": three(4_000, "us")}
    works = {
        kind: {"us": sides, "ratio": {"dbos/durable": 10.0}}
        for kind in ("sequence", "fan_out", "runs", "crowd")
    }
    row = {"p50_us": 300.0, "p99_us": 900.0, "p99.9_us": 5_000.0}
    return {
        "versions": {"sostenuto": "1"},
        "steps": 400,
        "rounds": 5,
        **works,
        "latency": {"durable": row, "dbos": row},
        "crowd_longest_stall": {"durable": three(4, "ms"), "dbos": three(8, "ms")},
        "per_step": {"durable": {"syncs": 0.0, "bytes": 460}, "restate": {"syncs": 2.0}},
        "missing": {"restate": "no server"},
    }


def scale_figures() -> dict[str, Any]:
    return {
        "sizes": [1_000, 100_000],
        "opening_ms": {"1000": 2.0, "100000": 3.0},
        "us": {"01 promise.create": {"1000": 50.0, "100000": 60.0}},
    }


def test_only_figures_below_a_ratio_are_compared_between_machines() -> None:
    import collect

    report = report_of({"x_bench": {"took_us": 5.0, "ratio": {"a/b": 2.0}, "stall a/b": 3}})
    assert collect.ratios(report) == {"x_bench.ratio.a/b": 2.0, "x_bench.stall a/b": 3.0}


@pytest.mark.parametrize(
    ("name", "now", "told"),
    [
        ("x.ratio", 1.9, False),
        ("x.ratio", 2.1, True),
        ("x.ratio", 0.51, False),
        ("x.ratio", 0.49, True),
        ("x.stall ratio", 3.9, False),
        ("x.stall ratio", 4.1, True),
        ("x.ratio.restate/durable", 2.9, False),
        ("x.ratio.restate/durable", 3.1, True),
    ],
)
def test_a_ratio_may_change_within_its_tolerance_in_either_direction(
    name: str, now: float, told: bool
) -> None:
    import collect

    assert bool(collect.changed({name: now}, {name: 1.0})) is told


def test_a_committed_ratio_that_a_benchmark_no_longer_gives_is_told() -> None:
    import collect

    before = {"ran_bench.ratio": 1.0, "other_bench.ratio": 1.0}
    assert collect.absent({}, before, ["ran_bench"]) == ["ran_bench.ratio: not measured"]


def test_saving_ratios_keeps_those_of_benchmarks_that_were_not_run(tmp_path: Path) -> None:
    import collect

    path = tmp_path / "ratios.json"
    path.write_text('{"a_bench.old ratio": 1.0, "b_bench.ratio": 2.0}')
    collect.save_ratios({"a_bench.ratio": 3.0}, path)
    assert json.loads(path.read_text()) == {"a_bench.ratio": 3.0, "b_bench.ratio": 2.0}


def test_the_document_that_ends_a_scripts_output_is_taken() -> None:
    import collect

    assert collect.last_document('said\n{"not": 1} more\n{"a": {"b": 2}}\n') == {"a": {"b": 2}}


def test_tables_fill_their_blocks_and_leave_those_that_were_not_measured() -> None:
    import tables

    page = (
        "# Title\n<!-- bench: ratios -->\nold\n<!-- bench end -->\ntext\n"
        "<!-- bench: cells -->\nkept\n<!-- bench end -->\n"
    )
    filled = tables.fill(page, report_of({"peers_bench": peers_figures()}))
    assert "| DBOS on SQLite / **Sostenuto** | 10 | 10 | 10 | 10 |" in filled
    assert "old" not in filled
    assert "kept" in filled
    assert tables.fill(filled, report_of({"peers_bench": peers_figures()})) == filled


def test_a_table_says_what_was_not_measured() -> None:
    import tables

    page = "<!-- bench: {} -->\n<!-- bench end -->\n"
    report = report_of({"peers_bench": peers_figures()})
    assert "| Restate server | 2 | not measured |" in tables.fill(page.format("footprint"), report)
    assert "Not measured: restate, no server." in tables.fill(page.format("machine"), report)


def test_every_marker_of_the_page_has_a_table_and_every_plot_a_file() -> None:
    import plots
    import tables

    page = (ROOT / "docs/benchmarks.md").read_text()
    names = [line.split()[2] for line in page.splitlines() if line.startswith("<!-- bench: ")]
    assert sorted(names) == sorted(tables.BLOCKS)
    for file in plots.PLOTS:
        assert f"(plots/{file})" in page
        assert (ROOT / "docs/plots" / file).exists()


def test_plots_are_well_formed_and_show_every_engine_within_their_frame() -> None:
    import plots

    drawn = plots.draw(
        report_of(
            {
                "peers_bench": peers_figures(),
                "scale_bench": scale_figures(),
                "resume_bench": {
                    "recorded_steps": 500,
                    "seconds": {"durable": three(0.5, "s"), "dbos": three(2.0, "s")},
                },
            }
        )
    )
    assert sorted(drawn) == ["latency.svg", "rates.svg", "resume.svg", "scale.svg"]
    for file, text in drawn.items():
        root = ET.fromstring(text)
        width, height = (float(part) for part in root.attrib["viewBox"].split()[2:])
        for element in root.iter():
            for key in ("x", "x1", "x2", "cx"):
                assert 0 <= float(element.attrib.get(key, 0)) <= width, (file, element.attrib)
            for key in ("y", "y1", "y2", "cy"):
                assert 0 <= float(element.attrib.get(key, 0)) <= height, (file, element.attrib)
        shown = {element.text for element in root.iter() if element.tag.endswith("text")}
        assert ("promise.create" if file == "scale.svg" else "durable") in shown


def test_an_axis_is_logarithmic_over_whole_decades() -> None:
    import plots

    axis = plots.Axis([20, 900], 0, 100)
    assert axis.ticks() == [10.0, 100.0, 1_000.0]
    assert [axis.at(tick) for tick in axis.ticks()] == [0, 50, 100]


def test_a_percentile_is_the_nearest_rank() -> None:
    import figures

    values = list(range(1, 1_001))
    assert [figures.percentile(values, share) for share in (0.5, 0.99, 0.999)] == [500, 990, 999]


def test_results_handed_to_another_coroutine_are_counted() -> None:
    import work

    assert work.compare(["a", "b", "c"], ["a", "c", "b"]) == ["b got c", "c got b"]


async def test_a_branch_names_every_step_whose_result_was_anothers() -> None:
    import work

    async def swapped(name: str) -> str:
        return "0.2" if name == "0.1" else name

    assert await work.branch(swapped, 0) == ["0.1 got 0.2"]


def measured(name: str, *arguments: str) -> dict[str, Any]:
    import collect

    done = subprocess.run(
        [sys.executable, str(BENCH / f"{name}_bench.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = collect.last_document(done.stdout)
    assert isinstance(found, dict)
    return found


def test_the_cost_by_stored_promises_is_measured_for_every_operation() -> None:
    found = measured("scale", "--quick")
    assert len(found["us"]) == 16
    assert all(set(row) == {"100", "1000"} for row in found["us"].values())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["blocking", "durable", "executor", "promises", "store", "ticker", "values"]
)
def test_each_benchmark_runs_in_its_quickest_form(name: str) -> None:
    import collect

    assert measured(name, *collect.ARGUMENTS.get(f"{name}_bench", {}).get("quick", []))


@pytest.mark.slow
def test_engines_take_turns_at_the_same_work() -> None:
    found = measured("peers", "--quick")
    for kind in ("sequence", "fan_out", "runs", "crowd"):
        assert {"durable", "store", "memory"} <= set(found[kind]["us"])
    assert found["latency"]["durable"]["samples"] == 20
    assert ("dbos" in found["sequence"]["us"]) == (importlib.util.find_spec("dbos") is not None)


@pytest.mark.slow
def test_resumption_is_measured_after_real_kills() -> None:
    assert measured("resume", "--quick")["seconds"]["durable"]["median_s"] > 0


@pytest.mark.slow
def test_no_result_reaches_another_coroutine_after_a_crash() -> None:
    for row in measured("gather", "--quick")["engines"]["durable"].values():
        assert row["executions"] == {"right": row["crashes"]}
        assert row["wrong_hand_overs"] == 0
