"""Five ways to run a program with its tests, from our sandbox to no wall at all."""

from __future__ import annotations

import contextlib
import importlib
import io
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from benchmarks.gold_sets import Case
from sandbox import Sandbox, images
from sandbox.engines.docker import connect

Judge = Callable[[Case], bool]
"""Runs one program and says whether it was accepted; called by several threads at once."""

MEMORY_MB = 512
PIDS = 64
TIMEOUT_S = 10
_LABEL = "code-align.benchmark"


class Missing(Exception):
    """What a runner needs isn't here."""


def whole_program(case: Case) -> str:
    """The program, its tests and the call that starts them: what peers run as one script."""
    assert case.task.tests is not None
    return f"{case.code}\n{case.task.tests.code}\ncheck({case.task.entry_point})\n"


@contextmanager
def _sandbox(engine: str, workers: int, cases: Sequence[Case]) -> Iterator[Judge]:
    with Sandbox(engine, workers=workers, memory_mb=MEMORY_MB) as box:
        for task in {case.key: case.task for case in cases}.values():
            box.standing(task)
        yield lambda case: box.run(case.task, case.code).accepted


def ours(workers: int, cases: Sequence[Case]) -> AbstractContextManager[Judge]:
    """Our sandbox on a Docker engine: warm containers, namespaces for each run."""
    return _sandbox("docker", workers, cases)


def namespaces(workers: int, cases: Sequence[Case]) -> AbstractContextManager[Judge]:
    """Our sandbox without Docker."""
    return _sandbox("namespaces", workers, cases)


@contextmanager
def docker_run(workers: int, cases: Sequence[Case]) -> Iterator[Judge]:
    """A container for each program, with the limits that our slots have."""
    del workers, cases
    if shutil.which("docker") is None:
        raise Missing("the docker command is not here")
    client = connect()
    image = images.docker_image(client)
    command = ["docker", "run", "--rm", "-i", "--label", _LABEL, "--network", "none"]
    command += ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    command += ["--memory", f"{MEMORY_MB}m", "--memory-swap", f"{MEMORY_MB}m"]
    command += ["--pids-limit", str(PIDS), "--tmpfs", "/tmp", "--user", "65534:65534"]
    command += [image, "python3", "-"]

    def judge(case: Case) -> bool:
        return _exit_status(command, whole_program(case)) == 0

    try:
        yield judge
    finally:
        # Those whose command ran out of time.
        for summary in client.api.containers(all=True, filters={"label": _LABEL}):
            client.api.remove_container(summary["Id"], force=True)
        client.close()


@contextmanager
def llm_sandbox(workers: int, cases: Sequence[Case]) -> Iterator[Judge]:
    """The package llm-sandbox with a warm container for each worker, as its documents show it.

    Its containers get our image, our limits on memory and processes, and no network; root, and a
    file system that programs may write to, are as it comes.
    """
    del cases
    try:
        package: Any = importlib.import_module("llm_sandbox")
        pools: Any = importlib.import_module("llm_sandbox.pool")
    except ImportError as error:
        raise Missing(f"{error}: pip install -r benchmarks/requirements.txt") from None
    client = connect()
    pool = pools.create_pool_manager(
        backend=package.SandboxBackend.DOCKER,
        config=pools.PoolConfig(max_pool_size=workers, min_pool_size=workers),
        lang="python",
        client=client,
        image=_image_for_llm_sandbox(client),
        skip_environment_setup=True,
        runtime_configs={
            "network_mode": "none",
            "mem_limit": f"{MEMORY_MB}m",
            "memswap_limit": f"{MEMORY_MB}m",
            "pids_limit": PIDS,
            "stop_signal": "SIGKILL",  # or each stop waits ten seconds
        },
    )

    def judge(case: Case) -> bool:
        with pools.PooledSandboxSession(pool_manager=pool) as session:
            done = session.run(whole_program(case), timeout=TIMEOUT_S)
        return bool(done.exit_code == 0)

    try:
        yield judge
    finally:
        pool.close()
        client.close()


def _image_for_llm_sandbox(client: Any) -> str:
    """Our image with a Python where llm-sandbox makes its own, which would take pip and a network.

    And with a first process that waits: at a terminal, a Python does.
    """
    images.docker_image(client)
    venv = "/sandbox/.sandbox-venv/bin"
    tag = f"{images.tag()}-llm-sandbox"
    definition = (
        f"FROM {images.tag()}\n"
        f"RUN mkdir -p {venv} && ln -s /usr/bin/python3 {venv}/python\n"
        'CMD ["python3"]\n'
    )
    client.images.build(
        fileobj=io.BytesIO(definition.encode()), tag=tag, network_mode="none", rm=True
    )
    return tag


@contextmanager
def subprocess_(workers: int, cases: Sequence[Case]) -> Iterator[Judge]:
    """A fresh Python on the host, behind no wall: only for programs of one's own."""
    del workers, cases
    # The system's own, which starts sooner than that of a virtual environment full of packages.
    command = [shutil.which("python3", path="/usr/bin") or sys.executable, "-I", "-"]
    yield lambda case: _exit_status(command, whole_program(case)) == 0


def _exit_status(command: list[str], program: str) -> int | None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        return subprocess.run(
            command, input=program.encode(), capture_output=True, timeout=TIMEOUT_S, check=False
        ).returncode
    return None


RUNNERS: dict[str, Callable[[int, Sequence[Case]], AbstractContextManager[Judge]]] = {
    "ours": ours,
    "namespaces": namespaces,
    "docker_run": docker_run,
    "llm_sandbox": llm_sandbox,
    "subprocess": subprocess_,
}
