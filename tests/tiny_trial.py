"""A knowledge base with three rules, for tests about input that must not depend on a trial's rules.

Ontology and constraint components are the real ones.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from sarc_kb.kb import data_folder

TRIAL = "https://w3id.org/sarc-kb/trial/TINY/"
_SOURCE = "Inclusion: Haemoglobin of at least 9 g/dL; willing to comply. Exclusion: a blood transfusion.\n"
_RULES = """
@prefix sarc: <https://w3id.org/sarc-kb/ontology#> .
@prefix oa: <http://www.w3.org/ns/oa#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
@prefix sh: <http://www.w3.org/ns/shacl#> .
@prefix trial: <https://w3id.org/sarc-kb/trial/TINY/> .

trial:study a sarc:Trial ; rdfs:label "tiny" ; sarc:registryId "TINY" .
trial:record a sarc:SourceRecord ; rdfs:label "record" ; sarc:registryId "TINY" ; sarc:sourceFile "source.txt" ;
    sarc:sha256 "{sha256}" .
trial:look-back a sarc:Window , sarc:Policy ; rdfs:label "look-back, days" ; rdfs:comment "Fourteen days." ;
    sarc:decides "how old a result may be" ; sarc:anchor sarc:StudyEntry ;
    sarc:daysBefore 14 ; sarc:endsDaysBefore 0 ; sarc:policyParameter sarc:daysBefore .
trial:a-choice a sarc:Policy ; rdfs:label "a choice" ; rdfs:comment "It has no value." ; sarc:decides "nothing" .
trial:A-01 a sarc:Ambiguity ; rdfs:label "how low is low" ; sarc:touches sarc:Eligibility ;
    sarc:passage "at least 9 g/dL" ; sarc:because "Nine is printed." ; sarc:affects trial:I01 ;
    sarc:default trial:A-01-nine ; sarc:hasReading trial:A-01-nine , trial:A-01-eight .
trial:A-01-nine a sarc:Reading ; sarc:notation "nine" ; rdfs:label "below nine" .
trial:A-01-eight a sarc:Reading ; sarc:notation "eight" ; rdfs:label "below eight" ;
    sarc:override [ sarc:on trial:I01 ; sarc:parameter sarc:atLeast ; sarc:to 8.0 ] .
trial:question-willing a sarc:Question ; sarc:linkId "willing" ; rdfs:label "willing?" ;
    sarc:covers trial:I02 ; sarc:clearingAnswer sarc:Yes .

trial:I01 a sarc:InclusionCriterion , sarc:Clause , sh:NodeShape ; rdfs:label "haemoglobin" ; sarc:notation "I01" ;
    sarc:source [ oa:hasSource trial:record ; oa:hasSelector [ a oa:TextQuoteSelector ;
        oa:exact "Haemoglobin of at least 9 g/dL" ; oa:prefix "Inclusion: " ; oa:suffix "; willing" ] ] ;
    sarc:locator "Inclusion, 1" ; sarc:interpretation "The latest value, as it is printed." ; sarc:modality sarc:Requirement ;
    sarc:resolves trial:A-01 ; sarc:executability sarc:FullyExecutable ;
    sh:targetClass sarc:Patient ; sarc:notDenied trial:I01 ;
    sarc:latest sarc:Haemoglobin ; sarc:window trial:look-back ; sarc:qualifier sarc:Any ;
    sarc:accepted sarc:Any ; sarc:attestedAs sarc:NotAttestable ; sarc:atLeast 9.0 ; sarc:unit "g/dL" ;
    sh:message "haemoglobin is below the limit" ; sarc:remedy "check it" .
trial:I02 a sarc:InclusionCriterion , sarc:Clause , sh:NodeShape ; rdfs:label "willing" ; sarc:notation "I02" ;
    sarc:source [ oa:hasSource trial:record ; oa:hasSelector [ a oa:TextQuoteSelector ;
        oa:exact "willing to comply" ; oa:prefix "dL; " ; oa:suffix ". Exclusion" ] ] ;
    sarc:locator "Inclusion, 2" ; sarc:interpretation "Somebody who knows says so." ; sarc:modality sarc:Requirement ;
    sarc:executability sarc:NeedsJudgement ;
    sh:targetClass sarc:Patient ; sarc:notDenied trial:I02 ;
    sarc:attested trial:I02 ; sh:message "not willing" ; sarc:remedy "ask" .
trial:E01 a sarc:ExclusionCriterion , sarc:Clause , sh:NodeShape ; rdfs:label "no transfusion" ; sarc:notation "E01" ;
    sarc:source [ oa:hasSource trial:record ; oa:hasSelector [ a oa:TextQuoteSelector ;
        oa:exact "a blood transfusion" ; oa:prefix "Exclusion: " ; oa:suffix "." ] ] ;
    sarc:locator "Exclusion, 1" ; sarc:interpretation "None within the look-back." ; sarc:modality sarc:Exclusion ;
    sarc:executability sarc:FullyExecutable ;
    sh:targetClass sarc:Patient ; sarc:notDenied trial:E01 ;
    sarc:none sarc:BloodTransfusion ; sarc:window trial:look-back ; sarc:qualifier sarc:Any ;
    sarc:accepted sarc:Any ; sarc:attestedAs sarc:NotAttestable ; sarc:settledBy sarc:ProcedureHistory ;
    sh:message "a transfusion" ; sarc:remedy "check it" .
"""


def build_tiny(folder: Path) -> Path:
    """Write the knowledge base below ``folder`` and return it."""
    real = data_folder()
    # Without the derivations: they may speak of sets that only a real trial names.
    shutil.copytree(
        real / "ontology", folder / "ontology", ignore=shutil.ignore_patterns("derivations.ttl")
    )
    shutil.copytree(real / "shapes", folder / "shapes", ignore=shutil.ignore_patterns("trials"))
    trial = folder / "shapes" / "trials" / "tiny"
    trial.mkdir(parents=True)
    (trial / "source.txt").write_text(_SOURCE, encoding="utf-8")
    sha256 = hashlib.sha256(_SOURCE.encode()).hexdigest()
    (trial / "rules.ttl").write_text(_RULES.replace("{sha256}", sha256), encoding="utf-8")
    return folder
