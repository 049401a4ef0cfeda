"""The tracking server: compose file, secrets, the database's two roles on a real PostgreSQL, the bucket."""

import http.server
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.environment import ROOT

FOLDER = ROOT / "infra" / "tracking"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_compose_file_fits_the_compose_specification() -> None:
    if find_spec("check_jsonschema") is None:
        pytest.skip("pip install check-jsonschema")
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", FOLDER / "compose.yaml"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_container_is_closed(name: str) -> None:
    service = SERVICES[name]
    assert service["user"].startswith("${SETR_USER:?")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert any(entry.startswith("/tmp:") for entry in service["tmpfs"])
    assert {"mem_limit", "cpus", "pids_limit"} <= set(service)
    assert not {"privileged", "network_mode", "cap_add", "pid", "ipc"} & set(service)
    assert re.fullmatch(r"[a-z/-]+:v?\d[\w.-]*", service["image"])


def test_only_mlflow_is_published_and_on_loopback() -> None:
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "mlflow": ["127.0.0.1:5000:5000"]
    }
    assert COMPOSE["networks"]["inside"]["internal"] is True
    for name, service in SERVICES.items():
        assert service["networks"] == (["inside", "outside"] if name == "mlflow" else ["inside"])


def test_server_runs_no_jobs_and_waits_for_the_migration() -> None:
    server = SERVICES["mlflow"]
    assert server["environment"]["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert "--allowed-hosts=localhost:5000,127.0.0.1:5000" in server["command"]
    assert any(word.startswith("--workers=") for word in server["command"])
    assert server["depends_on"] == {"initialise": {"condition": "service_completed_successfully"}}
    assert SERVICES["initialise"]["restart"] == "no"


def test_passwords_stand_in_no_address_and_each_process_has_its_own_file() -> None:
    text = (FOLDER / "compose.yaml").read_text()
    assert not re.search(r"://[^\s/@]*:[^\s/@]*@", text)
    files = {name: service["env_file"] for name, service in SERVICES.items()}
    names = {"postgres": "database", "object-store": "object-store", "initialise": "initialise", "mlflow": "server"}
    assert files == {name: [f"${{SETR_TRACKING}}/{file}.env"] for name, file in names.items()}


def test_files_that_are_mounted_exist() -> None:
    sources = [entry.split(":")[0] for service in SERVICES.values() for entry in service.get("volumes", [])]
    for source in (source for source in sources if source.startswith(".")):
        assert (FOLDER / source).is_file()


def run_setup(folder: Path) -> "subprocess.CompletedProcess[str]":
    command = ["bash", str(FOLDER / "setup.sh"), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def variables(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


def test_setup_makes_secrets_that_only_the_user_can_read(tmp_path: Path) -> None:
    folder = tmp_path / "tracking"
    done = run_setup(folder)
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = {path.name: variables(path) for path in folder.glob("*.env")}
    assert set(files) == {"compose.env", "database.env", "initialise.env", "object-store.env", "server.env"}
    assert all(stat.S_IMODE((folder / name).stat().st_mode) == 0o600 for name in files)
    assert files["database.env"]["OWNER_PASSWORD"] == files["initialise.env"]["PGPASSWORD"]
    assert files["database.env"]["RUNTIME_PASSWORD"] == files["server.env"]["PGPASSWORD"]
    assert files["database.env"]["OWNER_PASSWORD"] not in (folder / "server.env").read_text()
    assert files["object-store.env"]["ROOT_SECRET_ACCESS_KEY"] == files["server.env"]["AWS_SECRET_ACCESS_KEY"]
    secrets = {value for name in ("database.env", "object-store.env") for value in files[name].values()}
    assert len(secrets) == 5
    assert all(re.fullmatch("[0-9a-f]{48}", value) for value in secrets)
    assert not any(value in done.stdout for value in secrets)
    assert files["compose.env"]["SETR_TRACKING"] == str(folder)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", files["compose.env"]["SETR_USER"])  # never root
    uid = int(files["compose.env"]["SETR_USER"].split(":")[0])
    assert {(folder / name).stat().st_uid for name in ("database", "objects")} == {uid}


def test_setup_again_changes_nothing(tmp_path: Path) -> None:
    run_setup(tmp_path / "tracking")
    before = {path: path.read_text() for path in (tmp_path / "tracking").glob("*.env")}
    assert run_setup(tmp_path / "tracking").returncode == 0
    assert {path: path.read_text() for path in before} == before


def test_setup_refuses_a_folder_in_the_project(tmp_path: Path) -> None:
    copy = tmp_path / "project" / "infra" / "tracking"
    copy.mkdir(parents=True)
    shutil.copy(FOLDER / "setup.sh", copy)
    inside = tmp_path / "project" / "secrets"
    command = ["bash", str(copy / "setup.sh"), str(inside)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "inside the project" in done.stderr
    assert not list(inside.glob("*"))


def query(database: dict[str, str], role: str, password: str, text: str, name: str = "mlflow") -> str:
    """Returns what psql prints, the error included."""
    done = subprocess.run(
        ["psql", "--no-psqlrc", "-tA", "-U", role, "-d", name, "-c", text],
        env={**database, "PGPASSWORD": password},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return (done.stdout + done.stderr).strip()


def test_server_role_writes_rows_and_changes_no_table(database: dict[str, str]) -> None:
    owner = ("mlflow_owner", "the owner's")
    server = ("mlflow", 'run"time')
    made = query(database, *owner, "CREATE TABLE runs (id serial PRIMARY KEY, name text)")
    assert made == "CREATE TABLE"
    assert query(database, *server, "INSERT INTO runs (name) VALUES ('a') RETURNING id").startswith("1")
    assert query(database, *server, "UPDATE runs SET name = 'b'") == "UPDATE 1"
    assert query(database, *server, "DELETE FROM runs") == "DELETE 1"
    for statement in ("CREATE TABLE x (i int)", "CREATE TEMP TABLE x (i int)", "CREATE SCHEMA x"):
        assert "permission denied" in query(database, *server, statement)
    for statement in ("DROP TABLE runs", "ALTER TABLE runs ADD z int", "CREATE INDEX ON runs (name)"):
        assert "must be owner" in query(database, *server, statement)
    assert "permission denied" in query(database, *server, "TRUNCATE runs")
    assert "permission denied" in query(database, *server, "SELECT 1", name="postgres")
    assert "authentication failed" in query(database, "mlflow", "wrong", "SELECT 1")


def test_bucket_is_created_once() -> None:
    pytest.importorskip("boto3")
    requests: list[str] = []
    buckets: set[str] = set()

    class Store(http.server.BaseHTTPRequestHandler):
        """Knows the two requests that are needed."""

        def answer(self) -> None:
            requests.append(f"{self.command} {self.path}")
            known = self.path in buckets
            if self.command == "PUT":
                buckets.add(self.path)
            self.send_response(200 if known or self.command == "PUT" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_PUT = answer  # noqa: N815

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Store)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {
        "PATH": os.environ["PATH"],
        "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = [sys.executable, str(FOLDER / "create_bucket.py"), "mlflow"]
    try:
        for _ in range(2):
            subprocess.run(command, env=environment, check=True, timeout=60, stdout=subprocess.DEVNULL)
    finally:
        server.shutdown()
        server.server_close()
    assert requests == ["HEAD /mlflow", "PUT /mlflow", "HEAD /mlflow"]
