"""The rows of one pass, by the share of each source: of the rows, or of the tokens."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from align.errors import InputError, RecipeError
from align.settings import SftSettings
from align.sft.rows import TokenRow, mix_rows


@dataclass(frozen=True)
class Mixed:
    """The rows of one pass in their order, and how much of it each source gives.

    Attributes:
        used: Rows by source.
        tokens: Tokens by source.
    """

    rows: list[TokenRow]
    used: dict[str, int]
    tokens: dict[str, int]


def mix(sources: Mapping[str, Sequence[TokenRow]], settings: SftSettings, seed: int) -> Mixed:
    """Chooses the rows of one pass.

    Raises:
        InputError: A source with a share, or all of them, are empty.
        RecipeError: The shares do not fit the sources.
    """
    if settings.mix_by == "tokens":
        rows = _by_tokens(sources, settings, seed)
    else:
        rows, _ = mix_rows(sources, settings.mix, settings.max_rows, seed)
    source_of = {id(row): name for name, given in sources.items() for row in given}
    used: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    for row in rows:
        used[source_of[id(row)]] += 1
        tokens[source_of[id(row)]] += _length(row)
    return Mixed(rows, {n: used[n] for n in sources}, {n: tokens[n] for n in sources})


def _by_tokens(
    sources: Mapping[str, Sequence[TokenRow]], settings: SftSettings, seed: int
) -> list[TokenRow]:
    shares = settings.mix
    if set(shares) != set(sources) or not sum(shares.values()) > 0:
        raise RecipeError(
            f"mix: give one share for each input ({', '.join(sorted(sources))}), not for "
            f"{', '.join(shares) or 'none'}; together they must be more than 0"
        )
    if settings.max_rows is not None:
        raise RecipeError("a mix by tokens is cut by max_tokens, not by max_rows")
    available = {name: sum(map(_length, rows)) for name, rows in sources.items()}
    if empty := [name for name, share in shares.items() if share > 0 and not available[name]]:
        raise InputError(f"mix.{empty[0]} is above 0, but that input has no usable row")
    total = settings.max_tokens or sum(available.values())
    chooser = random.Random(seed)
    chosen: list[TokenRow] = []
    for name in sorted(sources):
        target = round(total * shares[name] / sum(shares.values()))
        chosen += _worth(sources[name], target, chooser)
    chooser.shuffle(chosen)
    return chosen


def _worth(rows: Sequence[TokenRow], target: int, chooser: random.Random) -> list[TokenRow]:
    """Returns rows of so many tokens, at most half of the shortest unused row more or less.

    All of them as often as they fit, then a random choice, its last row the one that fits best.
    """
    if not rows or not target:
        return []
    whole, left = divmod(target, sum(map(_length, rows)))
    chosen = list(rows) * whole
    unused = []
    for row in chooser.sample(list(rows), len(rows)):
        if _length(row) <= left:
            chosen.append(row)
            left -= _length(row)
        else:
            unused.append(row)
    nearest = min(unused, key=lambda row: abs(_length(row) - left), default=None)
    if nearest is not None and abs(_length(nearest) - left) < left:
        chosen.append(nearest)
    return chosen


def _length(row: TokenRow) -> int:
    return len(row.encoded.input_ids)
