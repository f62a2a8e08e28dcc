"""What the protocol's limits and windows come to in plain cases, by hand.

Raw facts alone are read: values, units, comparators and dates as written. Limits, windows, unit
factors and calendar months are typed in from the protocol's text and the stated policies (results
count for 14 days, imaging for 28); nothing of how the program prepares or judges is used. Where a
record is not plain (vague dates, codes that are not in the lists here, a suspected fact, an answer
of a person), nothing is said.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction

from sarc_kb.facts import Fact, PatientRecord

SARC = "https://w3id.org/sarc-kb/ontology#"
TRIAL = "https://w3id.org/sarc-kb/trial/NCT05602415/"
VOID = {SARC + s for s in ("EnteredInError", "Cancelled", "NotDone", "Preliminary", "Planned")}
CONFIRMED = {None, SARC + "Confirmed"}
STATEMENT, ATTESTATION = SARC + "CompletenessStatement", SARC + "Attestation"
F = Fraction

# -- the tables ------------------------------------------------------------------------------------
# What laboratories write, each as so many of the protocol's own unit.
GRAMS_PER_DECILITRE = {"g/dL": F(1), "g/L": F(1, 10), "mg/mL": F(1, 10), "mg/dL": F(1, 1000)}
CELLS = {
    "10*9/L": F(1),
    "10*3/uL": F(1),
    "10*3/mm3": F(1),
    "10*6/mL": F(1),
    "/nL": F(1),
    "10*6/L": F(1, 1000),
    "10*3/mL": F(1, 1000),
    "/uL": F(1, 1000),
    "/mm3": F(1, 1000),
}
# Molar masses in g/mol: bilirubin 584.66, creatinine 113.12.
BILIRUBIN = {
    "umol/L": F(1),
    "mmol/L": F(1000),
    "mg/dL": F(10000 * 100, 58466),
    "mg/L": F(1000 * 100, 58466),
}
CREATININE = {
    "umol/L": F(1),
    "mmol/L": F(1000),
    "mg/dL": F(10000 * 100, 11312),
    "mg/L": F(1000 * 100, 11312),
}
# One microkatal is 60 units.
ENZYME = {
    "U/L": F(1),
    "[IU]/L": F(1),
    "mU/mL": F(1),
    "m[IU]/mL": F(1),
    "U/mL": F(1000),
    "ukat/L": F(60),
    "nkat/L": F(60, 1000),
}
SECONDS = {"s": F(1), "ms": F(1, 1000)}
PLAIN: dict[str | None, Fraction] = {None: F(1), "1": F(1)}
INR = {**PLAIN, "{INR}": F(1), "{ratio}": F(1)}
CLEARANCE = {
    "mL/min": F(1),
    "mL/s": F(60),
    "dL/min": F(100),
    "L/min": F(1000),
    "L/h": F(1000, 60),
}
CENTIMETRES = {"cm": F(1), "mm": F(1, 10), "m": F(100), "[in_i]": F(254, 100)}
SCORE = {**PLAIN, "{score}": F(1)}
MILLISECONDS = {"ms": F(1), "s": F(1000), "us": F(1, 1000)}
MONTHS = {"mo": F(1), "a": F(12), "wk": F(7 * 10000, 304375), "d": F(10000, 304375)}
KILOGRAMS = {"kg": F(1), "g": F(1, 1000)}

LOINC = "http://loinc.org/"
CODES = {
    LOINC + "718-7": "Haemoglobin",
    LOINC + "26499-4": "NeutrophilCount",
    LOINC + "751-8": "NeutrophilCount",
    LOINC + "26515-7": "PlateletCount",
    LOINC + "777-3": "PlateletCount",
    LOINC + "14631-6": "TotalBilirubin",
    LOINC + "1742-6": "ALT",
    LOINC + "1920-8": "AST",
    LOINC + "14682-9": "SerumCreatinine",
    LOINC + "5902-2": "ProthrombinTime",
    LOINC + "89247-1": "ECOG",
    LOINC + "33728-7": "TumourLongestDiameter",
    LOINC + "8636-3": "QTc",
    LOINC + "29463-7": "BodyWeight",
}


@dataclass(frozen=True)
class Limit:
    """``concept`` must be ``sign`` the ``limit``; ``days`` is how old it may be (None: any age);
    values outside ``sane`` are not plain. ``times_upper``: the limit counts upper limits of normal.
    Results of ``also`` are results of the same; one of ``blocked_by`` makes a record not plain.
    """

    concept: str
    sign: str
    limit: Fraction
    units: Mapping[str, Fraction] | Mapping[str | None, Fraction]
    days: int | None = 14
    sane: tuple[int, int] = (0, 10**9)
    times_upper: bool = False
    blocked_by: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


LIMITS = {
    "I05": Limit("ECOG", "<=", F(2), SCORE, sane=(0, 5)),
    "I07a": Limit(
        "Haemoglobin",
        ">=",
        F(9),
        GRAMS_PER_DECILITRE,
        sane=(1, 30),
        blocked_by=("HaemoglobinSubstance",),
    ),
    "I07c": Limit("NeutrophilCount", ">=", F(3, 2), CELLS, sane=(0, 1000)),
    "I07d": Limit("PlateletCount", ">=", F(100), CELLS, sane=(0, 10000)),
    "I07e": Limit(
        "TotalBilirubin",
        "<=",
        F(3, 2),
        BILIRUBIN,
        sane=(0, 2000),
        times_upper=True,
        blocked_by=("TotalBilirubin-timesULN",),
    ),
    "I07f": Limit(
        "ALT",
        "<=",
        F(5, 2),
        ENZYME,
        sane=(0, 100000),
        times_upper=True,
        blocked_by=("ALT-timesULN",),
    ),
    "I07g": Limit(
        "AST",
        "<=",
        F(5, 2),
        ENZYME,
        sane=(0, 100000),
        times_upper=True,
        blocked_by=("AST-timesULN",),
    ),
    "I07h": Limit("SerumCreatinine", "<=", F(150), CREATININE, sane=(1, 10000)),
    "I07l": Limit("SerumCreatinine", ">", F(150), CREATININE, sane=(1, 10000)),
    "I07i": Limit(
        "CreatinineClearance",
        ">=",
        F(50),
        CLEARANCE,
        sane=(0, 500),
        also=("CreatinineClearance-CockcroftGault", "MeasuredCreatinineClearance"),
    ),
    "I07j": Limit(
        "ProthrombinTime",
        "<=",
        F(3, 2),
        SECONDS,
        sane=(1, 600),
        times_upper=True,
        blocked_by=("ProthrombinTime-timesULN",),
    ),
    "I07k": Limit(
        "INR",
        "<=",
        F(3, 2),
        INR,
        sane=(0, 50),
        times_upper=True,
        blocked_by=("INR-timesULN",),
    ),
    "I10": Limit("LifeExpectancy", ">", F(24), MONTHS, days=None, sane=(0, 1500)),
}

TRANSFUSIONS = {"BloodTransfusion", "RedCellTransfusion", "WholeBloodTransfusion"}
MEDICINES = {
    "AntitumourDrug",
    "CytotoxicDrug",
    "Dacarbazine",
    "Docetaxel",
    "Doxorubicin",
    "Eribulin",
    "Gemcitabine",
    "Ifosfamide",
    "Imatinib",
    "ImmuneCheckpointInhibitor",
    "KinaseInhibitor",
    "Pazopanib",
    "TargetedDrug",
    "Trabectedin",
}
RADIATION = {
    "Radiotherapy",
    "PreoperativeRadiotherapy",
    "ExternalBeamRadiotherapy",
    "Brachytherapy",
    "ProtonTherapy",
    "ConformalRadiotherapy",
    "IMRT",
    "VMAT",
    "ParticleRadiotherapy",
    "TwoDimensionalRadiotherapy",
}
# What may be one of the study's own treatments, and so move the day they start.
STUDY_TREATMENT = {
    *RADIATION,
    "Anlotinib",
    "TumourResection",
    "MajorTumourResection",
    "PostoperativeRadiotherapy",
    "RadiotherapyFraction",
    "OtherTechnique",
    "SurgicalProcedure",
    "Intervention",
    # More general than anlotinib or radiotherapy.
    "KinaseInhibitor",
    "TargetedDrug",
    "AntitumourDrug",
    "AntitumourTreatment",
    "Drug",
}
MAJOR_SURGERY = {
    "MajorSurgery",
    "Amputation",
    "BodyCavitySurgery",
    "Hysterectomy",
    "JointReplacement",
    "MajorVesselSurgery",
}
# Cancers that no sarcoma trial has as its index tumour.
OTHER_CANCERS = {
    "BasalCellCarcinoma",
    "Carcinoma",
    "CarcinomaInSitu",
    "Melanoma",
    "Lymphoma",
    "Leukaemia",
    "AcuteMyeloidLeukaemia",
    "OtherLeukaemia",
    "MyelodysplasticSyndrome",
    "HematologicNeoplasm",
    "OtherMalignantNeoplasm",
}
PROCEDURES_UNCLEAR = {"Intervention", "SurgicalProcedure", "Procedure"}
# What may be the index resection, which before entry counts for 28 days (a stated policy).
MAYBE_RESECTION = {
    *PROCEDURES_UNCLEAR,
    "TumourResection",
    "MajorTumourResection",
    "MajorSurgery",
    "?",
}


@dataclass(frozen=True)
class Exclusion:
    """Excluded by an event of ``names`` that lies in the ``months`` or ``days`` up to entry, or to
    the day before where ``before``; ``by_start``: the day it began counts, not how long it lasted.
    ``unclear`` names may be such events; ``about`` names what answers of people speak of it."""

    names: set[str]
    scopes: tuple[tuple[str, ...], ...]
    about: tuple[str, ...]
    months: int = 0
    days: int = 0
    before: bool = False
    by_start: bool = False
    unclear: frozenset[str] = frozenset()
    from_treatment: bool = False


PROCEDURES, CONDITIONS = ("ProcedureHistory",), ("ConditionHistory",)
EXCLUSIONS = {
    "I07b": Exclusion(
        TRANSFUSIONS,
        (PROCEDURES,),
        ("I07", "I07b", "question-transfusion-14-days"),
        days=14,
        unclear=frozenset({"BloodProductTransfusion", *PROCEDURES_UNCLEAR}),
    ),
    "E12": Exclusion(
        TRANSFUSIONS,
        (PROCEDURES,),
        ("E12", "question-transfusion-14-days"),
        days=14,
        unclear=frozenset({"BloodProductTransfusion", *PROCEDURES_UNCLEAR}),
        from_treatment=True,
    ),
    "E07b": Exclusion(
        {"MyocardialInfarction"},
        (CONDITIONS,),
        ("E07", "E07b", "question-poor-medical-risk"),
        months=3,
        by_start=True,
        unclear=frozenset({"ClinicalFinding"}),
    ),
    "E01": Exclusion(
        MEDICINES | RADIATION,
        (("MedicationHistory",), PROCEDURES),
        ("E01", "question-treatment-6-months"),
        months=6,
        before=True,
        unclear=frozenset(
            {
                "Drug",
                "Anlotinib",
                "AntitumourTreatment",
                "ChemotherapyProcedure",
                "OtherTechnique",
                "PostoperativeRadiotherapy",
                "RadiotherapyFraction",
                *PROCEDURES_UNCLEAR,
            }
        ),
        from_treatment=True,
    ),
    "E14a": Exclusion(
        MAJOR_SURGERY,
        (PROCEDURES,),
        ("E14", "E14a", "question-major-surgery-6-months"),
        months=6,
        before=True,
        unclear=frozenset(
            {
                "TumourResection",
                "MajorTumourResection",
                "SterilisingProcedure",
                "TubalSterilisation",
                *PROCEDURES_UNCLEAR,
            }
        ),
        from_treatment=True,
    ),
    "E15": Exclusion(
        {"InterventionalStudy"},
        (("StudyHistory",),),
        ("E15", "question-other-intervention-study"),
        months=3,
        unclear=frozenset({"Study"}),
    ),
    "E10a": Exclusion(
        OTHER_CANCERS,
        (CONDITIONS,),
        ("E10", "E10a", "question-other-malignancy-2-years"),
        months=24,
        by_start=True,
    ),
}
NOT_CANCER_WORDS = re.compile(r"oma\b|oma[A-Z]|Tumour|Neoplasm|Leuk|PNET|UPS|DFSP|Entity|Syndrome")

# The clauses this oracle is to speak about, and how many of 10,000 generated patients at least.
COVERED = (*LIMITS, *EXCLUSIONS, "I03", "I04a", "I06b", "I09b", "E11a1", "E11a2")


NO_CLEARS = {
    *(name for rule in EXCLUSIONS.values() for name in rule.about if not name.startswith("I")),
    "question-qtc-over-470-twice",
    "E11",
    "E11a1",
}
"""Questions about exclusions, and the exclusions themselves: "no" is the answer that clears."""


# -- reading ---------------------------------------------------------------------------------------
def day_of(fact: Fact) -> date | None:
    """Return the single day of a fact, None where there is none."""
    return _day(fact.start.text) if fact.start is not None and fact.end is fact.start else None


def _day(text: str) -> date | None:
    return date.fromisoformat(text[:10]) if len(text) >= 10 else None


def minute_of(fact: Fact) -> int | None:
    """Return the minute of a fact that has a time, on the clock of its place."""
    if fact.start is None or "T" not in fact.start.text:
        return None
    text = fact.start.text
    return _day(text).toordinal() * 1440 + int(text[11:13]) * 60 + int(text[14:16])  # type: ignore[union-attr]


def months_back(day: date, months: int) -> date:
    """Return the same day so many months earlier, or the last of that month."""
    count = day.year * 12 + day.month - 1 - months
    year, month = count // 12, count % 12 + 1
    return date(year, month, min(day.day, calendar.monthrange(year, month)[1]))


def names_of(fact: Fact) -> set[str]:
    """Return the names of what a fact is about; "?" for a code that is not in the list here."""
    found = set()
    for concept in fact.concepts:
        if concept.startswith(SARC):
            found.add(concept[len(SARC) :])
        else:
            found.add(CODES.get(concept, "?"))
    return found or {"?"}


def axis(fact: Fact, name: str) -> str | None:
    values = [v for a, v in fact.axes if a == SARC + name]
    return values[0].removeprefix(SARC) if len(values) == 1 else None


class Plain:
    """A record as far as a plain reader takes it."""

    def __init__(self, record: PatientRecord) -> None:
        assert record.entry is not None
        self.entry = date.fromisoformat(record.entry.text)
        counting = [f for f in record.facts if f.status not in VOID]
        self.statements = [f for f in counting if f.kind == STATEMENT]
        # A "no" to an exclusion clears it, whatever else; any other answer is not plain.
        self.asked = {
            name
            for f in counting
            if f.kind == ATTESTATION
            for name in (c.removeprefix(TRIAL) for c in f.concepts)
            if f.value_concepts != (SARC + "No",) or name not in NO_CLEARS
        }
        self.facts = [f for f in counting if f.kind not in (STATEMENT, ATTESTATION)]
        self.named = [(names_of(f), f) for f in self.facts]

    def of(self, *names: str) -> list[Fact]:
        return [f for found, f in self.named if found & set(names)]

    @property
    def numbers_unclear(self) -> bool:
        """Whether something measured could be anything."""
        return any(
            "Observable" in names
            or (
                "?" in names
                and (f.value is not None or f.value_text is not None or f.unit is not None)
            )
            for names, f in self.named
        )

    @property
    def codes_unclear(self) -> bool:
        return any("?" in names for names, _ in self.named)

    def seen(self, fact: Fact) -> bool:
        """Whether a fact is surely of the time up to entry (others are not looked at)."""
        day = day_of(fact)
        return day is not None and day <= self.entry


def compared(
    fact: Fact, sign: str, limit: Fraction, units: Mapping[str, Fraction], sane: tuple[int, int]
) -> bool | None:
    """Return whether the value of a fact is on the good side of a limit, None where open."""
    if fact.value is None or fact.value_text is not None or not fact.value.is_finite():
        return None
    if fact.unit not in units or fact.value_concepts:
        return None
    value = F(fact.value) * units[fact.unit]
    if not sane[0] <= value <= sane[1]:
        return None
    # What is only known to be above (below) something may be anything there.
    above, below = fact.comparator in (">", ">="), fact.comparator in ("<", "<=")
    if fact.comparator is not None and not above and not below:
        return None
    strict = fact.comparator in ("<", ">")
    if sign in ("<=", "<"):
        good = value <= limit if sign == "<=" or (below and strict) else value < limit
        bad = value > limit if sign == "<=" and not (above and strict) else value >= limit
    else:
        good = value >= limit if sign == ">=" or (above and strict) else value > limit
        bad = value < limit if sign == ">=" and not (below and strict) else value <= limit
    towards_good = below if sign in ("<=", "<") else above
    towards_bad = above if sign in ("<=", "<") else below
    if good and not towards_bad:
        return True
    return False if bad and not towards_good else None


def upper_limit(fact: Fact, units: Mapping[str, Fraction]) -> Fraction | None:
    unit = fact.upper_limit_unit or fact.unit
    if fact.upper_limit is None or fact.upper_limit <= 0 or unit not in units:
        return None
    return F(fact.upper_limit) * units[unit]


def newest(plain: Plain, found: Iterable[Fact], days: int | None) -> list[Fact] | None:
    """Return the results of the newest day that counts; None where that is not plain."""
    dated: list[tuple[date, Fact]] = []
    for fact in found:
        day = day_of(fact)
        if day is None or fact.status not in CONFIRMED or fact.kind is not None:
            return None
        if day <= plain.entry and (days is None or day >= plain.entry - timedelta(days=days)):
            dated.append((day, fact))
    if not dated:
        return None
    last = max(d for d, _ in dated)
    return [f for d, f in dated if d == last]


def agreed(answers: Iterable[bool | None]) -> bool | None:
    found = set(answers)
    return found.pop() if len(found) == 1 else None


# -- limits ----------------------------------------------------------------------------------------
def of_limit(plain: Plain, rule: Limit) -> bool | None:
    if plain.numbers_unclear or plain.of(*rule.blocked_by):
        return None
    results = newest(plain, plain.of(rule.concept, *rule.also), rule.days)
    if results is None:
        return None
    units: Mapping[str, Fraction] = rule.units  # type: ignore[assignment]
    answers = []
    for fact in results:
        limit: Fraction | None = rule.limit
        if rule.times_upper:
            upper = upper_limit(fact, units)
            limit = None if upper is None else rule.limit * upper
        if limit is None:
            return None
        answers.append(compared(fact, rule.sign, limit, units, rule.sane))
    return agreed(answers)


def clearance(plain: Plain) -> bool | None:
    """Creatinine clearance: as recorded, else by Cockcroft and Gault."""
    rule = LIMITS["I07i"]
    if plain.of(rule.concept, *rule.also):
        return of_limit(plain, rule)
    creatinine, weights = plain.of("SerumCreatinine"), plain.of("BodyWeight")
    births, sexes = plain.of("Birth"), plain.of("Sex")
    if plain.numbers_unclear or plain.codes_unclear:
        return None
    if not len(creatinine) == len(weights) == len(births) == len(sexes) == 1:
        return None
    for fact in (creatinine[0], weights[0], births[0], sexes[0]):
        if fact.status not in CONFIRMED or fact.kind is not None or fact.comparator is not None:
            return None
    results = newest(plain, creatinine, 14)
    born, weighed, sex = day_of(births[0]), day_of(weights[0]), sexes[0].value_concepts
    if results is None or born is None or weighed is None:
        return None
    day = day_of(results[0])
    assert day is not None
    factor = {(SARC + "Female",): F(85, 100), (SARC + "Male",): F(1)}.get(sex)
    value, weight = results[0].value, weights[0].value
    if weighed > day or factor is None or value is None or weight is None:
        return None
    if results[0].unit not in CREATININE or weights[0].unit not in KILOGRAMS:
        return None
    in_umol = F(value) * CREATININE[results[0].unit]
    kilograms = F(weight) * KILOGRAMS[weights[0].unit]
    if not 1 <= in_umol <= 10000 or not 1 <= kilograms <= 700:
        return None
    in_mg = in_umol / CREATININE["mg/dL"]
    return (140 - age(born, day)) * kilograms * factor / (72 * in_mg) >= 50


def age(born: date, day: date) -> int:
    return day.year - born.year - ((day.month, day.day) < (born.month, born.day))


def of_age(plain: Plain) -> bool | None:
    births = plain.of("Birth")
    if len(births) != 1 or births[0].status not in CONFIRMED or plain.codes_unclear:
        return None
    born = day_of(births[0])
    return None if born is None or born > plain.entry else age(born, plain.entry) >= 18


def diameter(plain: Plain, sign: str, by_mri: bool) -> bool | None:
    """The longest diameter of the index tumour in the 28 days before entry: > 5 cm by any
    means, >= 5 cm by magnetic resonance."""
    if plain.numbers_unclear or any(f.tumour for f in plain.facts):
        return None
    # Once the tumour is out, baseline is the day before.
    if plain.codes_unclear or plain.of("TumourResection", "MajorTumourResection", *MAJOR_SURGERY):
        return None
    if plain.of(*PROCEDURES_UNCLEAR, "TumourFinding"):
        return None
    measured = []
    for fact in plain.of("TumourLongestDiameter"):
        subject, method = axis(fact, "subject"), axis(fact, "method")
        if subject != "IndexTumour":
            return None
        if by_mri and method != "MRI":
            return None
        measured.append(fact)
    results = newest(plain, measured, 28)
    if results is None:
        return None
    return agreed(compared(f, sign, F(5), CENTIMETRES, (0, 100)) for f in results)


def consent(plain: Plain) -> bool | None:
    """Signed before the first step of the study: the first procedure, or the end of entry's day."""
    given = plain.of("InformedConsent")
    steps = plain.of("StudySpecificProcedure")
    if plain.codes_unclear or plain.asked & {"I09", "I09b", "question-consent-signed"}:
        return None
    if not treatment_starts_at_entry(plain) or plain.of(*STUDY_TREATMENT, *MAYBE_RESECTION):
        return None
    for fact in (*given, *steps):
        if fact.status not in CONFIRMED or day_of(fact) is None or minute_of(fact) is not None:
            return None
        if fact.kind is not None:
            return None
    if any(f.value_concepts != (SARC + "ConsentInForce",) for f in given):
        return None
    signed = [d for f in given if (d := day_of(f)) is not None and d <= plain.entry]
    if not signed:
        return None
    started = [d for f in steps if (d := day_of(f)) is not None and d <= plain.entry]
    if not started:
        return True  # by the end of the day of entry
    if min(signed) == min(started):
        return None
    return min(signed) < min(started)


# -- windows ---------------------------------------------------------------------------------------
def of_window(plain: Plain, rule: Exclusion, clause: str) -> bool | None:
    last = plain.entry - timedelta(days=1) if rule.before else plain.entry
    first = months_back(plain.entry, rule.months) - timedelta(days=rule.days)
    if rule.from_treatment and not treatment_starts_at_entry(plain):
        return None
    silent = not plain.codes_unclear and not plain.asked & set(rule.about)
    covered = all(any(complete(plain, s) for s in scope) for scope in rule.scopes)
    for names, fact in plain.named:
        may_be = names & (rule.names | rule.unclear) or (clause == "E10a" and may_be_cancer(names))
        if not may_be:
            continue
        when = place(plain, fact, first, last, rule.by_start)
        if clause == "E15" and axis(fact, "study") == TRIAL + "study":
            continue
        if clause == "E10a" and axis(fact, "subject") == "IndexTumour":
            continue
        certain = len(names) == 1 and names <= rule.names and fact.kind in KINDS[clause]
        if clause == "E15":
            certain = certain and axis(fact, "study") is not None
        if clause == "E10a":
            certain = certain and (
                axis(fact, "subject") == "OtherTumour"
                or not any(a == SARC + "subject" for a, _ in fact.axes)
            )
        if when == "inside" and certain and fact.status in CONFIRMED:
            return False
        if when != "outside" or fact.status not in CONFIRMED:
            silent = False
    return True if silent and covered else None


KINDS: dict[str, set[str | None]] = {
    "I07b": {None, SARC + "Procedure"},
    "E12": {None, SARC + "Procedure"},
    "E14a": {None, SARC + "Procedure"},
    "E07b": {None, SARC + "Condition"},
    "E10a": {None, SARC + "Condition"},
    "E15": {None, SARC + "StudyParticipation"},
    "E01": {None},
}


def may_be_cancer(names: set[str]) -> bool:
    return any(NOT_CANCER_WORDS.search(n) for n in names)


def treatment_starts_at_entry(plain: Plain) -> bool:
    """Whether nothing on record moves the start of treatment away from the day of entry."""
    if plain.of("PlannedTreatmentStart"):
        return False
    for names, fact in plain.named:
        if not names & (STUDY_TREATMENT | MAJOR_SURGERY | {"?"}):
            continue
        if fact.start is None or _day(fact.start.text) is None:
            return False
        # An index resection before entry is none of the plain cases here.
        start = _day(fact.start.text)
        assert start is not None
        if axis(fact, "resectionRole") == "IndexResection" and start <= plain.entry:
            return False
        if names & MAYBE_RESECTION and abs((plain.entry - start).days) <= 28:
            return False
    return True


def place(plain: Plain, fact: Fact, first: date, last: date, by_start: bool) -> str:
    """Return whether a fact lies inside or outside a window, or whether that is open."""
    start = None if fact.start is None else _day(fact.start.text)
    if start is None:
        return "open"
    if start > plain.entry:
        return "outside"
    if first <= start <= last:
        return "inside"
    if start > last:
        return "outside"
    if by_start:
        return "outside"
    end = None if fact.end is None else _day(fact.end.text)
    if fact.end is fact.start:
        return "outside"
    if fact.end is None and fact.ongoing:
        return "inside"
    if end is None:
        return "open"
    return "inside" if end >= first else "outside"


def complete(plain: Plain, scope: str) -> bool:
    """Whether somebody says without more ado that the record is complete up to entry."""
    for fact in plain.statements:
        end = None if fact.end is None else _day(fact.end.text)
        whole = fact.status in CONFIRMED and fact.start is None and fact.concepts == (SARC + scope,)
        if whole and end is not None and end >= plain.entry:
            return True
    return False


# -- electrocardiograms ----------------------------------------------------------------------------
def prolonged(plain: Plain) -> dict[str, bool]:
    """None above 470 ms (E11a2); no two above 470 ms within 24 hours (E11a1); resting recordings
    of the last 14 days."""
    if plain.numbers_unclear:
        return {}
    counted: list[tuple[date, int | None, bool]] = []
    for fact in plain.of("QTc"):
        day = day_of(fact)
        if day is None or fact.status not in CONFIRMED or fact.kind is not None:
            return {}
        if axis(fact, "method") != "RestingECG":
            return {}
        if not plain.entry - timedelta(days=14) <= day <= plain.entry:
            continue
        good = compared(fact, "<=", F(470), MILLISECONDS, (100, 1500))
        if good is None:
            return {}
        counted.append((day, minute_of(fact), not good))
    if not counted:
        return {}
    long = [(d, m) for d, m, is_long in counted if is_long]
    found = {"E11a2": not long}
    asked = plain.asked & {"E11", "E11a1", "question-qtc-over-470-twice"}
    if len(long) <= 1:
        if not asked:
            found["E11a1"] = True
        return found
    gaps = [
        None if m is None or n is None else abs(m - n)
        for i, (_, m) in enumerate(long)
        for _, n in long[i + 1 :]
    ]
    if any(g is not None and 0 < g <= 1440 for g in gaps):
        found["E11a1"] = False
    elif not asked and all(g is not None and g > 1440 for g in gaps):
        found["E11a1"] = True
    return found


# -- the whole -------------------------------------------------------------------------------------
def says(record: PatientRecord) -> dict[str, bool]:
    """Return what the oracle says: clause to whether it passes; a clause on which it is silent is
    not among them."""
    plain = Plain(record)
    answers: dict[str, bool | None] = dict(prolonged(plain))
    for clause, limit in LIMITS.items():
        if clause == "I07i":
            answers[clause] = clearance(plain)
        elif clause == "I10" and plain.asked & {"I10", "question-life-expectancy-2-years"}:
            answers[clause] = None
        else:
            answers[clause] = of_limit(plain, limit)
    for clause, exclusion in EXCLUSIONS.items():
        answers[clause] = of_window(plain, exclusion, clause)
    answers["I03"] = of_age(plain)
    answers["I04a"] = diameter(plain, ">", by_mri=False)
    answers["I06b"] = diameter(plain, ">=", by_mri=True)
    answers["I09b"] = consent(plain)
    return {clause: answer for clause, answer in answers.items() if answer is not None}


@dataclass
class Comparison:
    """How often the oracle passed and failed each clause, and where it says otherwise."""

    passed: dict[str, int]
    failed: dict[str, int]
    differences: list[str]


def compare(
    records: Iterable[PatientRecord], outcome: Callable[[PatientRecord, str], str]
) -> Comparison:
    """Hold the oracle against ``outcome(record, clause id)``: "pass", "fail" or another word."""
    result = Comparison(dict.fromkeys(COVERED, 0), dict.fromkeys(COVERED, 0), [])
    for record in records:
        for clause, passes in says(record).items():
            (result.passed if passes else result.failed)[clause] += 1
            told, wanted = outcome(record, clause), "pass" if passes else "fail"
            if told != wanted:
                result.differences.append(f"{record.label} {clause}: {told}, by hand {wanted}")
    return result
