"""A team's own mappings: texts, linkIds, codes and units that lead to terms, nothing guessed."""

from __future__ import annotations

import unicodedata
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sarc_kb.namespaces import LINK_ID, TEXT, fold_text, link_id_iri, text_iri


# -- texts -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "other",
    [
        "tumor growth type on mri",
        "TUMOR GROWTH TYPE ON MRI",
        "  Tumor\tgrowth\u00a0type\r\non   MRI ",
        "Ｔｕｍｏｒ growth type on MRI",
    ],
)
def test_a_text_is_known_however_it_is_cased_and_spaced(other: str) -> None:
    assert text_iri(other) == text_iri("Tumor growth type on MRI")


@pytest.mark.parametrize(
    "other",
    ["Tumor growth type", "Tumor growth type on MRI.", "Tumour growth type on MRI", "Tumor-growth"],
)
def test_no_other_text_is_taken_for_it(other: str) -> None:
    assert text_iri(other) != text_iri("Tumor growth type on MRI")


def test_composed_and_decomposed_letters_are_one() -> None:
    for text in ("Größe", "Ångström", "é", "İ", "µmol"):
        forms = {text_iri(unicodedata.normalize(f, text)) for f in ("NFC", "NFD", "NFKC", "NFKD")}
        assert len(forms) == 1, text
    assert text_iri("\u00b5mol") == text_iri("\u03bcmol")  # micro sign, Greek mu


@given(st.text())
def test_folding_twice_changes_nothing_and_case_never_counts(text: str) -> None:
    folded = fold_text(text)
    assert fold_text(folded) == folded
    assert fold_text(text.casefold()) == folded
    assert folded == " ".join(folded.split())


@given(st.text(), st.text())
def test_texts_share_an_iri_only_if_they_fold_alike(one: str, two: str) -> None:
    assert (text_iri(one) == text_iri(two)) == (fold_text(one) == fold_text(two))
    assert unquote(text_iri(one).removeprefix(TEXT)) == fold_text(one)


@given(st.text(), st.text())
def test_link_ids_are_kept_apart(one: str, two: str) -> None:
    assert (link_id_iri(one) == link_id_iri(two)) == (one == two)
    assert unquote(link_id_iri(one).removeprefix(LINK_ID)) == one
    assert not set(link_id_iri(one)) & set(' <>"{}|\\^`\n')


def test_half_a_character_as_json_may_hold_stops_nothing() -> None:
    assert text_iri("a\ud83d") != text_iri("a")
    assert link_id_iri("a\ud83d") != link_id_iri("a")
