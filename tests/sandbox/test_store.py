"""What was built here: listed with what it holds, and pruned down to what is current or in use."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ENGINES

from sandbox import Sandbox, SandboxError, images
from sandbox.engines import docker as docker_engine
from sandbox.images import store

needs_docker = pytest.mark.skipif("docker" not in ENGINES, reason="no Docker engine answers")

STATUS = """\
Package: zlib1g
Status: install ok installed
Version: 1:1.2.13

Package: bash
Status: install ok installed
Description: a shell
 Version: this line is a description's
Version: 5.2

Package: gone
Status: deinstall ok config-files
Version: 1
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return images.cache_folder()


def root(cache: Path, version: str) -> Path:
    folder = cache / f"rootfs-{version}"
    (folder / "var/lib/dpkg").mkdir(parents=True)
    (folder / "var/lib/dpkg/status").write_text(STATUS)
    (cache / f"rootfs-{version}.tar").write_bytes(bytes(1000))
    return folder


def names(systems: tuple[store.System, ...] | list[store.System]) -> set[str]:
    return {Path(system.name).name for system in systems}


def test_each_variant_is_a_definition_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALIGN_SANDBOX_IMAGE", raising=False)
    assert images.tag() == f"code-align-sandbox:python-{images.version('python')}"
    assert images.version("python") != images.version("python-data")
    assert "python3-numpy" not in images.dockerfile()
    assert "python3-numpy python3-pandas" in images.dockerfile("python-data")
    monkeypatch.setenv("ALIGN_SANDBOX_IMAGE", "python-data")
    assert images.version() == images.version("python-data")
    monkeypatch.setenv("ALIGN_SANDBOX_IMAGE", "perl")
    with pytest.raises(SandboxError, match="'perl' is not one of python, python-data"):
        images.version()


def test_the_list_of_packages_is_written_down_and_follows_the_root(cache: Path) -> None:
    folder = root(cache, images.version("python"))
    path = images.package_list(folder)
    assert path.read_text() == "bash=5.2\nzlib1g=1:1.2.13\n"
    (before,) = store.systems(None)
    (folder / "var/lib/dpkg/status").write_text(STATUS.replace("5.2", "5.3"))
    (after,) = store.systems(None)
    assert "bash=5.3" in path.read_text()
    assert before.digest != after.digest


def test_packages_that_differ_from_the_locked_ones_are_named(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert images.drift("python") == []  # nothing is built
    lock = (Path(images.__file__).parent / "python.lock").read_text()
    moved = lock.replace("\nbash=", "\nbash=99.").replace("\ndash=", "\ntcsh=")
    status = "".join(
        f"Package: {name}\nStatus: install ok installed\nVersion: {version}\n\n"
        for name, version in (line.split("=", 1) for line in moved.splitlines())
    ).encode()
    with tarfile.open(cache / f"rootfs-{images.version('python')}.tar", "w") as tar:
        member = tarfile.TarInfo("./var/lib/dpkg/status")
        member.size = len(status)
        tar.addfile(member, io.BytesIO(status))
    bash, dash, tcsh = images.drift("python")
    assert bash.startswith("bash: 5") and "is locked, 99.5" in bash
    assert dash.endswith("nothing is here")
    assert tcsh.startswith("tcsh: nothing is locked")
    monkeypatch.setattr(images, "__file__", str(cache / "x.py"))
    assert images.drift("python") == []  # no lock


def test_only_what_is_old_and_unused_is_pruned(cache: Path) -> None:
    current, data = (
        root(cache, images.version("python")),
        root(cache, images.version("python-data")),
    )
    root(cache, "0" * 12)
    (cache / f"rootfs-{'1' * 12}.tar").write_bytes(b"x")
    (cache / "models").mkdir()
    old, young = cache / f"{images.BUILDING}old", cache / f"{images.BUILDING}young"
    for leftover in (old, young):
        leftover.mkdir()
    os.utime(old, (0, time.time() - images.BUILD_S - 60))
    found = store.systems(None)
    assert {system.variant for system in found} == {"python", "python-data", ""}
    expected = {f"rootfs-{'0' * 12}", f"rootfs-{'1' * 12}", old.name}

    assert names(store.prune(None, dry_run=True).removed) == expected
    assert names(store.systems(None)) == names(found)
    done = store.prune(None)
    assert names(done.removed) == expected
    assert done.failed == ()
    kept = {path.name for path in cache.iterdir()}
    assert kept == {
        *(f"{folder.name}{end}" for folder in (current, data) for end in ("", ".tar", ".packages")),
        "models",
        young.name,
    }


@pytest.fixture
def user(cache: Path) -> Iterator[Path]:
    """An old root file system with a process on it that was launched as a slot is."""
    folder = root(cache, "2" * 12)
    words = ["# sandbox.engines.launch", f'{{"root": "{folder}"}}']
    command = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()", *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield folder
        process.kill()


def test_what_a_slot_runs_on_stays(user: Path) -> None:
    assert store.prune(None).removed == ()
    assert user.is_dir()


def test_an_open_sandbox_is_seen_on_its_root() -> None:
    with Sandbox("namespaces", workers=1) as box:
        if not box.image.startswith("rootfs:"):
            pytest.skip("mmdebstrap is not here: the host's own system is used")
        used = {system.version: system.in_use for system in store.systems(None)}
        assert used[images.version()]


def test_a_built_root_is_not_built_again() -> None:
    if not (
        images.has_mmdebstrap() or (images.cache_folder() / f"rootfs-{images.version()}").exists()
    ):
        pytest.skip("mmdebstrap is not here")
    made = store.build(None)
    assert made.current
    assert made.size > 10 << 20
    packages = images.package_list(Path(made.name)).read_text().splitlines()
    assert any(line.startswith("python3-minimal=") for line in packages)


def test_no_docker_engine_is_said_and_is_an_error_only_where_it_was_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ALIGN_SANDBOX_ENGINE", raising=False)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    client, reason = store.engine_or_reason()
    assert client is None
    assert "no Docker engine answers" in reason
    assert store.engine_or_reason("namespaces")[0] is None
    with pytest.raises(SandboxError, match="no Docker engine answers"):
        store.engine_or_reason("docker")


@needs_docker
def test_an_old_image_goes_and_the_current_one_stays(cache: Path) -> None:
    client = docker_engine.connect()
    empty = io.BytesIO()
    tarfile.open(fileobj=empty, mode="w").close()
    old = f"{images.REPOSITORY}:python-{'0' * 12}"
    try:
        with Sandbox("docker", workers=1):
            client.api.import_image_from_data(
                empty.getvalue(), repository=images.REPOSITORY, tag=f"python-{'0' * 12}"
            )
            found = {system.name: system for system in store.systems(client)}
            assert found[images.tag()].in_use
            assert not found[old].current
            assert old in {system.name for system in store.prune(client).removed}
        left = {system.name for system in store.systems(client)}
        assert images.tag() in left
        assert old not in left
    finally:
        client.close()
