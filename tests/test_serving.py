"""Model servers: they start, answer, come back from the dead, and leave nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from align import guard, serving
from align.completions import MAX_STOPS, Completion, Request, Sampler, ServedModel, complete
from align.errors import CheckpointError, ServingError
from align.fim import complete as fill
from align.serving import Servers, served_name
from align.settings import ServingSettings
from tests.live import Proxy

pytest_plugins = ["tests.live_fixtures"]
vllm = pytest.mark.vllm

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if len(sys.argv) > 1:
    script = [sys.executable, __file__, *sys.argv[2:]]
    subprocess.Popen(script, start_new_session=True)
time.sleep(600)
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def eventually(check: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.05)
    return check()


def guarded(parent: int, *command: str) -> list[str]:
    return [sys.executable, "-I", "-S", guard.__file__, str(parent), *command]


@pytest.fixture
def stubborn(tmp_path: Path) -> list[str]:
    """A program of three processes in sessions of their own, all deaf to SIGTERM."""
    script = tmp_path / "stubborn.py"
    script.write_text(STUBBORN)
    return [sys.executable, str(script), "again", "again"]


# ------------------------------------------------------------------------------ the guard


def test_the_guard_hands_on_the_exit_status() -> None:
    command = guarded(os.getpid(), sys.executable, "-c", "raise SystemExit(7)")
    assert subprocess.run(command, check=False).returncode == 7


def test_a_guard_told_to_end_kills_the_whole_tree_in_time(stubborn: list[str]) -> None:
    with subprocess.Popen(guarded(os.getpid(), *stubborn)) as process:
        assert eventually(lambda: len(guard.descendants(process.pid)) == 3, 10)
        below = guard.descendants(process.pid)
        began = time.monotonic()
        process.terminate()
        process.wait(10)
        assert time.monotonic() - began < 5
    assert not [pid for pid in below if alive(pid)]


def test_orphans_die_with_the_server_that_made_them(stubborn: list[str]) -> None:
    with subprocess.Popen(guarded(os.getpid(), *stubborn)) as process:
        assert eventually(lambda: len(guard.descendants(process.pid)) == 3, 10)
        below = guard.descendants(process.pid)
        os.kill(below[0], signal.SIGKILL)
        assert process.wait(5) == 128 + signal.SIGKILL
    assert not [pid for pid in below if alive(pid)]


def test_a_process_of_an_odd_name_hides_no_other() -> None:
    code = (
        "import sys, time\nopen('/proc/self/comm', 'wb').write(b'ab\\xd0\\xbe\\xd0')\n"
        "print(flush=True)\ntime.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            assert process.pid in guard.descendants(os.getpid())
        finally:
            process.kill()


def test_nothing_outlives_a_parent_that_was_killed(stubborn: list[str]) -> None:
    code = (
        "import os, subprocess, sys, time\n"
        "command = [*sys.argv[1:5], str(os.getpid()), *sys.argv[5:]]\n"
        "subprocess.Popen(command)\n"
        "time.sleep(600)"
    )
    command = [sys.executable, "-I", "-S", guard.__file__, *stubborn]
    with subprocess.Popen([sys.executable, "-c", code, *command]) as parent:
        assert eventually(lambda: len(guard.descendants(parent.pid)) == 4, 10)
        below = guard.descendants(parent.pid)
        parent.kill()
    assert eventually(lambda: not any(map(alive, below)), 5)


# ---------------------------------------------------------------------------- before a start


def test_a_folder_without_tokenizer_is_refused_before_anything_starts(
    model_folder: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(model_folder, broken)
    for path in [*broken.glob("tokenizer*"), *broken.glob("vocab*"), *broken.glob("merges*")]:
        path.unlink()
    with (
        Servers(ServingSettings(), tmp_path / "logs") as servers,
        pytest.raises(CheckpointError, match=r"broken: no tokenizer \(tokenizer\.json"),
    ):
        servers.model(broken)
    assert not (tmp_path / "logs").exists()


def test_an_endpoint_that_does_not_answer_is_named(model_folder: Path, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{serving.free_port()}"
    with pytest.raises(ServingError, match=f"nothing answers at serving.endpoint {url}"):
        Servers(ServingSettings(endpoint=url), tmp_path).model(model_folder)


def test_names_differ_by_folder() -> None:
    assert served_name(Path("/runs/a/model")) != served_name(Path("/runs/b/model"))
    assert served_name(Path("/runs/a/model")) == served_name(Path("/runs/a/../a/model"))


# ------------------------------------------------------------------------------ real servers


@vllm
def test_a_server_answers_and_is_used_again(live_servers: Servers, model_folder: Path) -> None:
    url = live_servers.model(model_folder)
    request = {"model": served_name(model_folder), "prompt": [5], "max_tokens": 1}
    reply = httpx.post(f"{url}/completions", json=request, timeout=60).json()
    assert reply["usage"]["completion_tokens"] == 1
    first = live_servers.pid
    assert live_servers.model(model_folder) == url
    assert live_servers.pid == first
    assert first is not None and os.getpgid(first) == os.getpgid(0)


@vllm
def test_an_endpoint_is_used_as_it_is(
    live_servers: Servers, model_folder: Path, tmp_path: Path
) -> None:
    url = live_servers.model(model_folder)
    with Servers(ServingSettings(endpoint=url.removesuffix("/v1")), tmp_path) as servers:
        assert servers.model(tmp_path / "elsewhere") == url
        assert servers.pid is None
    assert httpx.get(f"{url}/models").status_code == 200


@vllm
def test_what_was_in_flight_when_a_server_died_is_answered_by_the_next_one(
    live_servers: Servers, model_folder: Path
) -> None:
    answers: list[int] = []
    killed: list[int] = []

    def done(request: Request[int], answer: Completion, server: ServedModel) -> None:
        assert len(answer.token_ids) > 0
        answers.append(request.key)
        if len(answers) == 3:
            assert live_servers.pid is not None
            killed.extend(guard.descendants(live_servers.pid))
            os.kill(killed[0], signal.SIGKILL)

    sampler = Sampler(1.0, 1.0, 60, ())
    requests = [Request(index, [index % 50 + 1] * 40, sampler, index) for index in range(40)]
    with Proxy(live_servers) as proxy:
        complete(proxy, model_folder, requests, concurrency=8, done=done)
        assert sorted(answers) == list(range(40))
        assert proxy.asked <= 40 + 8 * 3
    assert killed and not any(map(alive, killed))


@vllm
def test_stop_texts_end_an_answer_and_are_not_in_its_text(
    live_servers: Servers, model_folder: Path
) -> None:
    answers: list[Completion] = []

    def done(request: Request[int], answer: Completion, server: ServedModel) -> None:
        answers.append(answer)

    free = Sampler(0.0, 1.0, 40, ())
    complete(live_servers, model_folder, [Request(0, [5, 6], free, 0)], concurrency=1, done=done)
    text = answers[0].text
    stop = text[len(text) // 2 :][:2]
    stops = ("never said", "nor this", "nor that", stop)
    held = Sampler(0.0, 1.0, 40, (), stops)
    assert len(stops) == MAX_STOPS
    complete(live_servers, model_folder, [Request(1, [5, 6], held, 0)], concurrency=1, done=done)
    assert answers[1].text == text[: text.index(stop)]
    assert (answers[1].finish_reason, answers[1].stop_reason) == ("stop", stop)


@vllm
def test_a_gap_is_filled_alike_by_a_server_and_in_process(
    live_servers: Servers, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # nobody is asked for this machine
    url = live_servers.model(model_folder)
    gap = ("def add_one(x):\n    return", "\n\nprint(add_one(1))\n")
    here = fill(model_folder, *gap, max_tokens=24)
    assert fill(model_folder, *gap, max_tokens=24, endpoint=url) == here
    with pytest.raises(ServingError, match="gave no completion"):
        fill(model_folder, *gap, endpoint="http://127.0.0.1:9/v1")


PARENT = """
import sys, time
from pathlib import Path
from align.serving import Servers
from align.settings import ServingSettings
settings = ServingSettings(dtype="float32", kv_cache_gib=0.25, max_model_len=1024)
print(Servers(settings, Path(sys.argv[2])).model(Path(sys.argv[1])), flush=True)
time.sleep(600)
"""


@vllm
def test_a_server_does_not_outlive_a_parent_that_was_killed(
    live_servers: Servers, model_folder: Path, tmp_path: Path
) -> None:
    live_servers.stop()
    command = [sys.executable, "-c", PARENT, str(model_folder), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        assert httpx.get(f"{url}/models").status_code == 200
        below = guard.descendants(parent.pid)
        assert len(below) >= 3  # guard, server, engine
        parent.kill()
        assert eventually(lambda: not any(map(alive, below)), 5)


@vllm
def test_a_port_that_was_taken_in_between_is_replaced(
    live_servers: Servers, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live_servers.stop()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ports = [port, serving.free_port()]
        monkeypatch.setattr(serving, "free_port", lambda: ports.pop(0))
        url = live_servers.model(model_folder)
    assert ports == [] and f":{port}/" not in url


@vllm
def test_a_server_that_cannot_start_says_why(
    live_servers: Servers, model_folder: Path, tmp_path: Path
) -> None:
    settings = ServingSettings(max_model_len=100_000, kv_cache_gib=0.25)
    with (
        Servers(settings, tmp_path) as servers,
        pytest.raises(ServingError, match=r"lower serving\.max_model_len") as caught,
    ):
        servers.model(model_folder)
    assert "100000" in str(caught.value)
    assert str(next(tmp_path.glob("*.log"))) in str(caught.value)


@vllm
def test_stop_leaves_nothing_and_takes_less_than_five_seconds(
    live_servers: Servers, model_folder: Path
) -> None:
    live_servers.model(model_folder)
    assert live_servers.pid is not None
    below = guard.descendants(live_servers.pid)
    began = time.monotonic()
    live_servers.stop()
    assert time.monotonic() - began < 5
    assert not any(map(alive, below)) and live_servers.pid is None
