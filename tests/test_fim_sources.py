"""Where source files come from, whose they are, and which of them are left out and why."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import threading
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from align.errors import InputError, RecipeError
from align.fim.corpus import corpus_sha, list_corpus, read_file
from align.fim.cutting import Cutter
from align.fim.filters import fault_of_content, fault_of_name, holds_secret
from align.fim.licences import (
    FolderLicences,
    allowed,
)
from align.fim.sources import open_tree, source_kind
from align.recipe import check_files, load_recipe
from align.settings import FimSettings
from tests.licence_texts import GPL, MIT
from tests.tiny import build_tiny_model


def code(name: str) -> str:
    lines = (f"    total += {name}(value, {n})\n" for n in range(20))
    return f"def use_{name}(values):\n    total = 0\n{''.join(lines)}    return total\n"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


class Skipped:
    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.places: dict[str, str] = {}

    def __call__(self, kind: str, place: str, reason: str) -> None:
        assert reason
        self.kinds[kind] += 1
        self.places[place] = kind


def project(folder: Path) -> Path:
    files = {
        "LICENSE": MIT,
        "a.py": code("alpha"),
        "lib/b.js": "function beta(x) {\n" + "  x += 1;\n" * 40 + "  return x;\n}\n",
        "lib/copied/COPYING": GPL,
        "lib/copied/c.py": code("gamma"),
        "lib/copied/tagged.py": "# SPDX-License-Identifier: GPL-2.0-only\n" + code("delta"),
        "vendor/d.py": code("epsilon"),
        "node_modules/e/e.js": "x\n" * 200,
        "proto_pb2.py": code("zeta"),
        "app.min.js": "x\n" * 200,
        "again.py": code("alpha"),
        "human_eval_copy.py": code("eta"),
        "notes.txt": "plain\n",
        "strict.py": "# SPDX-License-Identifier: GPL-3.0-or-later\n" + code("theta"),
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def settings(source: object, **more: Any) -> FimSettings:
    return FimSettings(corpus=[str(source)], languages=["python", "javascript"], **more)


def test_a_folder_s_files_are_listed_and_the_rest_is_counted(tmp_path: Path) -> None:
    folder = project(tmp_path / "shop")
    skipped = Skipped()
    files, others = list_corpus(settings(folder), skipped)
    assert [(f.repo, f.path, f.language, f.licence) for f in files] == [
        ("shop", "a.py", "python", "MIT"),
        ("shop", "lib/b.js", "javascript", "MIT"),
        ("shop", "strict.py", "python", "MIT"),
    ]
    assert others == {"other_type": 3}
    assert skipped.places == {
        "shop/again.py": "same_content",
        "shop/app.min.js": "minified",
        "shop/human_eval_copy.py": "benchmark",
        "shop/lib/copied/c.py": "licence",
        "shop/lib/copied/tagged.py": "licence",
        "shop/node_modules/e/e.js": "vendored",
        "shop/proto_pb2.py": "generated",
        "shop/vendor/d.py": "vendored",
    }
    read = {f.path: read_file(f, settings(folder), skipped) for f in files}
    assert read["a.py"] == code("alpha").encode()
    assert read["strict.py"] is None and skipped.places["shop/strict.py"] == "licence"
    wider = settings(folder, licences=["MIT", "GPL-2.0-or-later", "GPL-3.0-or-later"])
    assert len(list_corpus(wider, skipped)[0]) == 5


def test_a_file_s_own_tag_comes_before_its_folder_s_licence(tmp_path: Path) -> None:
    folder = project(tmp_path / "shop")
    tagged = "# SPDX-License-Identifier: Apache-2.0\n"
    (folder / "a.py").write_text(tagged + code("own"))
    (folder / "lib" / "copied" / "free.py").write_text(tagged + code("free"))
    files, _ = list_corpus(settings(folder), Skipped())
    licences = {f.path: f.licence for f in files}
    assert licences["lib/copied/free.py"] == "Apache-2.0", "although its folder is not allowed"
    tokenizer = AutoTokenizer.from_pretrained(build_tiny_model(tmp_path / "tiny"))
    few = settings(folder, rows=6, max_middle_tokens=40, lcs_words=None)
    rows = [cut.row for cut in Cutter(files, few, tokenizer, 0, Skipped()).rows()]
    found = {json.loads(row["origin"])["path"]: row["licence"] for row in rows}
    assert found["a.py"] == "Apache-2.0"


def test_code_about_licences_is_no_licence(tmp_path: Path) -> None:
    mit = "Permission is hereby granted, free of charge, to any person obtaining a copy"
    for name in ("license_header.py", "license.js", "license_template.txt", "licenses.json"):
        (tmp_path / name).write_text(mit)
        assert FolderLicences(tmp_path).of(tmp_path) == "NOASSERTION", name
    names = (
        "LICENSE",
        "LICENSE.md",
        "LICENSE-MIT",
        "COPYING.txt",
        "licence",
        "COPYING3",
        "LICENSE2.txt",
    )
    for name in names:
        (tmp_path / name).write_text(mit)
        assert FolderLicences(tmp_path).of(tmp_path) == "MIT", name
        (tmp_path / name).unlink()


def test_a_name_that_is_no_unicode_is_left_out(tmp_path: Path) -> None:
    folder = project(tmp_path / "shop")
    before = corpus_sha(settings(folder))
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.py")).write_text(code("odd"))
    assert corpus_sha(settings(folder)) == before
    skipped = Skipped()
    list_corpus(settings(folder), skipped)
    assert "not_utf8" in skipped.places.values()


def test_folders_of_one_name_are_two_repositories(tmp_path: Path) -> None:
    sources = []
    for where in ("one", "two"):
        (tmp_path / where / "src").mkdir(parents=True)
        for name in ("a", "b"):
            text = f"# {where} {name}\n" + code(f"{where}_{name}")
            (tmp_path / where / "src" / f"{name}.py").write_text(text)
        sources.append(str(tmp_path / where / "src"))
    both = FimSettings(
        corpus=sources,
        licences=["NOASSERTION"],
        rows=4,
        repository=1.0,
        near_duplicate=None,
        max_middle_tokens=40,
    )
    files, _ = list_corpus(both, Skipped())
    assert len(files) == 4
    tokenizer = AutoTokenizer.from_pretrained(build_tiny_model(tmp_path / "tiny"))
    for cut in Cutter(files, both, tokenizer, 0, Skipped()).rows():
        own = "one" if "one" in str(cut.file.file.parent.parent.name) else "two"
        context = json.loads(cut.row["fim"]["context"])
        assert all(text.startswith(f"# {own} ") for _, text in context["files"])


def test_code_without_a_licence_is_taken_only_where_the_recipe_says_so(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "a.py").write_text(code("alpha"))
    with pytest.raises(InputError, match=r"1 are under NOASSERTION, which fim\.licences does not"):
        list_corpus(settings(tmp_path / "own"), Skipped())
    found, _ = list_corpus(settings(tmp_path / "own", licences=["NOASSERTION"]), Skipped())
    assert [file.licence for file in found] == ["NOASSERTION"]


def test_the_corpus_hash_follows_its_files(tmp_path: Path) -> None:
    folder = project(tmp_path / "shop")
    before = corpus_sha(settings(folder))
    assert corpus_sha(settings(folder)) == before
    (folder / "a.py").write_text(code("other"))
    assert corpus_sha(settings(folder)) != before


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


def test_a_git_repository_gives_what_it_tracks_with_its_commit(tmp_path: Path) -> None:
    folder = project(tmp_path / "shop")
    git(folder, "init", "-q")
    git(folder, "add", "LICENSE", "a.py", "lib")
    git(folder, "commit", "-qm", "One")
    (folder / "untracked.py").write_text(code("iota"))
    (folder / "link.py").symlink_to("/etc/hostname")
    git(folder, "add", "link.py")
    assert source_kind(str(folder)) == "git"
    local, _ = list_corpus(settings(folder), Skipped())
    assert [file.path for file in local] == ["a.py", "lib/b.js"]
    assert local[0].repo.startswith("shop@") and len(local[0].repo) == len("shop@") + 12
    url = f"file://{folder}"
    cloned, _ = list_corpus(settings(url), Skipped())
    assert [(f.repo, f.path, f.licence, f.sha) for f in cloned] == [
        (f.repo, f.path, f.licence, f.sha) for f in local
    ]
    with pytest.raises(InputError, match="git can't read"):
        list_corpus(settings(f"file://{tmp_path}/nothing.git"), Skipped())


def test_archives_give_their_files_and_nothing_outside_their_folder(tmp_path: Path) -> None:
    folder = project(tmp_path / "shop")
    with tarfile.open(tmp_path / "shop-1.tar.gz", "w:gz") as tar:
        tar.add(folder, "shop")
        for name in ("../outside.py", "/tmp/absolute.py"):
            info = tarfile.TarInfo(name)
            info.size = 10
            tar.addfile(info, io.BytesIO(b"x = 1 # ab"))
        link = tarfile.TarInfo("shop/link.py")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
    with zipfile.ZipFile(tmp_path / "shop-2.zip", "w") as zipped:
        for path in folder.rglob("*"):
            zipped.write(path, f"shop/{path.relative_to(folder)}")
    for name in ("shop-1.tar.gz", "shop-2.zip"):
        for _ in range(2):  # unpacked, then found unpacked
            files, _ = list_corpus(settings(tmp_path / name), Skipped())
            assert [file.path for file in files] == ["shop/a.py", "shop/lib/b.js", "shop/strict.py"]
            assert {file.licence for file in files} == {"MIT"}
    assert not list(tmp_path.rglob("outside.py")) and not Path("/tmp/absolute.py").exists()
    (tmp_path / "broken.tgz").write_bytes(b"no archive")
    with pytest.raises(InputError, match="can't be unpacked"):
        open_tree(str(tmp_path / "broken.tgz"), [".py"], 9)


def test_a_hub_data_set_gives_files_with_their_licences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {"content": code("alpha"), "path": "a.py", "repo_name": "x/y", "license": "mit"},
        {"content": code("beta"), "path": "../b.py", "repo_name": "x/y", "license": ["GPL-3.0"]},
        {"content": code("gamma"), "path": "c.py", "repo_name": "x/z", "license": "Apache-2.0"},
        {"content": code("delta"), "path": "a.py", "repo_name": "x/z", "license": "mit"},
        {"content": code("eta"), "path": f"{'ü' * 40}.py", "repo_name": "x/y", "license": "mit"},
        {"content": code("iota"), "path": f"{'ü' * 200}/x\0.py", "repo_name": "x/y"},
        {"content": code("kappa"), "path": "d.py", "license": ["mit", "GPL-3.0"]},
        {"content": code("lambda_"), "path": "main.py", "license": ["mit", "Apache-2.0"]},
        {"content": code("omicron"), "path": "main.py", "license": "mit"},
        {"content": code("omicron"), "path": "main.py", "license": "mit"},
    ]
    import align.fim.sources as sources

    monkeypatch.setattr(sources, "read_rows", lambda name: ((f"{name} {r}", r) for r in rows))
    assert source_kind("owner/code") == "hub"
    files, _ = list_corpus(settings("owner/code"), Skipped())
    assert sorted((f.repo, f.path, f.licence) for f in files) == [
        ("owner/code", "main.py", "MIT"),
        ("owner/code", "main.py", "MIT AND Apache-2.0"),
        ("x/y", "a.py", "MIT"),
        ("x/y", f"{'ü' * 40}.py", "MIT"),
        ("x/z", "a.py", "MIT"),
        ("x/z", "c.py", "Apache-2.0"),
    ]
    assert len({f.home for f in files if f.repo != "owner/code"}) == 2
    assert all(f.file.suffix == ".py" and f.file.is_file() for f in files)
    few, _ = list_corpus(settings("owner/code", hub_files=1), Skipped())
    assert len(few) == 1
    monkeypatch.setattr(sources, "read_rows", lambda name: iter([("here", {"prompt": "x"})]))
    with pytest.raises(InputError, match="here: no source file: one of the columns content"):
        open_tree("owner/other", [".py"], 9)


def test_what_is_no_source_is_refused_before_anything_starts(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: x\nmodel: a/b\ndata: {}\nfim: {corpus: [a/b/c.py]}\n")
    with pytest.raises(RecipeError, match=r"fim\.corpus\[0\] = a/b/c\.py: no folder"):
        check_files(load_recipe(recipe), tmp_path)
    with pytest.raises(RecipeError, match=r"levels: at least one weight"):
        load_recipe(recipe, ["fim.levels={line: 0}"])
    with pytest.raises(InputError, match="is no folder, git repository"):
        open_tree(str(tmp_path / "nothing"), [".py"], 9)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (code("a").encode(), None),
        (b"x = 1\n", "too_short"),
        (b"x = 1\n" * 100_000, "too_long"),
        (b"\0" + code("a").encode(), "not_text"),
        (code("a").encode() + b"# \xe9\n", "not_utf8"),
        (code("a").encode() + "# e\u0301\n".encode(), "not_nfc"),
        (b"# Code generated by protoc. DO NOT EDIT.\n" + code("a").encode(), "generated"),
        (b"var a=" + b"1+" * 2000 + b"1;\n", "minified"),
        (b'KEY = "AKIA' + b"Q7" * 8 + b'"\n' + code("a").encode(), "secret"),
    ],
)
def test_files_are_left_out_by_what_they_hold(data: bytes, fault: str | None) -> None:
    assert fault_of_content(data) == fault


def test_secrets_are_told_from_names_and_examples() -> None:
    secret = [
        b"-----BEGIN RSA PRIVATE KEY-----",
        b"token = 'ghp_" + b"a1B2" * 9 + b"'",
        b'api_key: "q8Zt5Lw0pXv2Rk7Jm4Nd9Hs3"',
        b"postgres://admin:hunter2secret@db.internal.example/x",
    ]
    plain = [
        b"token = get_token(user)",
        b'password = "<your password goes here>"',
        b'secret_name = "the-name-of-the-secret"',
        b"https://user:pass@example",
        b"url = f'https://{user}:{password}@host.example.com/'",
    ]
    assert [holds_secret(line) for line in secret] == [True] * len(secret)
    assert [line for line in plain if holds_secret(line)] == []


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("src/app.py", None),
        ("pkg/_vendor/six.py", "vendored"),
        ("third-party/x.c", "vendored"),
        ("api_pb2.py", "generated"),
        ("jquery-min.js", "minified"),
        ("tests/mbpp_sample.py", "benchmark"),
    ],
)
def test_files_are_left_out_by_their_paths(path: str, fault: str | None) -> None:
    assert fault_of_name(path) == fault


def test_installed_packages_give_files_with_licences() -> None:
    files, _ = list_corpus(FimSettings(), Skipped())
    assert all(file.sha and allowed(file.licence, FimSettings().licences) for file in files)
    assert not [file for file in files if "human" in file.repo.lower()]
    assert {file.repo.split("==")[0] for file in files} >= {"transformers", "trl"}


def test_a_source_is_fetched_by_one_of_two_that_want_it(tmp_path: Path) -> None:
    import align.fim.sources as sources

    folder, filled = tmp_path / "cache" / "tree", []
    begun = threading.Barrier(2)

    def fetch() -> None:
        begun.wait()
        with sources._made_once(folder) as filling:
            if filling is not None:
                filling.mkdir()
                (filling / "a.py").write_text("x = 1")
                time.sleep(0.2)
                filled.append(filling)

    both = [threading.Thread(target=fetch) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert len(filled) == 1
    assert (folder / "a.py").read_text() == "x = 1"
