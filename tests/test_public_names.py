"""The public names: each says what it is, and stands in the reference."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path

import pytest

import sarc_kb
from sarc_kb import AssessmentSet, KnowledgeBase, SarcError

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "api.md").read_text("utf-8")
NAMES = [name for name in sarc_kb.__all__ if name != "__version__"]
METHODS = ("load", "with_mappings", "validate", "screen", "trial_folders", "default_trial")


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_says_what_it_is(name: str) -> None:
    what = getattr(sarc_kb, name)
    told = inspect.cleandoc(what.__dict__["__doc__"])
    assert not told.startswith(f"{name}(")  # what dataclasses say for themselves is no text
    assert told[0].isupper()
    assert len(told.split()) > 3
    assert re.search(rf"^\.\. auto(class|exception):: {name}$", PAGE, re.MULTILINE), name


def test_the_reference_holds_nothing_else() -> None:
    listed = re.findall(r"^\.\. auto(?:class|exception|data):: (\S+)$", PAGE, re.MULTILINE)
    assert sorted(listed) == sorted(sarc_kb.__all__)
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("name", METHODS)
def test_a_public_method_says_what_it_takes_and_gives(name: str) -> None:
    assert f"{name}," in PAGE or f", {name}" in PAGE
    what = inspect.getattr_static(KnowledgeBase, name)
    what = what.fget if isinstance(what, property) else getattr(what, "__func__", what)
    told = inspect.cleandoc(what.__doc__)
    assert told.startswith("Return ") or isinstance(
        inspect.getattr_static(KnowledgeBase, name), property
    )
    source = inspect.signature(what)
    if name in ("validate", "screen"):
        assert "Raises:" in told
        assert "UsageError" in told
        # What the one takes the other takes too; the rest is told.
        shared = set(inspect.signature(KnowledgeBase.validate).parameters) - {"self"}
        own = set(source.parameters) - {"self"} - shared
        assert all(f"``{parameter}``" in told for parameter in own)


def test_whatever_an_assessment_holds_is_public() -> None:
    waiting, seen = [AssessmentSet], set()
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        for field in fields(one) if is_dataclass(one) else ():
            for word in re.findall(r"[A-Z]\w+", str(field.type)):
                home = inspect.getmodule(one)
                held = getattr(home, word, None)
                if isinstance(held, type) and (is_dataclass(held) or issubclass(held, Enum)):
                    waiting.append(held)
    assert {one.__name__ for one in seen} <= set(sarc_kb.__all__)
    assert len(seen) > 12


def test_errors_are_one_family() -> None:
    errors = [name for name in NAMES if name.endswith("Error")]
    assert len(errors) == 5
    assert all(issubclass(getattr(sarc_kb, name), SarcError) for name in errors)


def test_an_unknown_name_is_told() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Assesment'"):
        sarc_kb.Assesment  # noqa: B018 - asked for on purpose
