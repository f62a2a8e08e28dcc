"""The ontology: no fault the quality queries know, mappings that are read whole, exact factors,
and conclusions of the reasoner that belong to the files beside them."""

from __future__ import annotations

import re
import shutil
import unicodedata
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
import sssom_pydantic
from rdflib import Graph, Literal, Namespace, URIRef
from rdflib.namespace import OWL, RDF, RDFS, SKOS
from ucumvert import PintUcumRegistry

from sarc_kb import ontology_build

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "ontology"
SARC = Namespace("https://w3id.org/sarc-kb/ontology#")
QUERIES = sorted((FOLDER / "queries").glob("qc-*.rq"))
TABLES = sorted((FOLDER / "mappings").glob("*.sssom.tsv"))
PREFIXES = """@prefix sarc: <https://w3id.org/sarc-kb/ontology#> .
@prefix owl: <http://www.w3.org/2002/07/owl#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
@prefix skos: <http://www.w3.org/2004/02/skos/core#> .
@prefix code: <https://example.org/code/> .
"""

# For each query the fault it is there for, and a word that its row must contain.
FAULTS = {
    "ambiguous-spelling": (
        (
            '[] a sarc:UnitSpelling ; sarc:unit "g/L" ; sarc:spelling "G/L" .'
            '[] a sarc:UnitSpelling ; sarc:unit "10*9/L" ; sarc:spelling "G/L" .'
        ),
        "G/L",
    ),
    "code-system-incomplete": ('[] a sarc:CodeSystem ; rdfs:label "planted" .', "planted"),
    "dangling-subclass": (
        "sarc:Planted a owl:Class ; rdfs:subClassOf sarc:Neoplazm .",
        "sarc:Neoplazm",
    ),
    "derivation-unexplained": (
        'sarc:Planted a sarc:Implication ; rdfs:label "planted"@en .',
        "sarc:Planted",
    ),
    "duplicate-label": (
        'sarc:Planted a owl:Class ; rdfs:label "same"@en . sarc:Other a owl:Class ; rdfs:label "same"@en .',
        "sarc:Planted",
    ),
    "exact-match-to-two": (
        "code:1 skos:exactMatch sarc:Planted , sarc:Other .",
        "https://example.org/code/1",
    ),
    "incomplete-unit": ('sarc:Planted sarc:acceptsUnit [ sarc:unit "g/L" ] .', "sarc:Planted"),
    "mapping-certain-and-possible": (
        "code:1 skos:broadMatch sarc:Planted ; skos:narrowMatch sarc:Other .",
        "sarc:Other",
    ),
    "mapping-contradiction": (
        (
            "sarc:Planted owl:disjointWith sarc:Other ."
            "code:1 skos:exactMatch sarc:Planted ; skos:broadMatch sarc:Other ."
        ),
        "https://example.org/code/1",
    ),
    "mapping-unknown-term": ("code:1 skos:narrowMatch sarc:Planted .", "sarc:Planted"),
    "missing-defined-by": ("sarc:planted a owl:ObjectProperty .", "sarc:planted"),
    "missing-definition": ("sarc:Planted a owl:Class .", "sarc:Planted"),
    "missing-label": ('sarc:Planted a owl:Class ; rdfs:label "gepflanzt"@de .', "sarc:Planted"),
    "missing-source": ("sarc:Planted a owl:NamedIndividual .", "sarc:Planted"),
    "quantity-without-unit": ("sarc:Planted sarc:plausibleMax 30.0 .", "sarc:Planted"),
    "scope-unreachable": (
        'sarc:Planted a sarc:Scope , owl:NamedIndividual ; sarc:notation "planted" .',
        "sarc:Planted",
    ),
    "subclass-cycle": (
        "sarc:Planted rdfs:subClassOf sarc:Other . sarc:Other rdfs:subClassOf sarc:Planted .",
        "sarc:Planted",
    ),
    "term-never-mapped": (
        (
            "sarc:Planted a owl:Class ; rdfs:isDefinedBy <https://w3id.org/sarc-kb/ontology> ."
            "sarc:Set sarc:member sarc:Planted . code:rule sarc:latest sarc:Set ."
        ),
        "sarc:Planted",
    ),
    "two-canonical-units": ('sarc:Planted sarc:canonicalUnit "g/L" , "g/dL" .', "sarc:Planted"),
    "two-kinds": (
        (
            "sarc:Planted rdfs:subClassOf sarc:A , sarc:B ."
            "sarc:A sarc:recordedAs sarc:Condition . sarc:B sarc:recordedAs sarc:Procedure ."
        ),
        "sarc:Planted",
    ),
    "unbounded-quantity": (
        'sarc:Planted sarc:canonicalUnit "g/L" ; sarc:plausibleMin 9.0 ; sarc:plausibleMax 3.0 ; sarc:boundsFrom "nowhere" .',
        "sarc:Planted",
    ),
    "undefined-term": ("code:rule sarc:latest sarc:Planted .", "sarc:Planted"),
}


@pytest.fixture(scope="module")
def ontology() -> Graph:
    return ontology_build.load_all(FOLDER)


@pytest.fixture(scope="module")
def everything(ontology: Graph) -> Graph:
    """The ontology together with all shapes and rules that use it."""
    graph = Graph()
    for triple in ontology:
        graph.add(triple)
    for path in sorted((ROOT / "shapes").rglob("*.ttl")):
        if not path.name.endswith(".cases.ttl"):
            graph.parse(path, format="turtle")
    return graph


# -- quality queries -----------------------------------------------------------------------------
def test_every_query_has_a_planted_fault() -> None:
    assert {path.stem.removeprefix("qc-") for path in QUERIES} == set(FAULTS)


@pytest.mark.parametrize("name", sorted(FAULTS))
@pytest.mark.threat("B9")
def test_the_query_finds_its_planted_fault(name: str, tmp_path: Path) -> None:
    turtle, expected = FAULTS[name]
    (tmp_path / "queries").mkdir()
    shutil.copy(FOLDER / "queries" / f"qc-{name}.rq", tmp_path / "queries")
    found = ontology_build.quality(Graph().parse(data=PREFIXES + turtle, format="turtle"), tmp_path)
    assert any(expected in row for row in found), found


def test_no_query_finds_a_fault(everything: Graph) -> None:
    assert ontology_build.quality(everything, FOLDER) == []


def test_every_term_used_anywhere_is_declared(ontology: Graph) -> None:
    declared = {str(s) for s in ontology.subjects(RDF.type, None)}
    used: dict[str, str] = {}
    for path in sorted((ROOT / "shapes").rglob("*.ttl")):
        graph = Graph().parse(path, format="turtle")
        declared |= {str(s) for s in graph.subjects(RDF.type, None)}
        for term in {t for triple in graph for t in triple}:
            if isinstance(term, URIRef):
                used[str(term)] = path.name
            elif isinstance(term, Literal):
                used.update(
                    (str(SARC[n]), path.name) for n in re.findall(r"\bsarc:([\w-]+)", str(term))
                )
    for path in sorted((ROOT / "docs").rglob("*.md")):
        names = re.findall(r"\bsarc:([A-Za-z][\w-]*)", path.read_text(encoding="utf-8"))
        used.update((str(SARC[name]), path.name) for name in names)
    assert len(used) > 300
    assert {t: where for t, where in used.items() if t.startswith(SARC) and t not in declared} == {}


def test_no_property_has_two_kinds(ontology: Graph) -> None:
    """OWL 2 DL keeps object, data and annotation properties apart."""
    kinds = (OWL.ObjectProperty, OWL.DatatypeProperty, OWL.AnnotationProperty)
    counted = Counter(s for kind in kinds for s in ontology.subjects(RDF.type, kind))
    assert [p for p, times in counted.items() if times > 1] == []


# -- mappings ------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", TABLES, ids=lambda p: p.name)
def test_mappings_are_read_whole(path: Path, ontology: Graph) -> None:
    mappings, converter, mapping_set, errors = sssom_pydantic.read(path, return_errors=True)
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if not line.startswith("#")][1:]
    assert errors == []
    assert len(mappings) == len(rows) > 0
    assert str(mapping_set.id) == f"https://w3id.org/sarc-kb/ontology/mappings/{path.name}"
    assert mapping_set.license is not None
    triples = [
        tuple(converter.expand_reference(r) for r in (m.subject, m.predicate, m.object))
        for m in mappings
    ]
    assert triples == list(ontology_build.mapping_rows(path))
    assert len(triples) == len(set(triples))
    for mapping, (_, _, term) in zip(mappings, triples, strict=True):
        assert mapping.object.name == str(ontology.value(URIRef(term), RDFS.label)), mapping
        assert mapping.comment, mapping
        assert mapping.extensions["verified"].value in {"yes", "no"}, mapping


def test_codes_are_written_as_readers_write_them(ontology: Graph) -> None:
    """A table of a code system that records name uses the prefix that readers append codes to."""
    prefixes = {str(o) for o in ontology.objects(None, SARC.iriPrefix)}
    for name in ("snomed", "loinc", "icd10cm", "icdo3", "ncit", "rxnorm", "atc", "omop"):
        table = FOLDER / "mappings" / f"{name}.sssom.tsv"
        for subject, _, _ in ontology_build.mapping_rows(table):
            assert any(subject.startswith(prefix) for prefix in prefixes), subject


def test_a_row_with_an_undeclared_prefix_is_an_error(tmp_path: Path) -> None:
    lines = TABLES[0].read_text(encoding="utf-8").splitlines()
    table = tmp_path / "broken.sssom.tsv"
    table.write_text("\n".join([*lines, lines[-1].replace(":", "LOST:", 1)]), encoding="utf-8")
    with pytest.raises(ontology_build.OntologyError, match="LOST"):
        list(ontology_build.mapping_rows(table))


@pytest.mark.parametrize(
    ("code", "relation", "term"),
    [
        ("http://loinc.org/718-7", SKOS.exactMatch, SARC.Haemoglobin),
        ("http://snomed.info/id/443719001", SKOS.exactMatch, SARC.Leiomyosarcoma),
        ("http://terminology.hl7.org/CodeSystem/icd-o-3/8800/3", SKOS.exactMatch, SARC.Sarcoma),
        ("http://terminology.hl7.org/CodeSystem/icd-o-3/C49.5", SKOS.exactMatch, SARC.PelvicRegion),
        ("http://hl7.org/fhir/sid/icd-10-cm/G40.919", SKOS.broadMatch, SARC.RefractoryEpilepsy),
        ("http://hl7.org/fhir/sid/icd-10-cm/G40.909", SKOS.broadMatch, SARC.Epilepsy),
        ("http://snomed.info/id/235856003", SKOS.narrowMatch, SARC.Hepatitis),
        ("http://hl7.org/fhir/administrative-gender/unknown", SKOS.exactMatch, SARC.UnknownSex),
    ],
)
def test_codes_lead_to_their_terms(
    code: str, relation: URIRef, term: URIRef, ontology: Graph
) -> None:
    assert (URIRef(code), relation, term) in ontology


def test_soft_tissue_codes_of_icd10cm_say_nothing_of_histology(ontology: Graph) -> None:
    """C49 names a site; which sarcoma it is, or that it is one, stays open."""
    code = URIRef("http://hl7.org/fhir/sid/icd-10-cm/C49.21")
    assert set(ontology.objects(code, SKOS.broadMatch)) == {SARC.MalignantNeoplasm}
    assert set(ontology.objects(code, SKOS.relatedMatch)) == {SARC.LowerLimb}
    assert not list(ontology.objects(code, SKOS.exactMatch))


# -- units ---------------------------------------------------------------------------------------
# Catalytic activity is reported in U and in IU alike; UCUM keeps the arbitrary unit apart.
SYNONYM = {"[IU]": "U"}


@pytest.fixture(scope="module")
def ucum() -> PintUcumRegistry:
    return PintUcumRegistry()


def plain(unit: str) -> str:
    """Return ``unit`` without annotations, which UCUM gives no meaning."""
    for arbitrary, activity in SYNONYM.items():
        unit = unit.replace(arbitrary, activity)
    return re.sub(r"\{[^}]*\}", "1", unit)


def test_each_factor_is_what_ucum_says(ontology: Graph, ucum: PintUcumRegistry) -> None:
    molar = compared = 0
    for term, node in ontology.subject_objects(SARC.acceptsUnit):
        canonical = plain(str(ontology.value(term, SARC.canonicalUnit)))
        unit = plain(str(ontology.value(node, SARC.unit)))
        divisor = Decimal(str(ontology.value(node, SARC.divisor) or 1))
        ours = float(Decimal(str(ontology.value(node, SARC.factor))) / divisor)
        if unit == canonical:
            assert ours == 1, (term, unit)
            continue
        given, wanted = ucum.from_ucum(unit), ucum.from_ucum(canonical)
        if given.dimensionality != wanted.dimensionality:
            # A mass concentration becomes one of substance by the molar mass, our divisor.
            assert term in {SARC.TotalBilirubin, SARC.SerumCreatinine}, (term, unit)
            given = given / (float(divisor) * ucum.from_ucum("g/mol"))
            molar += 1
        theirs = (given / wanted).to("dimensionless").magnitude
        assert ours == pytest.approx(theirs, rel=1e-9), (term, unit)
        compared += 1
    assert molar >= 4
    assert compared > 40


def test_molar_masses_are_the_published_ones(ontology: Graph) -> None:
    """Creatinine C4H7N3O 113.12, bilirubin C33H36N4O6 584.66, haemoglobin monomer 16114.5 g/mol."""
    masses = {
        term: {
            str(d)
            for node in ontology.objects(term, SARC.acceptsUnit)
            for d in ontology.objects(node, SARC.divisor)
        }
        for term in (SARC.SerumCreatinine, SARC.TotalBilirubin)
    }
    assert masses == {SARC.SerumCreatinine: {"113.12"}, SARC.TotalBilirubin: {"584.66"}}
    link = ontology.value(SARC.HaemoglobinSubstance, SARC.convertsTo)
    assert ontology.value(link, SARC.concept) == SARC.Haemoglobin
    assert float(str(ontology.value(link, SARC.factor))) == pytest.approx(1.61145, abs=1e-4)


def test_units_and_spellings(ontology: Graph, ucum: PintUcumRegistry) -> None:
    accepted = {str(u) for u in ontology.objects(None, SARC.canonicalUnit)}
    accepted |= {
        str(ontology.value(n, SARC.unit)) for n in ontology.objects(None, SARC.acceptsUnit)
    }
    for unit in accepted:
        if plain(unit) != "1":
            assert ucum.from_ucum(plain(unit)) is not None, unit
    spellings = {
        str(s): str(ontology.value(node, SARC.unit))
        for node, s in ontology.subject_objects(SARC.spelling)
    }
    for spelling, unit in spellings.items():
        assert unit in accepted, unit
        assert spelling == "".join(unicodedata.normalize("NFKC", spelling).split()), spelling
        assert spelling not in accepted, spelling
    assert spellings["K/uL"] == "10*3/uL"  # UCUM would read kelvin
    assert spellings[unicodedata.normalize("NFKC", "\u00b5mol/L")] == "umol/L"
    assert "mL/min" not in spellings.values() or "mL/min/1.73m2" in spellings
    assert spellings["mL/min/1.73m2"] == "mL/min/{1.73_m2}"  # never a clearance


# -- conclusions ---------------------------------------------------------------------------------
def test_inferred_belongs_to_these_files() -> None:
    assert ontology_build.stale(FOLDER) is None


def test_a_change_of_either_side_is_noticed(tmp_path: Path) -> None:
    copy = shutil.copytree(FOLDER, tmp_path / "ontology")
    taxonomy = copy / "taxonomy" / "site.ttl"
    before = taxonomy.read_text(encoding="utf-8")
    taxonomy.write_text(before + "\n# a remark\n", encoding="utf-8")
    assert "changed since" in (ontology_build.stale(copy) or "")
    taxonomy.write_text(before, encoding="utf-8")
    inferred = copy / "inferred.ttl"
    inferred.write_text(inferred.read_text(encoding="utf-8").replace("sarc:ALT ", "sarc:AST ", 1))
    assert "edited by hand" in (ontology_build.stale(copy) or "")
    inferred.unlink()
    assert ontology_build.main(["--check", "--ontology", str(copy)]) == 1


@pytest.mark.parametrize(
    ("term", "placed_under"),
    [
        (SARC.WellDifferentiatedLiposarcoma, SARC.LowGradeEntity),
        (SARC.LowGradeFibromyxoidSarcoma, SARC.LowGradeEntity),
        (SARC.GiantCellUPS, SARC.HighGradeEntity),
        (SARC.PresacralSpace, SARC.IntrapelvicSite),
        (SARC.PelvicCavity, SARC.IntrapelvicSite),
        (SARC.Buttock, SARC.ExtrapelvicSite),
        (SARC.AlveolarRhabdomyosarcoma, SARC.SoftTissueSarcoma),
    ],
)
def test_the_reasoner_places_what_no_file_states(term: URIRef, placed_under: URIRef) -> None:
    stated = ontology_build.load(FOLDER)
    concluded = Graph().parse(FOLDER / "inferred.ttl", format="turtle")
    assert (term, RDFS.subClassOf, placed_under) not in stated
    assert (term, RDFS.subClassOf, placed_under) in concluded


@pytest.mark.parametrize(
    ("one", "other", "exclude_each_other"),
    [
        (SARC.GiantCellUPS, SARC.MyxoidLiposarcoma, True),
        (SARC.Thigh, SARC.Shoulder, True),
        (SARC.Buttock, SARC.PresacralSpace, True),
        (SARC.Rhabdomyosarcoma, SARC.SoftTissueSarcoma, False),
        (SARC.PrimitiveNeuroectodermalTumour, SARC.EwingSarcoma, False),
        (SARC.ExtraskeletalMyxoidChondrosarcoma, SARC.SoftTissueSarcoma, False),
        (SARC.Axilla, SARC.Shoulder, False),
        (SARC.TumourResection, SARC.MajorSurgery, False),
    ],
)
def test_what_excludes_what(one: URIRef, other: URIRef, exclude_each_other: bool) -> None:
    concluded = Graph().parse(FOLDER / "inferred.ttl", format="turtle")
    listed = set(concluded.subject_objects(OWL.disjointWith))
    assert bool({(one, other), (other, one)} & listed) is exclude_each_other


def test_without_java_the_message_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("owlready2", reason="the extra 'ontology' is not installed")
    monkeypatch.setattr(ontology_build.shutil, "which", lambda _: None)
    assert ontology_build.main(["--check"]) == ontology_build.NO_REASONER
    assert "Java" in capsys.readouterr().err


def test_a_folder_without_ontology_is_not_a_fault_of_the_ontology(tmp_path: Path) -> None:
    assert ontology_build.main(["--ontology", str(tmp_path)]) == 2


# -- with the reasoner ---------------------------------------------------------------------------
def reasoner_missing() -> str | None:
    try:
        import owlready2
    except ImportError:
        return "the extra 'ontology' (owlready2) is not installed"
    return None if shutil.which(owlready2.JAVA_EXE) else "no Java"


needs_reasoner = pytest.mark.skipif(reasoner_missing() is not None, reason=reasoner_missing() or "")


@pytest.mark.java
@needs_reasoner
def test_the_reasoner_concludes_what_is_committed() -> None:
    assert ontology_build.build(FOLDER) == (FOLDER / "inferred.ttl").read_text(encoding="utf-8")


@pytest.mark.java
@needs_reasoner
@pytest.mark.parametrize(
    ("axiom", "message"),
    [
        (
            "sarc:Planted a owl:Class ; rdfs:subClassOf sarc:Thigh , sarc:Hand .",
            "sarc-kb/ontology#Planted",
        ),
        (
            "<https://example.org/it> a owl:NamedIndividual , sarc:Thigh , sarc:Hand .",
            "inconsistent",
        ),
    ],
)
def test_contradictions_are_found(
    axiom: str, message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(FOLDER, tmp_path / "ontology")
    (copy / "taxonomy" / "zz.ttl").write_text(PREFIXES + axiom, encoding="utf-8")
    assert ontology_build.main(["--ontology", str(copy)]) == 1
    assert message in capfd.readouterr().err


@pytest.mark.java
@needs_reasoner
def test_disjointness_is_all_there_is() -> None:
    """HermiT agrees about a spread of listed pairs, and of pairs from the same branches not listed."""
    concluded = Graph().parse(FOLDER / "inferred.ttl", format="turtle")
    listed = sorted({tuple(sorted(p)) for p in concluded.subject_objects(OWL.disjointWith)})
    concerned = sorted({t for pair in listed for t in pair})
    unlisted = [
        (a, b)
        for i, a in enumerate(concerned)
        for b in concerned[i + 1 :]
        if (a, b) not in set(listed)
        and set(concluded.objects(a, RDFS.subClassOf)) & set(concluded.objects(b, RDFS.subClassOf))
    ]
    graph = ontology_build.load(FOLDER)
    probes = {}
    for number, (a, b) in enumerate([*listed[::15], *unlisted[::15]]):
        probe = SARC[f"Probe{number}"]
        probes[str(probe)] = (a, b)
        for triple in (
            (probe, RDF.type, OWL.Class),
            (probe, RDFS.subClassOf, a),
            (probe, RDFS.subClassOf, b),
        ):
            graph.add(triple)
    assert len(probes) > 150
    with pytest.raises(ontology_build.OntologyError) as raised:
        ontology_build.classify(graph)
    impossible = set(str(raised.value).partition(": ")[2].split(", "))
    assert {probes[p] for p in impossible} == set(listed[::15])
