"""The data that would settle a verdict: as few items as possible, and enough of them."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from sarc_kb.to_decide import fewest

OPTIONS = st.dictionaries(
    st.text("abcdefg", min_size=1, max_size=2),
    st.lists(st.sampled_from("123456"), min_size=1, max_size=3, unique=True).map(tuple),
    max_size=7,
)


@settings(max_examples=300, deadline=None)
@given(OPTIONS)
def test_fewest_is_a_smallest_cover(options: dict[str, tuple[str, ...]]) -> None:
    chosen = fewest(options)
    assert all(set(o) & set(chosen) for o in options.values())
    keys = sorted({k for o in options.values() for k in o})
    smaller = (c for n in range(len(chosen)) for c in combinations(keys, n))
    assert not any(all(set(o) & set(c) for o in options.values()) for c in smaller)
