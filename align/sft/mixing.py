"""The rows of one pass, by the share of each source: of the rows, or of the tokens."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from align.errors import InputError, RecipeError
from align.settings import SftSettings
from align.sft.rows import TokenRow


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
    """Chooses the rows of one pass, in a random order.

    Without shares every row is taken once, or a random `max_rows` of them. With shares each source
    gives its part of `max_rows` or `max_tokens` (or of all there are): a random choice of it, or,
    where it is too short, all of it as often as it fits and a random choice for the rest.

    Raises:
        InputError: A source with a share, or all of them, are empty.
        RecipeError: The shares do not fit the sources.
    """
    if not any(sources.values()):
        raise InputError(
            f"no row is left to train on in {', '.join(sorted(sources)) or 'the inputs'}: the "
            "tables are empty, or every row is bad or longer than max_length; the run's log names "
            "each"
        )
    chooser = random.Random(seed)
    names = sorted(sources)
    if settings.mix_by == "tokens":
        rows = _by_tokens(sources, settings, chooser)
    elif settings.mix:
        total = settings.max_rows or sum(map(len, sources.values()))
        counts = _split(_shares(sources, settings), total)
        rows = [row for name in names for row in _choose(sources[name], counts[name], chooser)]
    else:
        rows = [row for name in names for row in sources[name]]
    if not rows:
        raise InputError(
            "no row is left to train on: max_rows or max_tokens is smaller than every row"
        )
    chooser.shuffle(rows)
    if not settings.mix and settings.max_rows is not None:
        rows = rows[: settings.max_rows]
    source_of = {id(row): name for name, given in sources.items() for row in given}
    used: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    for row in rows:
        used[source_of[id(row)]] += 1
        tokens[source_of[id(row)]] += _length(row)
    return Mixed(rows, {n: used[n] for n in sources}, {n: tokens[n] for n in sources})


def _shares(sources: Mapping[str, Sequence[TokenRow]], settings: SftSettings) -> dict[str, float]:
    """Returns each source's share of the whole, by name in order."""
    given = settings.mix
    if set(given) != set(sources) or not sum(given.values()) > 0:
        raise RecipeError(
            f"mix: give one share for each input ({', '.join(sorted(sources))}), not for "
            f"{', '.join(given) or 'none'}; together they must be more than 0"
        )
    for name, share in given.items():
        if share > 0 and not sources[name]:
            raise InputError(f"mix.{name} is above 0, but that input has no usable row")
    return {name: given[name] / sum(given.values()) for name in sorted(given)}


def _split(shares: Mapping[str, float], total: int) -> dict[str, int]:
    """Splits a total by the shares, rounding by largest remainder."""
    exact = {name: total * share for name, share in shares.items()}
    counts = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (counts[name] - exact[name], name))
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def _choose(rows: Sequence[TokenRow], count: int, chooser: random.Random) -> list[TokenRow]:
    if not count:
        return []
    whole, rest = divmod(count, len(rows))
    return [*(list(rows) * whole), *chooser.sample(list(rows), rest)]


def _by_tokens(
    sources: Mapping[str, Sequence[TokenRow]], settings: SftSettings, chooser: random.Random
) -> list[TokenRow]:
    shares = _shares(sources, settings)
    total = settings.max_tokens or sum(_length(row) for rows in sources.values() for row in rows)
    return [
        row
        for name, share in shares.items()
        for row in _worth(sources[name], round(total * share), chooser)
    ]


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
