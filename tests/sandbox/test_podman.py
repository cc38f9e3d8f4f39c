"""Podman's socket in place of Docker's: the doctor's proofs, where Podman is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import Sandbox, SandboxError, parse_task
from sandbox.doctor import doctor
from sandbox.engines.docker import connect

pytestmark = pytest.mark.skipif(
    shutil.which("podman") is None or os.geteuid() != 0,
    reason="Podman is not installed or root is missing",
)


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A service of its own, on a socket and a storage of its own."""
    folder = tmp_path_factory.mktemp("podman")
    address = f"unix://{folder}/s"
    (folder / "containers.conf").write_text(
        '[containers]\ndefault_ulimits=["nofile=4096:4096", "nproc=4096:4096"]\n'
    )
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    command = ["podman", "--root", str(folder / "root"), "--runroot", str(folder / "run")]
    command += ["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"]
    command += ["--runtime", "crun" if unified and shutil.which("crun") else "runc"]
    service = subprocess.Popen(
        [*command, "system", "service", "-t", "0", address],
        env={**os.environ, "CONTAINERS_CONF": str(folder / "containers.conf")},
    )
    patch = pytest.MonkeyPatch()
    patch.setenv("DOCKER_HOST", address)
    try:
        for _ in range(100):
            try:
                connect(timeout=5).close()
                break
            except SandboxError:
                time.sleep(0.1)
        yield
    finally:
        patch.undo()
        service.terminate()
        service.wait(10)


def test_every_wall_and_limit_holds(podman: None) -> None:
    proofs = doctor(engine="docker")
    assert len(proofs) > 10
    assert [proof for proof in proofs if not proof.ok] == []


def test_a_task_that_needs_more_memory_than_the_slot_has(podman: None) -> None:
    task = parse_task(
        {
            "task_id": "large",
            "entry_point": "f",
            "tests": {"kind": "calls", "cases": [{"args": [1], "expected": 300 << 20}]},
            "limits": {"memory_mb": 600},
        }
    )
    code = "def f(x):\n    return len(bytearray(300 << 20))\n"
    with Sandbox("docker", workers=1, memory_mb=600) as box:
        assert box.run(task, code).accepted
