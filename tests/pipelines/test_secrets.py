"""A canary in the tracking address, searched for in every output of a training, a sweep's end and a report."""

import argparse
import dataclasses
import os
import shutil
from pathlib import Path

import pytest

from pipelines.cluster.driver import quiet
from pipelines.cluster.session import parent_run
from pipelines.report import work
from pipelines.terminal.command import print_config
from pipelines.tracking import tracker as tracking
from pipelines.tracking.recording import send_records
from pipelines.tracking.results_folder import write_results
from pipelines.tracking.tracker import open_tracker
from setr.planning.planned import Planned
from tests.helpers.tiny import CELL, settings

CANARY = "CanarY7f3a91"
TOKEN = CANARY + CANARY
FORMS = {  # address -> what of it is secret, as a library might print it alone
    f"http://me:{CANARY}@host:5000": CANARY,
    f"http://{TOKEN}@host:5000/mlflow": TOKEN,
    f"http://host:5000/mlflow?token={CANARY}": CANARY,
    f"http://host:5000/?sig={CANARY}": CANARY,
    f"http://host:5000/#{CANARY}": CANARY,
    f"postgresql://me:{CANARY}@host/db": CANARY,
    f"postgresql://host/db?user=me&password={CANARY}": CANARY,
    f"mysql+pymysql://me:{CANARY}@host/db": CANARY,
    f"mssql+pyodbc:///?odbc_connect=UID%3Dme%3BPWD%3D{CANARY}": CANARY,
    f"databricks://token:{CANARY}@host": CANARY,
    f"http://me:x%2F{CANARY}@host:5000": f"x/{CANARY}",
    f"http://me:x/{CANARY}@host:5000": f"x%2F{CANARY}",
}


@pytest.mark.parametrize("by", ["environment", "setting"])
def test_a_secret_of_the_address_is_in_no_output(
    by: str,
    home: Path,
    trained: Planned,
    empty_database: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(empty_database, tmp_path)
    opened = tracking._open
    # Every address leads to the database here: what the client is given is not what is looked at.
    database, artifacts = f"sqlite:///{tmp_path / 'mlflow.db'}", str(tmp_path / "mlartifacts")
    monkeypatch.setattr(tracking, "_open", lambda uri, experiment, _: opened(database, experiment, artifacts))
    monkeypatch.setenv("SETR_HOME", str(tmp_path))
    forms = list(FORMS.items()) if by == "environment" else list(FORMS.items())[:2]
    for number, (address, secret) in enumerate(forms):
        words = [f"tracking.experiment=x{number}", "tracking.timeout_seconds=120"]
        if by == "environment":
            monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        else:
            words.append(f"tracking.uri='{address}'")
        config = settings(*words, section="sweep")
        print_config(config, ("tracking",))
        tracker = open_tracker(config.tracking, tmp_path)
        folder = tmp_path / f"checkpoints{number}" / trained.identity
        shutil.copytree(trained.folder, folder)
        entry = dataclasses.replace(trained, folder=folder)
        with (
            quiet(tmp_path / "logs" / f"{number}.log"),
            parent_run(config, tracker, "sweep", "", tags={"address": address}, parameters={"uri": address}) as parent,
        ):
            os.write(1, f"a library says {address} and {secret}\n".encode())
            send_records(tracker, parent, [entry])
    write_results(config, [entry], tmp_path / "results")
    assert work(config, argparse.Namespace(where=False, words=[], verify=False, images=2)) == 0
    assert work(config, argparse.Namespace(where=True, words=[], verify=False, images=2)) == 0
    work(config, argparse.Namespace(where=False, words=["trace", CELL], verify=False, images=2))
    said = capfd.readouterr()
    assert CANARY not in said.out + said.err
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"run.json", "record.json", "config.json", "index.html", "mlflow.db"} <= {path.name for path in files}
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []
