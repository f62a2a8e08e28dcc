"""Dates and units against calendars and arithmetic done another way."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sarc_kb.dates import (
    FOREVER,
    NEVER,
    completed_years,
    iso,
    months_before,
    parse_date,
)
from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import SARC
from sarc_kb.terminology import Quantity, fold_unit, respelled
from sarc_kb.units import ANYTHING, INFINITY, Interval, ratio, read_number, to_canonical

days = st.dates(date(1800, 1, 1), date(2200, 12, 31))


# -- months ----------------------------------------------------------------------------------------
def walked_back(day: date, months: int) -> date:
    """Go back day by day until ``months`` first-of-month days lie behind, then to the same day of
    the month, or to the last where there is none."""
    here = day
    for _ in range(months):
        here = here.replace(day=1) - timedelta(days=1)
    while here.day > day.day:
        here -= timedelta(days=1)
    return here


@settings(max_examples=300, deadline=None)
@given(days, st.integers(0, 240))
def test_months_before_is_a_walk_on_the_calendar(day: date, months: int) -> None:
    assert months_before(day.toordinal(), months) == walked_back(day, months).toordinal()


@settings(max_examples=300, deadline=None)
@given(days, st.integers(0, 240))
def test_going_back_keeps_the_day_or_ends_the_month(day: date, months: int) -> None:
    back = date.fromordinal(months_before(day.toordinal(), months))
    assert (day.year - back.year) * 12 + day.month - back.month == months
    assert back.day == day.day or (back.day < day.day and (back + timedelta(days=1)).day == 1)


@settings(max_examples=300, deadline=None)
@given(days, days, st.integers(0, 60))
def test_going_back_keeps_the_order_of_days(one: date, other: date, months: int) -> None:
    first, last = sorted((one.toordinal(), other.toordinal()))
    assert months_before(first, months) <= months_before(last, months)
    assert months_before(first, months) >= months_before(first, months + 1)


@pytest.mark.parametrize(
    ("day", "months", "expected"),
    [
        ("2024-03-31", 1, "2024-02-29"), ("2023-03-31", 1, "2023-02-28"), ("2024-02-29", 12, "2023-02-28"),
        ("2024-02-29", 48, "2020-02-29"), ("1904-02-29", 48, "1900-02-28"), ("2000-02-29", 1200, "1900-02-28"),
        ("2024-12-31", 1, "2024-11-30"), ("2024-01-15", 1, "2023-12-15"), ("2024-05-31", 3, "2024-02-29"),
        ("2024-08-31", 6, "2024-02-29"), ("2024-01-31", 0, "2024-01-31"), ("2024-10-31", 12, "2023-10-31"),
    ],
)  # fmt: skip
def test_ends_of_months_and_leap_days(day: str, months: int, expected: str) -> None:
    assert iso(months_before(date.fromisoformat(day).toordinal(), months)) == expected


def test_before_the_calendar_is_ever_and_open_ends_stay_open() -> None:
    first = date.min.toordinal()
    assert months_before(first, 0) == first
    assert months_before(first, 1) == NEVER
    assert months_before(date(2024, 3, 1).toordinal(), 10**9) == NEVER
    for open_end in (NEVER, FOREVER, first - 1, date.max.toordinal() + 1):
        assert months_before(open_end, 6) == open_end
    assert (iso(NEVER), iso(first - 1), iso(first)) == ("ever", "ever", "0001-01-01")
    assert (iso(FOREVER), iso(date.max.toordinal() + 1), iso(date.max.toordinal())) == (
        "open",
        "open",
        "9999-12-31",
    )


# -- age -------------------------------------------------------------------------------------------
def birthdays(born: date, day: date) -> int:
    """Count the days after birth, up to ``day``, on which a year is completed."""
    count = 0
    for year in range(born.year + 1, day.year + 1):
        try:
            completed = born.replace(year=year)
        except ValueError:
            completed = date(year, 3, 1)
        count += completed <= day
    return count


@settings(max_examples=300, deadline=None)
@given(days, days)
def test_completed_years_counts_birthdays(one: date, other: date) -> None:
    born, day = sorted((one, other))
    assert completed_years(born.toordinal(), day.toordinal()) == birthdays(born, day)


@pytest.mark.parametrize(
    ("born", "day", "years"),
    [
        ("2006-03-01", "2024-02-29", 17), ("2006-03-01", "2024-03-01", 18), ("2004-02-29", "2022-02-28", 17),
        ("2004-02-29", "2022-03-01", 18), ("2004-02-29", "2024-02-29", 20), ("2024-03-01", "2024-03-01", 0),
        ("2005-12-31", "2023-12-30", 17), ("2005-12-31", "2023-12-31", 18),
    ],
)  # fmt: skip
def test_ages_by_hand(born: str, day: str, years: int) -> None:
    assert (
        completed_years(date.fromisoformat(born).toordinal(), date.fromisoformat(day).toordinal())
        == years
    )


# -- partial dates ---------------------------------------------------------------------------------
@settings(max_examples=200, deadline=None)
@given(st.dates())
def test_a_date_lies_in_its_month_and_its_year(day: date) -> None:
    exact, month, year = (parse_date(day.isoformat()[:n]) for n in (10, 7, 4))
    assert exact.exact
    assert exact.first == exact.last == day.toordinal()
    assert year.first <= month.first <= exact.first <= month.last <= year.last
    # The day before the first and the day after the last are of another month and another year.
    for partial, part in ((month, 7), (year, 4)):
        for edge, outside in ((partial.first, -1), (partial.last, 1)):
            assert date.fromordinal(edge).isoformat()[:part] == day.isoformat()[:part]
            beyond = edge + outside
            if date.min.toordinal() <= beyond <= date.max.toordinal():
                assert date.fromordinal(beyond).isoformat()[:part] != day.isoformat()[:part]


@settings(max_examples=200, deadline=None)
@given(st.dates(), st.integers(0, 1439), st.none() | st.integers(-14 * 60 - 59, 14 * 60 + 59))
def test_a_moment_keeps_its_day_as_written(day: date, minute: int, offset: int | None) -> None:
    zone = ""
    if offset is not None:
        zone = f"{'-' if offset < 0 else '+'}{abs(offset) // 60:02}:{abs(offset) % 60:02}"
    moment = parse_date(f"{day.isoformat()}T{minute // 60:02}:{minute % 60:02}:59.999{zone}")
    assert (moment.first, moment.last, moment.minute, moment.offset) == (
        day.toordinal(),
        day.toordinal(),
        minute,
        offset,
    )


@settings(max_examples=300, deadline=None)
@given(st.text("0123456789-T:Z+. ", max_size=25) | st.text(max_size=12))
def test_what_is_read_as_a_date_is_one(text: str) -> None:
    try:
        partial = parse_date(text)
    except ValueError:
        return
    assert text.isascii()
    assert date.fromordinal(partial.first).isoformat().startswith(text[:10])
    assert date.fromordinal(partial.last).isoformat().startswith(text[:10])


@pytest.mark.parametrize("text", ["2023-02-29", "1900-02-29", "2024-04-31", "2024-00-10", "2024-13-01", "2024-01-00", "0000", "2024-1-1", "24-01-01", "2024-03-01T24:00:00", "2024-03-01T23:60:00", "2024-03-01T23:59:60Z", "2024-03-01T10:00:00+15:00", "2024-03-01T10:00:00+08:60", "2024-03-01Z", "2024-03-01T10", "2024-03-01 10:00:00", "\u0662\u0660\u0662\u0664", "2024\n", ""])  # fmt: skip
@pytest.mark.threat("D6")
def test_days_and_times_that_do_not_exist(text: str) -> None:
    with pytest.raises(ValueError, match=r"no such|not a date"):
        parse_date(text)


# -- units -----------------------------------------------------------------------------------------
numbers = st.decimals(Decimal("0.0001"), Decimal(100000), places=4)
KB = KnowledgeBase.load()
UNITS = [
    pytest.param(quantity, unit, id=f"{term.rpartition('#')[2]} {unit}")
    for term, quantity in sorted(KB.terms.quantities.items())
    for unit in sorted(quantity.accepts)
]


def exactly(value: Decimal, quantity: Quantity, unit: str) -> Fraction:
    factor, divisor = quantity.accepts[unit]
    return Fraction(value) * Fraction(factor) / Fraction(divisor)


def test_there_are_quantities_in_several_units() -> None:
    assert len(UNITS) > 100
    assert sum(len(q.accepts) > 1 for q in KB.terms.quantities.values()) > 20


@pytest.mark.parametrize(("quantity", "unit"), UNITS)
@pytest.mark.threat("D8")
def test_every_unit_says_the_same(quantity: Quantity, unit: str) -> None:
    """A canonical value, written in another unit and read again, is the same value."""
    factor, divisor = quantity.accepts[unit]
    assert factor > 0
    assert divisor > 0
    for canonical in map(Decimal, ("9", "0.1", "123.456", "0.00001", "99999.999")):
        written = Fraction(canonical) * Fraction(divisor) / Fraction(factor)
        # As a decimal of forty digits: what a record can hold.
        scale = 10 ** (40 - len(str(int(written))))
        as_decimal = Decimal(round(written * scale)).scaleb(-(40 - len(str(int(written)))))
        again = to_canonical(as_decimal, unit, quantity, KB.terms)
        assert again is not None
        assert abs(Fraction(again) - Fraction(canonical)) <= Fraction(canonical) / 10**20


@pytest.mark.parametrize(("quantity", "unit"), UNITS)
@pytest.mark.threat("D9")
def test_conversion_rounds_nothing_that_a_decimal_can_hold(quantity: Quantity, unit: str) -> None:
    for text in (
        "8.999999999999999999999999999999999999999",
        "1234567890.123456789012345678901234567891",
    ):
        converted = to_canonical(Decimal(text), unit, quantity, KB.terms)
        assert converted is not None
        expected = exactly(Decimal(text), quantity, unit)
        if quantity.accepts[unit][1] == 1:
            assert Fraction(converted) == expected
        else:
            assert abs(Fraction(converted) - expected) <= expected / 10**90


def test_every_spelling_is_that_of_a_unit() -> None:
    accepted = {u for q in KB.terms.quantities.values() for u in q.accepts}
    for spelling, unit in KB.terms.spellings.items():
        assert unit in accepted
        assert KB.terms.canonical_unit(spelling) == unit
        # A unit is never a spelling of another one.
        assert spelling == unit or spelling not in accepted, spelling


SPELLED = {
    ("Haemoglobin", "9.4", "9.4"): ["g/dL", "g/dl", "G/dL", "gm/dl", "g / dL", "g%", "g/100 ml"],
    ("Haemoglobin", "94", "9.4"): ["g/L", "g/l", "gm/L"],
    ("PlateletCount", "150", "150"): [
        "10*9/L", "10^9/L", "10**9/L", "x10E9/L", "10E9/l", "10e9/L", "×10⁹/L", "10⁹/l", "x10(9)/L",
        "X10^9/L", "x109/L", "G/L", "G/l", "Gpt/l", "10*3/uL", "10^3/µL", "10³/μl", "x10E3/uL",
        "x10(3)/mcL", "10(3)/mcL", "K/uL", "K/ul", "k/µl", "K/mcL", "Thousand/mcL", "thou/uL",
        "10*3/mm3", "10^3/mm^3", "10³/mm³", "K/cumm", "x10^3/cmm", "10*6/mL", "/nL", "1/nl",
    ],
    ("PlateletCount", "150000", "150"): [
        "/uL", "/µl", "/mcL", "cells/µL", "{cells}/uL", "/mm3", "/mm^3", "/mm³", "cells/cumm", "/cmm",
    ],
    ("SerumCreatinine", "88.4", "88.4"): [
        "umol/L", "µmol/L", "μmol/L", "µmol/l", "umol/l", "mcmol/L", "mcmol/l", "micromol/L", "µM",
    ],
    ("SerumCreatinine", "0.0884", "88.4"): ["mmol/L", "mmol/l", "mM"],
    ("ALT", "30", "30"): ["U/L", "U/l", "IU/L", "IU/l", "[IU]/L", "units/L", "mU/mL", "mU/ml", "mIU/mL"],
    ("ALT", "0.5", "30"): ["ukat/L", "µkat/l", "μkat/L", "mckat/L", "µKat/L"],
    ("CreatinineClearance", "60", "60"): ["mL/min", "ml/min", "cc/min", "mL/mn"],
    ("QTc", "450", "450"): ["ms", "msec", "milliseconds"],
    ("QTc", "450000", "450"): ["us", "µs", "μsec"],
    ("TumourLongestDiameter", "6.2", "6.2"): ["cm", "Cm", "centimeters"],
    ("BodyWeight", "70", "70"): ["kg", "Kg", "kgs"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "expected", "unit"),
    [(*key, unit) for key, units in SPELLED.items() for unit in units],
)
@pytest.mark.threat("D8")
def test_spellings_met_in_records(name: str, value: str, expected: str, unit: str) -> None:
    quantity = KB.terms.quantity_of(str(SARC[name]))
    assert quantity is not None, name
    reading = read_number(Decimal(value), None, unit, quantity, KB.terms)
    assert reading.problem == ""
    assert reading.interval.lo == reading.interval.hi == Decimal(expected)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("PlateletCount", "M/uL"),  # millions: a count of red cells
        ("PlateletCount", "10*12/L"),
        ("PlateletCount", "10*9"),
        ("PlateletCount", "10*9/dL"),
        ("Haemoglobin", "mmol/L"),  # another quantity, with a code of its own
        ("CreatinineClearance", "mL/min/1.73m2"),  # indexed: no clearance
        ("eGFR", "mL/min"),
        ("SerumCreatinine", "mmol"),
        ("ALT", "kU/L"),
        ("TumourLongestDiameter", "c"),
    ],
)
@pytest.mark.threat("D8")
def test_a_unit_of_something_else_is_no_number(name: str, unit: str) -> None:
    quantity = KB.terms.quantity_of(str(SARC[name]))
    assert quantity is not None, name
    reading = read_number(Decimal(10), None, unit, quantity, KB.terms)
    assert "unit" in reading.problem
    assert not reading.interval.known


def test_respelling_leaves_what_ucum_writes_alone() -> None:
    accepted = {u for q in KB.terms.quantities.values() for u in q.accepts}
    assert {u for u in accepted if respelled(u) != u} == set()
    for unit in ("Cel", "mol", "cal", "[lb_av]", "{cells}/uL", "{lesions}", "fL", "kg/m2", "10*-3"):
        assert respelled(unit) == unit


@given(st.text(st.sampled_from("10*^eE()xX×/μucmdlLgokat.{}[]_ 3")))
def test_respelling_twice_changes_nothing(text: str) -> None:
    once = respelled(fold_unit(text))
    assert KB.terms.canonical_unit(once) == KB.terms.canonical_unit(text) or (
        # What is listed as it stands is never respelled first.
        fold_unit(text) in KB.terms.spellings
    )


@pytest.mark.threat("D8")
def test_a_unit_nobody_lists_is_never_guessed() -> None:
    for quantity in KB.terms.quantities.values():
        for unit in ("furlong", "g/DLL", "mol/mol/mol", " ", "[", "\x00"):
            if KB.terms.canonical_unit(unit):
                assert read_number(Decimal(1), None, unit, quantity, KB.terms).interval == ANYTHING
        without = read_number(Decimal(1), None, None, quantity, KB.terms)
        assert (without.problem == "no unit") is (quantity.unit != "1"), quantity


def test_a_finding_repeats_a_unit_but_no_text() -> None:
    quantity = Quantity("g/dL", {"g/dL": (Decimal(1), Decimal(1))})
    for unit, shown in (
        ("mol/L", True),
        ("\u00b5g/dl", True),
        ("see the note", False),
        ("x" * 21, False),
        ("Doe\nJane", False),
    ):
        reading = read_number(Decimal(1), None, unit, quantity, KB.terms)
        assert (unit in reading.problem) is shown
        assert reading.problem


# -- intervals -------------------------------------------------------------------------------------
PLAIN = Quantity("1", {"1": (Decimal(1), Decimal(1)), "%": (Decimal(1), Decimal(100))})


def inside(interval: Interval, value: Decimal) -> bool:
    above = value > interval.lo or (value == interval.lo and not interval.lo_open)
    below = value < interval.hi or (value == interval.hi and not interval.hi_open)
    return above and below


@settings(max_examples=300, deadline=None)
@given(numbers, numbers, st.sampled_from([None, "<", "<=", ">", ">="]), st.sampled_from(["1", "%"]))
def test_an_interval_holds_what_the_comparator_says(
    value: Decimal, other: Decimal, comparator: str | None, unit: str
) -> None:
    interval = read_number(value, comparator, unit, PLAIN, KB.terms).interval
    for candidate in (other, value):
        holds = {
            None: candidate == value, "<": candidate < value, "<=": candidate <= value,
            ">": candidate > value, ">=": candidate >= value,
        }[comparator]  # fmt: skip
        assert inside(interval, candidate / (100 if unit == "%" else 1)) == holds


@pytest.mark.parametrize(
    "value", [None, Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), Decimal("-Infinity")]
)
def test_what_is_no_number_is_any_value(value: Decimal | None) -> None:
    reading = read_number(value, "<", "1", PLAIN, KB.terms)
    assert reading.interval == ANYTHING
    assert not reading.interval.known
    assert reading.problem == "not a number"


@pytest.mark.threat("D7")
def test_implausible_and_broken_counts_are_any_value() -> None:
    count = Quantity("1", {"1": (Decimal(1), Decimal(1))}, Decimal(0), Decimal(5), whole=True)
    for text, known in (
        ("0", True),
        ("5", True),
        ("5.0", True),
        ("5.1", False),
        ("6", False),
        ("-1", False),
        ("2.5", False),
    ):
        reading = read_number(Decimal(text), None, "1", count, KB.terms)
        assert (reading.interval == Interval(Decimal(text), Decimal(text))) is known
        assert bool(reading.problem) is not known


@pytest.mark.threat("D7")
def test_plausible_is_judged_in_the_canonical_unit() -> None:
    quantity = Quantity(
        "g/dL",
        {"g/dL": (Decimal(1), Decimal(1)), "g/L": (Decimal("0.1"), Decimal(1))},
        Decimal(1),
        Decimal(30),
    )
    assert read_number(Decimal(90), None, "g/L", quantity, KB.terms).interval == Interval(
        Decimal(9), Decimal(9)
    )
    assert (
        read_number(Decimal(90), None, "g/dL", quantity, KB.terms).problem
        == "not a plausible value"
    )
    assert read_number(Decimal(300), None, "g/L", quantity, KB.terms).problem == ""
    assert (
        read_number(Decimal("300.1"), None, "g/L", quantity, KB.terms).problem
        == "not a plausible value"
    )


bounds = st.tuples(numbers, numbers).map(sorted).map(lambda p: Interval(p[0], p[1]))


@settings(max_examples=300, deadline=None)
@given(bounds, bounds, st.data())
def test_a_ratio_holds_every_quotient(top: Interval, bottom: Interval, data: st.DataObject) -> None:
    result = ratio(top, bottom)
    over = data.draw(st.decimals(top.lo, top.hi, places=4))
    under = data.draw(st.decimals(bottom.lo, bottom.hi, places=4))
    quotient = Fraction(over) / Fraction(under)
    slack = quotient / 10**90
    assert Fraction(result.lo) - slack <= quotient <= Fraction(result.hi) + slack


@settings(max_examples=100, deadline=None)
@given(numbers, numbers)
def test_a_ratio_of_points_is_their_quotient(over: Decimal, under: Decimal) -> None:
    result = ratio(Interval(over, over), Interval(under, under))
    assert result.lo == result.hi
    quotient = Fraction(over) / Fraction(under)
    assert abs(Fraction(result.lo) - quotient) <= quotient / 10**90


def test_a_ratio_keeps_what_is_open_and_knows_nothing_of_nothing() -> None:
    two, four, zero = (Interval(Decimal(n), Decimal(n)) for n in (2, 4, 0))
    below = read_number(Decimal(4), "<", "1", PLAIN, KB.terms).interval
    assert ratio(four, two) == two
    assert ratio(below, two) == Interval(hi=Decimal(2), hi_open=True)
    assert ratio(Interval(lo=Decimal(4)), two) == Interval(lo=Decimal(2))
    for nothing in (
        (ANYTHING, two),
        (four, zero),
        (four, Interval(Decimal(-1), Decimal(2))),
        (four, ANYTHING),
        (four, Interval(Decimal(1), INFINITY)),
    ):
        assert ratio(*nothing) == ANYTHING


def test_the_last_digit_of_a_ratio_decides() -> None:
    forty = Interval(Decimal(40), Decimal(40))
    over = Decimal("100.0000000000000000000000000000000000001")
    assert ratio(Interval(over, over), forty).lo > Decimal("2.5")
