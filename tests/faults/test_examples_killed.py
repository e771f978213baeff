"""Each example survives twenty kills at random moments of its life.

Real processes, started by the command a user types, and real SIGKILLs; see kill_harness.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from kill_harness import Step, Undisturbed, Workplace, run_killed, run_undisturbed

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

KILLS = 20
SEED = 20_260

#: The nightly test's, to reach the moments that twenty kills miss.
MANY_KILLS = 150
MANY_SEED = 7

#: The census of so many files keeps the test near half a minute; all of them change nothing else.
FILES = 400

#: The promise: a resumed run starts its first new step within 1 s of being started. On a machine
#: that is busy with other things a start takes longer too, and a resume may take twice a start.
RESUME_S = 1.0
RESUME_STARTS = 2.0

#: One that waited for the dead process's lease would need up to 60 s.
LONGEST_RESUME_S = 10.0

#: As many steps as fetch_all.py has in flight.
IN_FLIGHT = 8


DEALS = [
    pytest.param((KILLS, SEED), id="20 kills"),
    pytest.param((MANY_KILLS, MANY_SEED), id="150 kills", marks=pytest.mark.slow),
]


def check(
    place: Workplace,
    undisturbed: Undisturbed,
    deal: tuple[int, int],
    under_way: int,
    record_property: Any,
) -> None:
    """Kill the example and hold what happened against the undisturbed run.

    Args:
        place: Where to run it; not where ``undisturbed`` was run.
        undisturbed: What it does if nobody kills it.
        deal: How many kills, and the seed of their moments.
        under_way: How many steps can be under way at one moment.
        record_property: pytest's, for the figures.
    """
    kills = run_killed(place, undisturbed, *deal)

    figures = kills.figures() | {
        "undisturbed, start-up s": round(undisturbed.startup_s, 3),
        "undisturbed, steps s": round(undisturbed.working_s, 3),
    }
    record_property(place.example, json.dumps(figures))
    print(json.dumps({place.example: figures}))

    assert kills.landed == deal[0]
    for execution_id in kills.executions:
        assert place.record(execution_id)["result"] == undisturbed.result
        assert place.done_steps(execution_id) == set(undisturbed.steps), "a step is not recorded"
        assert set(kills.runs_of[execution_id]) == set(undisturbed.steps), "a step never ran"
    reruns = sum(sum(runs.values()) - len(runs) for runs in kills.runs_of.values())
    assert reruns <= deal[0] * under_way, "more steps ran again than were under way at the kills"
    limit_s = max(RESUME_S, RESUME_STARTS * undisturbed.startup_s)
    assert median(kills.resume_s) < limit_s, "resuming is slow"
    assert max(kills.resume_s) < LONGEST_RESUME_S, "a resumed run waited before its first new step"


@pytest.mark.parametrize("deal", DEALS)
def test_the_census_of_the_library_survives_kills_at_random_moments(
    tmp_path: Path, deal: tuple[int, int], record_property: Any
) -> None:
    environment = {"CENSUS_LIMIT": str(FILES)}
    files: list[str] = []

    def name_of(step: Step) -> str:
        number = int(step.id.rpartition(":")[2].rpartition(".")[2])
        return "(list)" if number == 1 else files[number - 2]

    def place(name: str) -> Workplace:
        directory = tmp_path / name
        return Workplace("stdlib_census.py", directory, environment, "CENSUS_LOG", name_of)

    undisturbed = run_undisturbed(place("undisturbed"))
    assert undisturbed.steps[0] == "(list)"
    assert len(undisturbed.steps) == len(set(undisturbed.steps)) == 1 + FILES
    files.extend(undisturbed.steps[1:])
    check(place("killed"), undisturbed, deal, 1, record_property)


@pytest.mark.parametrize("deal", DEALS)
def test_fetching_two_hundred_documents_survives_kills_at_random_moments(
    tmp_path: Path, deal: tuple[int, int], record_property: Any
) -> None:
    def name_of(step: Step) -> str:
        return str(step.result["document"]) if step.result is not None else "(report)"

    def place(name: str) -> Workplace:
        return Workplace("fetch_all.py", tmp_path / name, {}, "FETCH_LOG", name_of)

    quiet, killed = place("undisturbed"), place("killed")
    undisturbed = run_undisturbed(quiet)
    assert len(undisturbed.steps) == len(set(undisturbed.steps)) == 201
    check(killed, undisturbed, deal, IN_FLIGHT, record_property)
    report = "fetch_all_report.csv"
    assert (killed.directory / report).read_bytes() == (quiet.directory / report).read_bytes()
