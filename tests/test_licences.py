"""Licences of packages and files: expressions, fields, texts and tags."""

from __future__ import annotations

from email.message import Message
from typing import Any, cast

import pytest

from align.fim.licences import (
    allowed,
    licence_of_package,
    licence_tag,
    spdx_of_name,
    spdx_of_text,
)
from tests.licence_texts import GPL, MIT


@pytest.mark.parametrize(
    ("licence", "ok"),
    [
        ("MIT", True),
        ("mit", True),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("(MIT OR Apache-2.0) AND BSD-3-Clause", True),
        ("GPL-3.0-only WITH Classpath-exception-2.0", False),
        ("NOASSERTION", False),
        ("no licence at all (", False),
    ],
)
def test_an_expression_is_met_or_not(licence: str, ok: bool) -> None:
    assert allowed(licence, ["MIT", "BSD-3-Clause"]) is ok


def metadata(**fields: str) -> Any:
    message = Message()
    for name, value in fields.items():
        message[name.replace("_", "-")] = value

    class Optional:
        """Package metadata as importlib gives it: None for a field that is not there."""

        def __getitem__(self, name: str) -> Any:
            return message.get(name)

        def get_all(self, name: str) -> Any:
            return message.get_all(name)

    return cast(Any, Optional())


@pytest.mark.parametrize(
    ("fields", "licence"),
    [
        ({"License_Expression": "MIT"}, "MIT"),
        ({"License_Expression": "MPL-2.0 AND MIT"}, "MPL-2.0 AND MIT"),
        ({"License": "BSD-3-Clause"}, "BSD-3-Clause"),
        ({"License": "Apache 2.0"}, "Apache-2.0"),
        ({"Classifier": "License :: OSI Approved :: Apache Software License"}, "Apache-2.0"),
        ({"License": "GPLv3"}, "GPL-2.0-or-later"),
        (
            {"License": "LGPL", "Classifier": "License :: OSI Approved :: MIT License"},
            "LGPL-2.1-or-later AND MIT",
        ),
        ({"License": "see file"}, "NOASSERTION"),
        ({}, "NOASSERTION"),
    ],
)
def test_a_package_s_licence_is_what_all_its_fields_say(
    fields: dict[str, str], licence: str
) -> None:
    assert licence_of_package(metadata(**fields)) == licence


def test_licences_are_read_out_of_texts_and_tags() -> None:
    assert (spdx_of_text(MIT), spdx_of_text(GPL)) == ("MIT", "GPL-2.0-or-later")
    # The GNU and Mozilla licences name one another further down.
    gpl = f"{GPL}\nThe GNU Lesser General Public License, the GNU Affero General Public License."
    mpl = "Mozilla Public License Version 2.0\n1.12. the GNU Affero General Public License"
    assert (spdx_of_text(gpl), spdx_of_text(mpl)) == ("GPL-2.0-or-later", "MPL-2.0")
    assert spdx_of_text(f"{MIT}\nParts are under the GNU General Public License.") != "MIT"
    assert spdx_of_name("UNLICENSED") == "LicenseRef-proprietary"
    assert spdx_of_name("The Unlicense") == "Unlicense"
    assert spdx_of_text("do what you like") == "NOASSERTION"
    assert (
        licence_tag(b"/* SPDX-License-Identifier: (MIT OR Apache-2.0) */\n") == "MIT OR Apache-2.0"
    )
    assert licence_tag(b"x = 1\n") is None
