"""The one definition of what a program sees as its system, and the two ways to build it.

A Debian with Python's standard library and, in the variant ``python-data``, numpy and pandas. Where
a registry answers, the Docker engine builds it from a base image; where none does, mmdebstrap makes
the same content from Debian's archive. Its archive is cached, and both engines use it. The packages
that a root file system holds are written down beside it, one ``name=version`` a line.

Functions that take a variant mean ``ALIGN_SANDBOX_IMAGE``, else ``python``, where it is None.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from sandbox.errors import SandboxError

SUITE = "bookworm"
VARIANTS = {
    "python": ("python3-minimal", "libpython3-stdlib"),
    "python-data": ("python3-minimal", "libpython3-stdlib", "python3-numpy", "python3-pandas"),
}
REPOSITORY = "code-align-sandbox"
BUILDING = ".building-"
_STATUS = "var/lib/dpkg/status"
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
# Byte code that doesn't ask for its source's time: unpacked files have new ones, and as the file
# system is read-only, every import would compile again.
_COMPILE = "python3 -m compileall -q -f --invalidation-mode unchecked-hash /usr/lib/python3*"
BUILD_S = 900


def variant_of(name: str | None = None) -> str:
    """Return the variant that a name means; raises SandboxError where there is no such one."""
    name = name or os.environ.get("ALIGN_SANDBOX_IMAGE") or "python"
    if name not in VARIANTS:
        raise SandboxError(f"image {name!r} is not one of {', '.join(VARIANTS)}")
    return name


def version(variant: str | None = None) -> str:
    """Return 12 hex digits that change with the definition."""
    text = json.dumps([SUITE, VARIANTS[variant_of(variant)], _LEFT_OUT, _COMPILE])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def tag(variant: str | None = None) -> str:
    """Return the image's name in an engine."""
    return f"{REPOSITORY}:{variant_of(variant)}-{version(variant)}"


def dockerfile(variant: str | None = None) -> str:
    """Return the definition in Docker's words."""
    return (
        f"FROM debian:{SUITE}-slim\n"
        "RUN apt-get update && apt-get install -y --no-install-recommends "
        f"{' '.join(VARIANTS[variant_of(variant)])} && rm -rf /var/lib/apt/lists/* && {_COMPILE}\n"
    )


def cache_folder() -> Path:
    """Return the user's cache folder for this project, made if need be."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = Path(base) / "code-align"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def has_mmdebstrap() -> bool:
    """Whether the archive can be built here."""
    return shutil.which("mmdebstrap") is not None


def archive(variant: str | None = None) -> Path:
    """Return the root file system as a tar file, built on first use; raises SandboxError."""
    path = cache_folder() / f"rootfs-{version(variant)}.tar"
    if path.exists():
        return path
    if not has_mmdebstrap():
        raise SandboxError("mmdebstrap is not here: install it (apt-get install mmdebstrap)")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=BUILDING) as folder:
        made = Path(folder) / "root.tar"
        include = ",".join(VARIANTS[variant_of(variant)])
        command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={include}"]
        command += [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT]
        command.append(f'--customize-hook=chroot "$1" sh -c "{_COMPILE}"')
        done = subprocess.run(
            [*command, SUITE, str(made)],
            capture_output=True,
            text=True,
            timeout=BUILD_S,
            check=False,
        )
        if done.returncode != 0:
            raise SandboxError(f"mmdebstrap failed: {done.stderr.strip()[-500:]}")
        os.replace(made, path)
    return path


def rootfs(variant: str | None = None) -> Path:
    """Return the root file system as a folder, unpacked on first use; raises SandboxError."""
    folder = cache_folder() / f"rootfs-{version(variant)}"
    if folder.exists():
        return folder
    source = archive(variant)
    work = Path(tempfile.mkdtemp(dir=folder.parent, prefix=BUILDING))
    try:
        with tarfile.open(source) as tar:
            for member in tar:
                # No devices, no owners, no set-user bits: plain readable files.
                if member.isdev() or not _is_inside(member):
                    continue
                member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
                tar.extract(member, work, set_attrs=False)
                if not member.issym():
                    os.chmod(work / member.name, member.mode)
        work.chmod(0o755)
        os.rename(work, folder)
    except OSError:
        shutil.rmtree(work, ignore_errors=True)
        if not folder.exists():  # another process may have been first
            raise
    return folder


def _is_inside(member: tarfile.TarInfo) -> bool:
    return not member.name.startswith("/") and ".." not in Path(member.name).parts


def packages(folder: Path) -> str:
    """Return what an unpacked root file system holds, one ``name=version`` a line, sorted."""
    status = folder / _STATUS
    return _packages(status.read_text(encoding="utf-8")) if status.exists() else ""


def _packages(status: str) -> str:
    lines = set()
    for entry in status.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Version|Status): (.+)$", entry, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            lines.add(f"{fields['Package']}={fields['Version']}\n")
    return "".join(sorted(lines))


def package_list(folder: Path) -> Path:
    """Return the file beside a root file system that lists its packages, written where missing."""
    path = folder.with_name(f"{folder.name}.packages")
    text = packages(folder)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        made = path.with_name(f"{BUILDING}{path.name}.{os.getpid()}")
        made.write_text(text, encoding="utf-8")
        os.replace(made, path)
    return path


def drift(variant: str | None = None) -> list[str]:
    """Say how the packages that were built here differ from the locked ones (python.lock).

    Debian's archive holds one version of a package at a time, so that a build can't ask for the
    locked ones: it can only tell.

    Returns:
        A line for each package, such as ``zlib1g: 1:1.2.13 is locked, 1:1.2.14 is here``; none
        where all are alike, or where the variant has no lock or no packages are known.
    """
    lock = Path(__file__).with_name(f"{variant_of(variant)}.lock")
    built = cache_folder() / f"rootfs-{version(variant)}.tar"
    if not lock.exists() or not built.exists():
        return []
    with tarfile.open(built) as tar:
        status = tar.extractfile(f"./{_STATUS}")
        assert status is not None
        here = _packages(status.read().decode())
    wanted, found = (
        dict(line.split("=", 1) for line in text.splitlines())
        for text in (lock.read_text(encoding="utf-8"), here)
    )
    return [
        f"{name}: {wanted.get(name, 'nothing')} is locked, {found.get(name, 'nothing')} is here"
        for name in sorted(wanted.keys() | found.keys())
        if wanted.get(name) != found.get(name)
    ]


def docker_image(client: Any, variant: str | None = None) -> str:
    """Return the id of the image in the engine, built on first use; raises SandboxError."""
    import docker.errors

    try:
        return str(client.images.get(tag(variant)).id)
    except docker.errors.ImageNotFound:
        pass
    if not (cache_folder() / f"rootfs-{version(variant)}.tar").exists():
        try:
            image, _ = client.images.build(
                fileobj=io.BytesIO(dockerfile(variant).encode()), tag=tag(variant), rm=True
            )
            return str(image.id)
        except (docker.errors.BuildError, docker.errors.APIError) as error:
            if not has_mmdebstrap():
                raise SandboxError(
                    f"the sandbox image could not be built: {error}. Let the engine reach a"
                    " registry, or install mmdebstrap"
                ) from None
    repository, _, name = tag(variant).partition(":")
    with open(archive(variant), "rb") as file:
        said = client.api.import_image_from_data(file, repository=repository, tag=name)
    image = client.images.get(json.loads(said.splitlines()[-1])["status"])
    image.tag(repository, name)  # Podman names it "latest", whatever it was asked
    return str(image.id)
