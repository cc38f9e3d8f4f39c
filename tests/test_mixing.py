"""Mixing by rows and by tokens: exact shares, the same for the same seed."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from align.chat import IGNORED, Encoded
from align.errors import InputError, RecipeError
from align.settings import SftSettings
from align.sft.mixing import mix
from align.sft.rows import TokenRow

LENGTHS = st.lists(st.integers(2, 60), min_size=1, max_size=40)


def rows(name: str, lengths: list[int]) -> list[TokenRow]:
    return [
        TokenRow(f"{name}{n}", Encoded([1] * length, [IGNORED] + [1] * (length - 1)), 1.0)
        for n, length in enumerate(lengths)
    ]


def tokens_of(chosen: list[TokenRow], name: str) -> int:
    return sum(len(r.encoded.input_ids) for r in chosen if r.row_id.startswith(name))


@given(LENGTHS, LENGTHS, st.floats(0.01, 0.99), st.integers(120, 4000), st.integers(0, 99))
def test_each_source_gives_its_share_of_the_tokens(
    fim: list[int], chat: list[int], share: float, total: int, seed: int
) -> None:
    sources = {"fim": rows("fim", fim), "fine": rows("fine", chat)}
    settings = SftSettings(mix={"fim": share, "fine": 1 - share}, mix_by="tokens", max_tokens=total)
    mixed = mix(sources, settings, seed)
    for name, part, lengths in (("fim", share, fim), ("fine", 1 - share, chat)):
        assert mixed.tokens[name] == tokens_of(mixed.rows, name)
        assert abs(mixed.tokens[name] - total * part) <= max(lengths) / 2 + 1
        uses = Counter(r.row_id for r in mixed.rows if r.row_id.startswith(name))
        assert mixed.used[name] == uses.total()
        counts = [uses[row.row_id] for row in sources[name]]
        assert max(counts) - min(counts) <= 1, "no row again before each was taken"
    again = mix(sources, settings, seed)
    assert [r.row_id for r in again.rows] == [r.row_id for r in mixed.rows]


def test_many_rows_give_shares_to_the_token() -> None:
    sources = {"fim": rows("fim", [5, 7, 9, 11] * 200), "fine": rows("fine", [3, 40, 90] * 200)}
    settings = SftSettings(mix={"fim": 0.3, "fine": 0.7}, mix_by="tokens", max_tokens=10_000)
    mixed = mix(sources, settings, 1)
    assert abs(mixed.tokens["fim"] - 3000) <= 2 and abs(mixed.tokens["fine"] - 7000) <= 1
    assert mixed.rows != sorted(mixed.rows, key=lambda row: row.row_id)


def test_a_mix_that_can_t_be_made_is_explained() -> None:
    sources = {"fim": rows("fim", [5]), "fine": []}
    with pytest.raises(InputError, match=r"mix\.fine is above 0"):
        mix(sources, SftSettings(mix={"fim": 1.0, "fine": 1.0}, mix_by="tokens"), 0)
    with pytest.raises(RecipeError, match="not for none"):
        mix(sources, SftSettings(mix_by="tokens"), 0)
    with pytest.raises(InputError, match="smaller than every row"):
        mix({"a": rows("a", [50])}, SftSettings(mix={"a": 1.0}, mix_by="tokens", max_tokens=20), 0)


def test_a_bound_that_would_do_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="max_tokens, not by max_rows"):
        SftSettings(mix_by="tokens", max_rows=3)
    with pytest.raises(ValidationError, match="set mix_by to tokens"):
        SftSettings(max_tokens=60)


def test_a_short_source_is_repeated_evenly() -> None:
    sources = {"big": rows("b", [2] * 50), "small": rows("s", [2] * 4)}
    settings = SftSettings(mix={"big": 0.5, "small": 0.5}, max_rows=21)
    mixed = mix(sources, settings, 3)
    assert sum(mixed.used.values()) == len(mixed.rows) == 21
    assert abs(mixed.used["big"] - mixed.used["small"]) == 1
    uses = Counter(row.row_id for row in mixed.rows)
    assert {uses[row.row_id] for row in sources["small"]} <= {2, 3}
    assert max(uses[row.row_id] for row in sources["big"]) == 1
    assert mixed.rows == mix(sources, settings, 3).rows
    assert mixed.rows != mix(sources, settings, 4).rows


def test_without_shares_every_row_is_taken_once() -> None:
    sources = {"a": rows("a", [2] * 5), "b": rows("b", [2] * 3)}
    mixed = mix(sources, SftSettings(), 1)
    assert sorted(row.row_id for row in mixed.rows) == sorted(
        row.row_id for source in sources.values() for row in source
    )
    assert mixed.used == {"a": 5, "b": 3}
    mixed = mix(sources, SftSettings(max_rows=4), 1)
    assert len({row.row_id for row in mixed.rows}) == sum(mixed.used.values()) == 4


@pytest.mark.parametrize("by", ["rows", "tokens"])
def test_shares_that_do_not_fit_the_sources_are_refused(by: str) -> None:
    sources = {"a": rows("a", [2] * 5), "b": []}

    def settings(shares: dict[str, float]) -> SftSettings:
        return SftSettings.model_validate({"mix": shares, "mix_by": by})

    with pytest.raises(RecipeError, match="one share for each input"):
        mix(sources, settings({"a": 1.0}), 1)
    with pytest.raises(InputError, match=r"mix\.b"):
        mix(sources, settings({"a": 0.5, "b": 0.5}), 1)
    with pytest.raises(InputError, match="no row is left"):
        mix({"a": [], "b": []}, settings({"a": 0.5, "b": 0.5}), 1)
