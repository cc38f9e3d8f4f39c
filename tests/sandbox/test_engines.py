"""What is particular to an engine: the lower level, the host's own system as root, strays."""

from __future__ import annotations

import json
import threading
import time
import uuid
from importlib import resources

import pytest
from conftest import ENGINES
from short_tasks import asserts, calls

from sandbox import Outcome, Sandbox, SandboxError, Verdict, doctor, images
from sandbox.engines import docker as docker_engine
from sandbox.engines import namespaces
from sandbox.guest import filter as syscall_filter

needs_docker = pytest.mark.skipif("docker" not in ENGINES, reason="no Docker engine answers")
PLUS = calls(([1, 2], 3), ([2, 2], 4))
ADD = "def f(a, b):\n    return a + b\n"


def test_doctor_proves_every_wall(engine: str) -> None:
    proofs = doctor(engine)
    assert len(proofs) > 10
    assert [proof for proof in proofs if not proof.ok] == []


def test_doctor_says_how_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    (proof,) = doctor("docker")
    assert not proof.ok
    assert "install-engine.sh" in proof.mend


def test_the_hosts_system_serves_where_no_image_can_be_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(namespaces.images, "has_mmdebstrap", lambda: False)
    monkeypatch.setattr(namespaces.images, "version", lambda *_: "not-built")
    with Sandbox("namespaces", workers=1) as box:
        assert box.image.startswith("host:")
        assert box.run(PLUS, ADD).accepted
        peek = "import os\ndef f(a, b):\n    return sorted(os.listdir('/'))\n"
        detail = box.run(PLUS, peek).detail
        assert "'usr'" in detail
        for hidden in ("home", "root", "work", "var"):
            assert f"'{hidden}'" not in detail


@needs_docker
def test_a_container_a_run_is_a_level_of_its_own() -> None:
    with Sandbox("docker", isolation="container", workers=1) as box:
        assert box.isolation == "container"
        first = box.run(PLUS, ADD)
        assert first.accepted
        assert first.isolation == "container"
        leave = "open('/tmp/left', 'w').close()\ndef f(n):\n    return 0\n"
        look = "import os\ndef f(n):\n    return os.listdir('/tmp')\n"
        assert box.run(calls(([1], 6)), leave).outcome is Outcome.WRONG_ANSWER
        assert box.run(calls(([1], [])), look).accepted
        assert box.run(asserts("assert f(1) == 1"), "f = lambda x: x").accepted


@needs_docker
def test_strays_of_dead_owners_are_removed_and_only_those() -> None:
    client = docker_engine.connect()
    with Sandbox("docker", workers=1) as box:
        names = []
        for owner in (docker_engine.owner().rpartition("/")[0] + "/1", docker_engine.owner()):
            name = f"code-align-test-{uuid.uuid4().hex[:8]}"
            names.append(name)
            client.api.create_container(
                box.image,
                ["true"],
                name=name,
                labels={docker_engine.LABEL: "1", docker_engine.OWNER: owner},
            )
        try:
            docker_engine.reap(client)
            left = {c["Names"][0].strip("/") for c in client.api.containers(all=True)}
            assert names[0] not in left
            assert names[1] in left
            assert box.run(PLUS, ADD).accepted
        finally:
            client.api.remove_container(names[1], force=True)
            client.close()


@needs_docker
def test_a_container_is_closed_on_every_side() -> None:
    client = docker_engine.connect()
    with Sandbox("docker", workers=1) as box:
        (summary,) = [
            c
            for c in client.api.containers(filters={"label": docker_engine.LABEL})
            if c["Labels"][docker_engine.OWNER] == docker_engine.owner()
        ]
        found = client.api.inspect_container(summary["Id"])
        host = found["HostConfig"]
        assert found["Image"] == box.image
        assert host["NetworkMode"] == "none"
        assert host["ReadonlyRootfs"] is True
        assert host["CapDrop"] == ["ALL"]
        assert host["Memory"] == host["MemorySwap"] > 0
        assert 0 < host["PidsLimit"] < 1000
        assert not host["Binds"]
        assert found["Config"]["User"] == "65534:65534"
        assert not any("seccomp=unconfined" in option for option in host["SecurityOpt"])
    client.close()


@needs_docker
def test_a_task_may_ask_for_more_memory() -> None:
    code = "def f(a, b):\n    held = bytearray(700 << 20)\n    return a + b\n"
    big = calls(([1, 2], 3), limits={"memory_mb": 1024})
    with Sandbox("docker", workers=1) as box:
        assert box.run(PLUS, code).outcome is Outcome.MEMORY_LIMIT
        assert box.run(big, code).accepted


def test_the_profile_allows_no_more_than_the_guest_needs() -> None:
    profile = json.loads((resources.files("sandbox.engines") / "seccomp.json").read_text())
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    allowed = {
        name
        for rule in profile["syscalls"]
        if rule["action"] == "SCMP_ACT_ALLOW"
        for name in rule["names"]
    }
    needed = {"umount2", "unshare", "memfd_create"}
    harmless = {"personality"}  # only with the arguments named in the rule
    assert allowed & set(syscall_filter.DENIED) <= needed | harmless
    assert not allowed & {"bpf", "ptrace", "keyctl", "setns", "pivot_root", "io_uring_setup"}


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_is_a_whole_program(machine: str) -> None:
    for program in syscall_filter.programs(machine):
        assert len(program) % 8 == 0
        assert len(program) // 8 < 4096


def test_the_filter_refuses_a_machine_it_does_not_know() -> None:
    with pytest.raises(OSError, match="vax"):
        syscall_filter.programs("vax")


@needs_docker
def test_a_container_killed_in_the_middle_of_a_run_costs_no_verdict() -> None:
    client = docker_engine.connect()
    slow = "import time\ndef f(a, b):\n    time.sleep(1)\n    return a + b\n"
    with Sandbox("docker", workers=1) as box:
        verdicts: list[Verdict] = []
        thread = threading.Thread(target=lambda: verdicts.append(box.run(PLUS, slow)))
        thread.start()
        time.sleep(0.7)
        for summary in client.api.containers(filters={"label": docker_engine.LABEL}):
            if summary["Labels"][docker_engine.OWNER] == docker_engine.owner():
                client.api.kill(summary["Id"])
        thread.join()
        assert [verdict.outcome for verdict in verdicts] == [Outcome.ACCEPTED]
    client.close()


def test_numpy_is_there_where_the_image_has_it() -> None:
    if not (images.cache_folder() / f"rootfs-{images.version('python-data')}").exists():
        pytest.skip("the image python-data is not built here (align sandbox build)")
    code = "import numpy\ndef f(a, b):\n    return int(numpy.array([a, b]).sum())\n"
    with Sandbox("namespaces", workers=1, image="python-data") as box:
        assert box.image.startswith("rootfs:python-data@sha256:")
        assert box.run(PLUS, code).accepted
    with Sandbox("namespaces", workers=1) as box:
        assert box.run(PLUS, code).outcome is Outcome.RUNTIME_ERROR


def test_a_variant_or_a_runtime_that_is_not_there_is_refused() -> None:
    with pytest.raises(SandboxError, match="'ruby' is not one of python, python-data"):
        Sandbox("namespaces", image="ruby")
    with pytest.raises(SandboxError, match="runtime 'runsc' is the Docker engine's"):
        Sandbox("namespaces", runtime="runsc")
