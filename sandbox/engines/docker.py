"""The real wall: one warm container a slot, with nothing in it that a program could use."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import uuid
from importlib import resources
from typing import Any

import docker
import docker.errors
import requests.exceptions
from docker.types import LogConfig

from sandbox import images
from sandbox.engines import bundle
from sandbox.engines.base import (
    CONTAINER_NS,
    MAX_PIDS,
    OWN_MB,
    OWN_PIDS,
    Engine,
    Slot,
    Transport,
)
from sandbox.errors import SandboxError, SlotBroken

LABEL = "code-align.sandbox"
OWNER = "code-align.owner"
POOL = "code-align.pool"
_FAULTS = (docker.errors.DockerException, requests.exceptions.RequestException, OSError)


def connect(timeout: float = 60.0) -> docker.DockerClient:
    """Return a client of the engine at DOCKER_HOST or the default socket; raises SandboxError."""
    try:
        client = docker.from_env(timeout=timeout)
        client.ping()
    except _FAULTS as error:
        raise SandboxError(
            f"no Docker engine answers at {os.environ.get('DOCKER_HOST', 'the default socket')}:"
            f" {error}"
        ) from None
    return client


def owner() -> str:
    """Name this process so that a later one can tell whether it still lives."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        boot = file.read().strip()
    return f"{boot}/{os.readlink('/proc/self/ns/pid')}/{os.getpid()}/{_started(os.getpid())}"


def _started(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[19]


def _is_dead(label: str) -> bool:
    """Whether the owner is a process that this one could see and doesn't."""
    boot, _, rest = label.partition("/")
    mine = owner().split("/")
    space, _, process = rest.partition("/")
    if boot != mine[0] or space != mine[1]:
        return False  # another machine's, or out of our sight
    pid, _, started = process.partition("/")
    try:
        return _started(int(pid)) != started
    except (OSError, ValueError):
        return True


def reap(client: docker.DockerClient) -> int:
    """Remove containers whose owner died without a word; returns how many."""
    count = 0
    for summary in client.api.containers(all=True, filters={"label": LABEL}):
        if _is_dead((summary.get("Labels") or {}).get(OWNER, "")):
            with contextlib.suppress(docker.errors.APIError):  # gone meanwhile
                client.api.remove_container(summary["Id"], force=True)
                count += 1
    return count


class DockerTransport(Transport):
    """A container's attached streams, and the container."""

    def __init__(
        self, client: docker.DockerClient, settings: dict[str, Any], memory_mb: int, lowers: bool
    ) -> None:
        self._client = client
        self._lowers = lowers
        self._memory_mb = memory_mb
        self._buffer = bytearray()
        self._errors = b""
        self._closing = threading.Lock()
        self._closed = False
        self._socket: socket.socket | None = None
        # Known beforehand: a creation that times out can be cleaned up.
        self._name = settings["name"]
        try:
            client.api.create_container(**settings)
            self._attached = client.api.attach_socket(
                self._name, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            )
            self._socket = getattr(self._attached, "_sock", self._attached)
            client.api.start(self._name)
        except BaseException:
            self.close()
            raise

    def write(self, data: bytes) -> None:
        """Write all of ``data``; raises SlotBroken."""
        assert self._socket is not None
        try:
            self._socket.settimeout(30)
            self._socket.sendall(data)
        except OSError as error:
            raise SlotBroken(f"the container took no input: {error}") from None

    def read(self, timeout: float) -> bytes:
        """Return what came on stdout; raises SlotBroken."""
        assert self._socket is not None
        out = b""
        while not out:
            try:
                self._socket.settimeout(max(0.01, timeout))
                data = self._socket.recv(1 << 20)
            except TimeoutError:
                raise SlotBroken("the container fell silent") from None
            except OSError as error:
                raise SlotBroken(f"the container's stream broke: {error}") from None
            if not data:
                words = self._errors.decode("utf-8", "replace").strip()
                raise SlotBroken(f"the container ended{': ' + words if words else ''}")
            out = self._split(data)
        return out

    def _split(self, data: bytes) -> bytes:
        """Take the engine's stream apart: eight bytes of header before each piece."""
        self._buffer += data
        out = bytearray()
        while len(self._buffer) >= 8:
            size = int.from_bytes(self._buffer[4:8], "big")
            if len(self._buffer) < 8 + size:
                break
            piece = bytes(self._buffer[8 : 8 + size])
            if self._buffer[0] == 2:
                self._errors = (self._errors + piece)[-2000:]
            else:
                out += piece
            del self._buffer[: 8 + size]
        return bytes(out)

    def set_memory(self, memory_mb: int) -> None:
        """Change the container's memory limit where it differs."""
        if memory_mb == self._memory_mb or (memory_mb < self._memory_mb and not self._lowers):
            return
        size = (memory_mb + OWN_MB) << 20
        try:
            self._client.api.update_container(self._name, mem_limit=size, memswap_limit=size)
        except _FAULTS as error:
            raise SlotBroken(
                f"the container's memory limit could not be set to {memory_mb} MiB: {error}."
                f" Where the engine can't do that, open the sandbox with memory_mb={memory_mb}"
            ) from None
        self._memory_mb = memory_mb

    def close(self) -> None:
        """End it and give back what it holds."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
        # The end of its input has told it to go; this is for one that can't hear any more.
        with contextlib.suppress(*_FAULTS):
            self._client.api.remove_container(self._name, force=True)


class DockerEngine(Engine):
    """Slots in containers of one image."""

    name = "docker"
    memory_by = "cgroup"

    def __init__(
        self,
        isolation: str = CONTAINER_NS,
        memory_mb: int = 512,
        image: str | None = None,
        runtime: str | None = None,
    ) -> None:
        """Connect, reap strays, and pin the image; raises SandboxError."""
        self.isolation = isolation
        self._memory_mb = memory_mb
        self._runtime = runtime
        self._pool = uuid.uuid4().hex
        self._client = connect()
        try:
            reap(self._client)
            self.image = images.docker_image(self._client, image)
            self._options = self._client.info().get("SecurityOptions") or []
            parts = self._client.version().get("Components") or []
            self._is_podman = any("Podman" in part.get("Name", "") for part in parts)
        except _FAULTS as error:
            raise SandboxError(f"the Docker engine failed: {error}") from None

    def start(self) -> Slot:
        """Start one slot; raises SandboxError."""
        try:
            transport = DockerTransport(
                # Podman may not be able to change a limit; the guest holds runs to lower ones.
                docker.from_env(timeout=30),
                self._settings(),
                self._memory_mb,
                lowers=not self._is_podman,
            )
        except _FAULTS as error:
            raise SandboxError(f"a container could not be started: {error}") from None
        return Slot(transport, self.nested)

    def _settings(self) -> dict[str, Any]:
        size = (self._memory_mb + OWN_MB) << 20
        security = ["no-new-privileges:true"]
        profile = resources.files("sandbox.engines") / "seccomp.json"
        if self.nested:
            # Docker takes the profile itself, Podman a file that its service can read.
            security.append(f"seccomp={profile if self._is_podman else profile.read_text()}")
            if self._is_podman:
                security.append("unmask=ALL")
            if any("name=apparmor" in option for option in self._options):
                # Its default profile refuses every mount, also those in a namespace of one's own.
                security.append("apparmor=unconfined")
        host = self._client.api.create_host_config(
            auto_remove=True,
            cap_drop=["ALL"],
            ipc_mode="private",
            log_config=LogConfig(type="none"),
            mem_limit=size,
            memswap_limit=size,
            network_mode="none",
            pids_limit=MAX_PIDS + OWN_PIDS,
            read_only=True,
            security_opt=security,
            shm_size=1 << 20,
            tmpfs=self._tmpfs(),
            runtime=self._runtime,
        )
        if self.nested:
            # A fresh /proc can only be mounted where none of the old one is covered.
            host["MaskedPaths"] = []
            host["ReadonlyPaths"] = []
        return {
            "image": self.image,
            "command": ["python3", "-c", bundle.BOOT],
            "name": f"code-align-{uuid.uuid4().hex[:16]}",
            "user": "65534:65534",
            "environment": bundle.ENVIRONMENT,
            "working_dir": "/",
            "entrypoint": "",
            "stdin_open": True,
            "network_disabled": True,
            "labels": {LABEL: bundle.digest(), OWNER: owner(), POOL: self._pool},
            "host_config": host,
        }

    def _tmpfs(self) -> dict[str, str]:
        # Podman would put writable ones into a read-only container, for words to the next run.
        taken = ("/run", "/var/tmp", "/tmp") if self._is_podman else ()
        mounts = dict.fromkeys(taken, "ro,size=4k")
        return mounts if self.nested else {**mounts, "/tmp": "size=64m,nr_inodes=4096,mode=1777"}

    def close(self) -> None:
        """End it and give back what it holds, what an engine that was away could not end too."""
        with contextlib.suppress(*_FAULTS):
            for summary in self._client.api.containers(
                all=True, filters={"label": f"{POOL}={self._pool}"}
            ):
                with contextlib.suppress(docker.errors.APIError):
                    self._client.api.remove_container(summary["Id"], force=True)
        self._client.close()
