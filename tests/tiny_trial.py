"""A knowledge base with three rules, for tests about input that must not depend on a trial's rules.

Ontology and constraint components are the real ones.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from sarc_kb.kb import data_folder

TRIAL = "https://w3id.org/sarc-kb/trial/TINY/"
_RULES = """
@prefix sarc: <https://w3id.org/sarc-kb/ontology#> .
@prefix sh: <http://www.w3.org/ns/shacl#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
@prefix trial: <https://w3id.org/sarc-kb/trial/TINY/> .

trial:study a sarc:Trial ; rdfs:label "tiny" ; sarc:registryId "TINY" .
trial:look-back a sarc:Window , sarc:Policy ; rdfs:label "look-back, days" ; sarc:anchor sarc:StudyEntry ;
    sarc:daysBefore 14 ; sarc:endsDaysBefore 0 ; sarc:policyParameter sarc:daysBefore .
trial:a-choice a sarc:Policy ; rdfs:label "a choice without a value" .
trial:A-01 a sarc:Ambiguity ; rdfs:label "how low is low" ; sarc:default trial:A-01-nine ;
    sarc:hasReading trial:A-01-nine , trial:A-01-eight .
trial:A-01-nine a sarc:Reading ; sarc:notation "nine" ; rdfs:label "below nine" .
trial:A-01-eight a sarc:Reading ; sarc:notation "eight" ; rdfs:label "below eight" .
trial:question-willing a sarc:Question ; sarc:linkId "willing" ; rdfs:label "willing?" ;
    sarc:covers trial:I02 ; sarc:denialFails trial:I02 ; sarc:clearingAnswer sarc:Yes .

trial:I01 a sarc:InclusionCriterion , sarc:Clause , sh:NodeShape ; rdfs:label "haemoglobin" ; sarc:notation "I01" ;
    sarc:latest sarc:Haemoglobin ; sarc:window trial:look-back ; sarc:qualifier sarc:Any ;
    sarc:accepted sarc:Any ; sarc:attestedAs sarc:NotAttestable ; sarc:atLeast 9.0 ; sarc:unit "g/dL" ;
    sh:message "haemoglobin is below the limit" .
trial:I02 a sarc:InclusionCriterion , sarc:Clause , sh:NodeShape ; rdfs:label "willing" ; sarc:notation "I02" ;
    sarc:attested trial:I02 ; sh:message "not willing" .
trial:E01 a sarc:ExclusionCriterion , sarc:Clause , sh:NodeShape ; rdfs:label "no transfusion" ; sarc:notation "E01" ;
    sarc:none sarc:BloodTransfusion ; sarc:window trial:look-back ; sarc:qualifier sarc:Any ;
    sarc:accepted sarc:Any ; sarc:attestedAs trial:E01 ; sarc:settledBy sarc:ProcedureHistory ;
    sh:message "a transfusion" .
"""


def build_tiny(folder: Path) -> Path:
    """Write the knowledge base below ``folder`` and return it."""
    real = data_folder()
    # Without the derivations: they may speak of sets that only a real trial names.
    shutil.copytree(real / "ontology", folder / "ontology", ignore=shutil.ignore_patterns("derivations.ttl"))
    shutil.copytree(real / "shapes" / "components", folder / "shapes" / "components")
    trial = folder / "shapes" / "trials" / "tiny"
    trial.mkdir(parents=True)
    (trial / "rules.ttl").write_text(_RULES, encoding="utf-8")
    return folder
