"""What fuzzing found stays mended, its law catches what breaks it, and it works.

The cases lie in tests/data/fuzz/<reader>/, each a file as somebody could give it; docs/testing.md
says how one is added.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sarc_kb.errors import Finding, InputError
from tests.fuzz import targets
from tests.fuzz.__main__ import main
from tests.fuzz.mutate import CANARY, mutated
from tests.fuzz.targets import TARGETS, BrokenLawError

ROOT = Path(__file__).resolve().parent.parent
CASES = Path(__file__).parent / "data" / "fuzz"
FOUND = sorted(p for p in CASES.glob("*/*") if p.is_file())
LONGEST = 60
"""Seconds that a case may take; one that hangs takes for ever."""
SECONDS = 6
"""That each reader is fuzzed in CI."""


@contextmanager
def not_for_ever() -> Iterator[None]:
    def stop(*_: object) -> NoReturn:
        raise TimeoutError(f"more than {LONGEST} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LONGEST)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# -- what was found --------------------------------------------------------------------------------
@pytest.mark.parametrize("path", FOUND, ids=lambda p: f"{p.parent.name}-{p.stem}")
@pytest.mark.threat("E8", "G2")
def test_what_was_found_stays_mended(path: Path) -> None:
    with not_for_ever():
        TARGETS[path.parent.name].check(path.read_bytes(), True)


def test_cases_are_found_and_belong_to_readers() -> None:
    assert len(FOUND) > 4
    assert {p.parent.name for p in FOUND} <= TARGETS.keys()


@pytest.mark.parametrize("name", TARGETS)
def test_what_fuzzing_begins_with_holds(name: str) -> None:
    seeds = list(TARGETS[name].seeds())
    assert seeds
    for seed in seeds[:: max(1, len(seeds) // 12)]:
        TARGETS[name].check(seed, False)


# -- the law ---------------------------------------------------------------------------------------
def refuse(where: str, found: str) -> Callable[..., NoReturn]:
    def reader(*_: object, **__: object) -> NoReturn:
        raise InputError(Finding("DATA102", "error", where, found, "why", "what to do"))

    return reader


PERSON = json.dumps([{"resourceType": "Patient", "id": "a", "name": [{"family": CANARY}]}]).encode()


@pytest.mark.threat("F2")
@pytest.mark.parametrize(
    ("where", "found", "what"),
    [
        ("input", f"cannot read {CANARY}", "repeats a text of the record"),
        (" ", "cannot be read", "without words"),
        ("input", "half a character \ud800", "cannot be written out"),
    ],
)
def test_a_message_that_says_too_much_or_too_little_breaks_the_law(
    where: str, found: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    TARGETS["fhir"].check(PERSON, True)
    monkeypatch.setattr(targets, "read_fhir", refuse(where, found))
    with pytest.raises(BrokenLawError, match=what):
        TARGETS["fhir"].check(PERSON, True)


def test_what_is_raised_by_mistake_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def reader(*_: object, **__: object) -> NoReturn:
        raise KeyError("code")

    monkeypatch.setattr(targets, "read_fhir", reader)
    with pytest.raises(KeyError):
        TARGETS["fhir"].check(PERSON, False)
    monkeypatch.setattr(targets, "read_fhir", lambda *_, **__: [])
    with pytest.raises(BrokenLawError, match="neither a patient nor an error"):
        TARGETS["fhir"].check(PERSON, False)


def test_a_wrong_value_or_day_breaks_the_law(monkeypatch: pytest.MonkeyPatch) -> None:
    right = targets.read_number
    monkeypatch.setattr(
        targets,
        "read_number",
        lambda value, *rest: right(value if value is None else value + 1, *rest),
    )
    with pytest.raises(BrokenLawError, match="another value"):
        TARGETS["units"].check(b"90\n\ng/L", True)
    day = targets.parse_date("2024-02-28")
    monkeypatch.setattr(targets, "parse_date", lambda text: day)
    with pytest.raises(BrokenLawError):
        TARGETS["dates"].check(b"2024-02-29", True)


# -- how inputs are changed ------------------------------------------------------------------------
TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab/|#", max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(TREES, st.integers(0, 2**32), st.lists(TREES, max_size=2))
def test_changed_json_is_json_and_the_same_for_a_seed(
    tree: object, seed: int, pool: list[object]
) -> None:
    data = json.dumps({"family": CANARY, "other": tree}).encode()
    changed = mutated(data, seed, pool)
    assert changed is not None
    assert changed == mutated(data, seed, pool)
    document = json.loads(changed)
    # The text of the record goes where nobody put it neither by moving nor by copying.
    texts = [(None, document)]
    while texts:
        key, node = texts.pop()
        if isinstance(node, dict):
            texts += node.items()
        elif isinstance(node, list):
            texts += [(None, v) for v in node]
        elif isinstance(node, str) and CANARY in node:
            assert key == "family"


def test_lines_of_json_stay_lines() -> None:
    data = b'{"a": 1}\n{"a": 2}\n{"a": 3}'
    changed = {mutated(data, seed) for seed in range(50)}
    assert len(changed) > 20
    for lines in changed:
        assert lines is not None
        assert [type(json.loads(line)) for line in lines.split(b"\n")]
    assert mutated(b"no json", 1) is None


# -- fuzzing itself --------------------------------------------------------------------------------
def test_an_unknown_reader_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["nonesuch"])
    assert caught.value.code == 2
    assert "entry-dates" in capsys.readouterr().err


def test_without_atheris_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["dates"]) == 2
    assert "pip install '.[fuzz]'" in capsys.readouterr().err


def test_one_file_is_replayed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    case = next(p for p in FOUND if p.parent.name == "fhir")
    assert main(["--replay", str(case)]) == 0
    assert capsys.readouterr().out == f"fhir: the law held of {case}\n"
    (tmp_path / "x").write_bytes(b"2024-02-31")
    assert main(["dates", "units", "--replay", str(tmp_path / "x")]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.threat("E8", "F2", "G2")
def test_fuzzing_for_a_while_finds_nothing(name: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="the extra fuzz is not installed")
    # By a process between: to the system, what a process starts has had the memory of its parent,
    # and the fuzzer ends beyond a limit.
    command = [sys.executable, "-m", "tests.fuzz", name, "--seconds", str(SECONDS)]
    command += ["--folder", str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    inputs = int(ran.stdout.split()[1].replace(",", ""))
    assert inputs > len(list(TARGETS[name].seeds())) / 4


PLANTED = """
import sys
from dataclasses import replace
import atheris
from tests.fuzz import one
from tests.fuzz.targets import TARGETS

@atheris.instrument_func
def check(data, whole):
    if data[:1] == b"2":
        if data[1:2] == b"0":
            if data[2:3] == b"2":
                if data[3:5] == b"4-":
                    raise KeyError("planted")

TARGETS["dates"] = replace(TARGETS["dates"], check=check)
one.main(sys.argv)
"""


@pytest.mark.slow
def test_a_planted_fault_is_found(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="the extra fuzz is not installed")
    command = [
        "-c",
        PLANTED,
        "dates",
        "-max_total_time=60",
        "-rss_limit_mb=0",
        f"-artifact_prefix={tmp_path}/",
    ]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode != 0
    assert "KeyError: 'planted'" in done.stdout + done.stderr
    (kept,) = tmp_path.glob("crash-*")
    assert kept.read_bytes().startswith(b"2024-")
