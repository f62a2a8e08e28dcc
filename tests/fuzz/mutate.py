"""Changes to JSON documents that keep them JSON, so that fuzzing gets behind the parser."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Sequence

CANARY = "Zyxwvuts Canary"
"""A text of the record that no message may repeat; changes leave it where it is."""

SCALARS: tuple[object, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    8.9,
    1e30,
    10**50,
    "",
    " ",
    "x",
    "unknown",
    "final",
    "entered-in-error",
    "active",
    "completed",
    "not-done",
    "confirmed",
    "refuted",
    "<",
    ">=",
    "g/dL",
    "10*9/L",
    "mg",
    "2024",
    "2024-02",
    "2024-02-30",
    "2024-02-21",
    "2024-02-21T08:30:00+08:00",
    "0000-01-01",
    "9999-12-31",
    "0001-01-01T00:00:00+14:00",
    "http://loinc.org",
    "http://snomed.info/sct",
    "http://unitsofmeasure.org",
    "718-7",
    "Patient/1",
    "#",
    "#contained",
    "urn:uuid:0",
    "http://a b<c>",
    "\u202e\ufffe",
    "a|b|c",
    [],
    {},
    [[]],
    [None],
)
ROOM = 60_000
"""Longest document that is made larger, in characters."""


def mutated(data: bytes, seed: int, pool: Sequence[object] = ()) -> bytes | None:
    """Return a JSON document near ``data``, or None where ``data`` is none.

    ``pool`` holds documents whose parts may be put in. Lines of JSON stay lines.
    """
    rng = random.Random(seed)
    lines = data.split(b"\n") if data.count(b"\n{") and not data.startswith(b"[") else [data]
    at = rng.randrange(len(lines))
    try:
        document = json.loads(lines[at])
    except (ValueError, RecursionError):
        return None
    donor = pool[rng.randrange(len(pool))] if pool else SCALARS
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        document = _changed(document, rng, donor)
    if len(lines) > 1 and rng.random() < 0.1:
        lines.insert(rng.randrange(len(lines)), lines[at])
    lines[at] = json.dumps(document, ensure_ascii=rng.random() < 0.5).encode("utf-8", "replace")
    return b"\n".join(lines)


Place = tuple[object, object]
"""A container and the key or index of one of its values."""


def places(document: object) -> list[Place]:
    """Return every place of a value in a document, but of the texts of the canary."""
    found: list[Place] = []
    todo = [document]
    while todo:
        node = todo.pop()
        pairs = (
            node.items()
            if isinstance(node, dict)
            else enumerate(node)
            if isinstance(node, list)
            else ()
        )
        for key, value in pairs:
            if not (isinstance(value, str) and CANARY in value):
                found.append((node, key))
                todo.append(value)
    return found


def _changed(document: object, rng: random.Random, donor: object) -> object:
    spots = places(document)
    if not spots:
        return copy.deepcopy(donor)
    container, key = rng.choice(spots)
    assert isinstance(container, dict | list)
    value = container[key]  # type: ignore[index,call-overload]
    others = places(donor)
    changes: list[Callable[[], object]] = [
        lambda: copy.deepcopy(rng.choice(SCALARS)),
        lambda: copy.deepcopy(rng.choice(SCALARS)),
        lambda: [value],
        lambda: [copy.deepcopy(value), copy.deepcopy(value)],
        lambda: value[0] if isinstance(value, list) and value else None,
        lambda: _scalar(value, rng),
        lambda: _scalar(value, rng),
        lambda: _free(_value(*rng.choice(others))) if others else None,
        lambda: _free(_value(*rng.choice(spots))),
    ]
    what = rng.random()
    if what < 0.2 or "CANARY" in str(key):
        del container[key]  # type: ignore[arg-type]
    elif what < 0.35 and others and isinstance(container, dict):
        # A property of the same name elsewhere is likelier to be read.
        same = [p for p in others if isinstance(p[1], str)]
        if same:
            source, name = rng.choice(same)
            container[name] = _free(_value(source, name))
    elif what < 0.45 and isinstance(container, list):
        extra = _free(_value(*rng.choice(others or spots)))
        if len(json.dumps(extra, default=str)) < ROOM // 4:
            container.insert(rng.randrange(len(container) + 1), extra)
    else:
        container[key] = rng.choice(changes)()  # type: ignore[index,call-overload]
    if len(json.dumps(document)) > ROOM:
        return copy.deepcopy(value)
    return document


def _value(container: object, key: object) -> object:
    return container[key]  # type: ignore[index]


def _free(value: object) -> object:
    """Return a copy without the canary, which must stay in the places of texts."""
    return json.loads(json.dumps(value).replace(CANARY, "text"))


def _scalar(value: object, rng: random.Random) -> object:
    """Return something close to a text or number."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int | float):
        return rng.choice((value + 1, -value, value * 10, value / 10, str(value)))
    if isinstance(value, str):
        cut = rng.randrange(len(value) + 1)
        return rng.choice(
            (
                value[:cut],
                value[cut:],
                value + value,
                value.upper(),
                value[:cut] + rng.choice("-/|#:. <0\u00e9") + value[cut:],
            )
        )
    return value
