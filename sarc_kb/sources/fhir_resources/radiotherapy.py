"""mCODE and CodeX radiotherapy: technique, doses and fractions by target volume.

What a dose is of (a whole course, a phase, one fraction) the code of the Procedure says. So an
element has the IRI of that code, a slash and its own name, and mappings know it by that:
``http://snomed.info/id/1217123003/totalDoseDelivered`` is the dose of a whole course.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sarc_kb.facts import Fact
from sarc_kb.sources.fhir_resources.codes import DOSE_TO_VOLUME, FRACTIONS, TECHNIQUE, TECHNIQUES
from sarc_kb.sources.fhir_resources.elements import Json, dicts, extensions
from sarc_kb.sources.fhir_resources.reading import Reading
from sarc_kb.sources.fhir_resources.values import as_number, unit_of


def technique(r: Reading) -> tuple[tuple[str, str], ...]:
    """Return technique and modality, if there is one pair; of several it says so."""
    pairs = [
        tuple(c for e in extensions(given, *TECHNIQUE) for c in r.extension_codings(e))
        for given in extensions(r.body, TECHNIQUES)
    ]
    if len(set(pairs)) > 1:
        r.note("DATA139", "several techniques")
        return ()
    return r.on("technique", pairs[0]) if pairs else ()


def doses(r: Reading, status: str, **common: Any) -> Iterator[Fact]:
    """Yield dose and fractions of each target volume, and fractions of the whole."""
    for i, given in enumerate(extensions(r.body, DOSE_TO_VOLUME)):
        volumes = [
            structure
            for extension in extensions(given, "volume")
            for reference in dicts(extension.get("valueReference"))
            if (structure := r.structure(reference))
        ]
        axes = r.axes(volume=[structure.get("morphology") for structure in volumes])
        axes += tuple(mark for structure in volumes for mark in r.marks(structure))
        for part in dicts(given.get("extension")):
            yield from _element(r, f"#volume-{i + 1}", part, status, axes=axes, **common)
    for extension in extensions(r.body, FRACTIONS):
        count = {**extension, "url": "fractionsDelivered"}
        yield from _element(r, "#whole", count, status, **common)


def _element(r: Reading, part: str, extension: Json, status: str, **rest: Any) -> Iterator[Fact]:
    url = extension.get("url")
    if url == "totalDoseDelivered":
        quantity = next(iter(dicts(extension.get("valueQuantity"))), {})
        value, unit = as_number(quantity.get("value")), unit_of(r, quantity)
    elif url == "fractionsDelivered":
        given = extension.get("valueUnsignedInt", extension.get("valuePositiveInt"))
        value, unit = as_number(given), "1"
    else:
        return
    if value is None:
        r.note("DATA124", f"{url} holds no number")
    concepts = tuple(f"{code}/{url}" for code in r.about(r.body.get("code")))
    # A mapping says what kind of fact it is: the dose of one fraction is a procedure.
    kind = None if r.known(concepts) else "Measurement"
    text = None if value is not None else url
    yield r.fact(
        f"{part}-{url}", kind, concepts, status, value=value, value_text=text, unit=unit, **rest
    )
