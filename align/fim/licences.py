"""Which licence a file is under: SPDX, from the file, from its folders, from package metadata."""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path

from license_expression import ExpressionError, LicenseExpression, Licensing, get_spdx_licensing

from align.fim.languages import ENDINGS

UNKNOWN = "NOASSERTION"
"""SPDX's word for a licence that nothing states."""

_TAG = re.compile(rb"SPDX-License-Identifier:[ \t]*([A-Za-z0-9.+() -]{2,120})")
TAG_WITHIN = 4096
"""Bytes of a file in which its tag stands."""
_FILES = re.compile(
    r"((un)?licen[cs]es?|copying)\d*([-_.](?!header|template|check|test)[\w.+-]*)?", re.IGNORECASE
)
"""Names of licence texts; `license_header.py` and the like are code about licences."""
_NO_TEXT = frozenset(ending for each in ENDINGS.values() for ending in each) | {
    *(".json", ".yaml", ".yml", ".toml", ".xml", ".in", ".j2", ".tmpl", ".cfg", ".ini"),
}

#: What names a licence in metadata, tried in this order on upper-case text.
_NAMES = (
    (r"AFFERO|AGPL", "AGPL-3.0-or-later"),
    (r"LESSER|LGPL|LIBRARY GENERAL", "LGPL-2.1-or-later"),
    (r"\bGPL|GNU GENERAL|\bGNU\b", "GPL-2.0-or-later"),
    (r"MOZILLA|\bMPL", "MPL-2.0"),
    (r"ECLIPSE|\bEPL", "EPL-2.0"),
    # npm calls a package UNLICENSED that nobody may use; the Unlicense allows everything.
    (r"NVIDIA|PROPRIETARY|COMMERCIAL|ALL RIGHTS RESERVED|\bUNLICENSED\b", "LicenseRef-proprietary"),
    (r"CC-BY|CREATIVE COMMONS", "CC-BY-4.0"),
    (r"APACHE", "Apache-2.0"),
    (r"\b0BSD\b", "0BSD"),
    (r"BSD[- ]?2|SIMPLIFIED BSD|2[- ]CLAUSE", "BSD-2-Clause"),
    (r"\bBSD", "BSD-3-Clause"),
    (r"\bISC\b", "ISC"),
    (r"\bMIT\b|\bEXPAT\b", "MIT"),
    (r"PYTHON SOFTWARE FOUNDATION|\bPSF", "PSF-2.0"),
    (r"\bUNLICENSE\b|PUBLIC DOMAIN", "Unlicense"),
    (r"BOOST", "BSL-1.0"),
    (r"\bZLIB\b", "Zlib"),
)

#: Titles, in lower case with single blanks. These licences name one another: the first named one
#: is the text's own.
_TITLES = (
    ("gnu affero general public license", "AGPL-3.0-or-later"),
    ("gnu lesser general public license", "LGPL-2.1-or-later"),
    ("gnu library general public license", "LGPL-2.1-or-later"),
    ("gnu general public license", "GPL-2.0-or-later"),
    ("mozilla public license", "MPL-2.0"),
    ("eclipse public license", "EPL-2.0"),
)

#: Wording that only one licence has, tried in this order where no title above is named.
_WORDING = (
    ("apache license version 2.0", "Apache-2.0"),
    ("apache license, version 2.0", "Apache-2.0"),
    ("permission is hereby granted, free of charge, to any person obtaining a copy", "MIT"),
    ("neither the name of", "BSD-3-Clause"),
    ("redistributions in binary form must reproduce the above copyright", "BSD-2-Clause"),
    ("permission to use, copy, modify, and/or distribute this software for any purpose", "ISC"),
    ("permission to use, copy, modify, and distribute this software for any purpose", "ISC"),
    ("this is free and unencumbered software released into the public domain", "Unlicense"),
    ("boost software license - version 1.0", "BSL-1.0"),
    ("python software foundation license", "PSF-2.0"),
    ("this software is provided 'as-is', without any express or implied warranty", "Zlib"),
)


def allowed(licence: str, allow: Iterable[str]) -> bool:
    """Tells whether an SPDX expression can be met with the licences of an allow-list.

    One side of an `OR` is enough, every side of an `AND` is needed.
    """
    return licence in (listed := frozenset(allow)) or _allowed(licence, listed)


@lru_cache(maxsize=4096)
def _allowed(licence: str, allow: frozenset[str]) -> bool:
    parsed = _parse(licence)
    return parsed is not None and _met(parsed, {name.upper() for name in allow})


def _met(expression: LicenseExpression, allow: set[str]) -> bool:
    operator = getattr(expression, "operator", "").strip()
    if operator in ("AND", "OR"):
        sides = [_met(side, allow) for side in expression.args]
        return all(sides) if operator == "AND" else any(sides)
    return str(expression).upper() in allow


@lru_cache(maxsize=1024)
def _parse(text: str) -> LicenseExpression | None:
    try:
        return _licensing().parse(text)
    except ExpressionError:
        return None


@cache
def _licensing() -> Licensing:
    return get_spdx_licensing()


def spdx_of_name(name: str) -> str:
    """Returns the SPDX expression for a licence as metadata puts it, `NOASSERTION` if unclear."""
    name = name.strip()
    parsed = _parse(name) if name else None
    if parsed is not None and not _licensing().unknown_license_keys(parsed):
        return str(parsed)
    return next((spdx for words, spdx in _NAMES if re.search(words, name.upper())), UNKNOWN)


def spdx_of_text(text: str) -> str:
    """Returns the SPDX id of a licence's full text, `NOASSERTION` where none is recognised."""
    plain = " ".join(text.lower().split())
    named = [(plain.find(title), spdx) for title, spdx in _TITLES if title in plain]
    if named:
        return min(named)[1]
    return next((spdx for words, spdx in _WORDING if words in plain), UNKNOWN)


def licence_of_package(metadata: importlib.metadata.PackageMetadata) -> str:
    """Returns the licence that a Python package's metadata states; all that are named hold."""
    if expression := metadata["License-Expression"]:
        return spdx_of_name(expression)
    named = [(metadata["License"] or "").strip().split("\n")[0]]
    named += [
        line.rsplit("::", 1)[1]
        for line in metadata.get_all("Classifier") or []
        if line.startswith("License ::") and not line.endswith("OSI Approved")
    ]
    found = sorted({spdx for text in named if (spdx := spdx_of_name(text)) != UNKNOWN})
    return _all_of(found)


def licence_tag(data: bytes) -> str | None:
    """Returns the `SPDX-License-Identifier` that a file states of itself, or None."""
    found = _TAG.search(data[:TAG_WITHIN])
    return spdx_of_name(found[1].decode().strip(" -*/")) if found else None


class FolderLicences:
    """The licences of a repository's folders: the nearest one up to its root holds for a file."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._found: dict[Path, str] = {}

    def of(self, folder: Path) -> str:
        """Returns the licence of the files in a folder below the root."""
        if folder not in self._found:
            own = _stated_in(folder)
            if own == UNKNOWN and folder != self._root:
                own = self.of(folder.parent)
            self._found[folder] = own
        return self._found[folder]


def _stated_in(folder: Path) -> str:
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError:
        return UNKNOWN
    found = [
        spdx_of_text(path.read_text(encoding="utf-8", errors="replace"))
        for path in files
        if _FILES.fullmatch(path.name) and path.suffix.lower() not in _NO_TEXT
    ]
    known = sorted({spdx for spdx in found if spdx != UNKNOWN})
    # Two files may be a choice, but only people can read that: all of them must be allowed.
    return _all_of(known) if known else _stated_by_manifest(folder / "package.json")


def _all_of(licences: Iterable[str]) -> str:
    return " AND ".join(f"({x})" if " OR " in x else x for x in licences) or UNKNOWN


def _stated_by_manifest(manifest: Path) -> str:
    try:
        licence = json.loads(manifest.read_text(encoding="utf-8"))["license"]
    except (OSError, ValueError, KeyError, TypeError):
        return UNKNOWN
    return spdx_of_name(licence) if isinstance(licence, str) else UNKNOWN
