"""What is secret in an address is in no text that leaves the process, whatever form the address has."""

import json
import os
import time

import pytest

from setr import redaction
from setr.errors import InputError
from setr.redaction import redact, redacted, remember, without_known, without_secrets

CANARY = "CanarY-7f3a%2F91"  # a percent-encoded slash in it
PLAIN = "CanarY-7f3a/91"
ADDRESSES = {
    "password": f"https://me:{CANARY}@host:5000/mlflow",
    "token as login": f"https://{CANARY}{CANARY}@host:5000",
    "token option": f"http://host:5000/?token={CANARY}",
    "password option": f"postgresql://host/db?user=me&password={CANARY}",
    "signature": f"https://account.blob.example/container?sv=2024&sig={CANARY}&se=2030",
    "fragment": f"http://host:5000/mlflow#{CANARY}",
    "driver": f"mysql+pymysql://me:{CANARY}@host:3306/db?charset=utf8mb4",
    "keys of a bucket": f"s3://AKIACANARY:{CANARY}@bucket/prefix?region=eu",
    "connection string": f"mssql+pyodbc:///?odbc_connect=UID%3Dme%3BPWD%3D{CANARY}",
    "words of libpq": f"host=db user=me password={CANARY} dbname=runs",
    "cluster": f"ray://me:{CANARY}@head:10001",
    "workspace": f"databricks://token:{CANARY}@host?http_path=sql",
    "slash in the password": f"postgresql://me:x/{CANARY}@host/db",
    "at in the password": f"postgresql://me:x@{CANARY}@host/db",
    "question mark in the password": f"postgresql://me:x?{CANARY}@host/db",
    "hash in the password": f"postgresql://me:x#{CANARY}@host/db",
}


def assert_clean(text: str) -> None:
    for form in (CANARY, PLAIN, "CanarY", "canary"):
        assert form not in text


@pytest.mark.parametrize("form", ADDRESSES)
def test_no_form_of_an_address_shows_its_secret(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    address = ADDRESSES[form]
    assert_clean(redact(address))
    assert_clean(redact(f'it said: "{address}": refused'))
    assert_clean(redact(json.dumps({"uri": address, "more": 1})))
    if "://" in address:
        assert_clean(without_secrets(address))
        assert without_secrets(address).startswith(address.partition("://")[0])
    assert_clean(str(InputError("E_TRACKING", "away", where=address, found=f"no answer from {address}")))
    assert_clean(json.dumps(redacted({"tracking": {"uri": address}, "list": [address]})))
    # A library says the secret alone: the address is known from the environment, or from the settings.
    for known in (True, False):
        monkeypatch.setattr(redaction, "_remembered", set())
        if known:
            monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
            remember(address)
        else:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", address if "://" in address else f"postgresql://a:{CANARY}@h")
        alone = CANARY + CANARY if form == "token as login" else CANARY
        if not form.endswith("in the password"):
            assert_clean(redact(f"login with {alone} failed"))


@pytest.mark.parametrize(
    "name",
    ["MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN", "PGPASSWORD"],
)
def test_an_environment_that_a_library_prints_has_no_secrets(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, PLAIN)
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{CANARY}@proxy:3128")
    assert_clean(redact(str(dict(os.environ))))
    assert_clean(without_known(f"+ {name}: {PLAIN}"))


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:5000/#/experiments/1/runs/0f3a",
        "sqlite:////home/me/mlflow.db",
        "s3://bucket/prefix/train",
        "expected RAY_AUTH_MODE=token",
        "set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        "http://[::1]:8265",
        "monkey=1, tokens=12 sigma=0.5",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_the_host_stays_and_a_login_is_marked() -> None:
    assert redact("postgresql://me:secret@host/db") == "postgresql://***@host/db"
    assert without_secrets("https://me:secret@host/mlflow", mark="") == "https://host/mlflow"


def test_a_common_word_as_password_spoils_no_other_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://mlflow:mlflow@host/mlflow")
    assert redact("mlflow.db of mlflow") == "mlflow.db of mlflow"


@pytest.mark.parametrize(
    "text", ["x" * 300_000, "_" * 300_000, "0" * 300_000, "a." * 150_000, "http://" + "?a" * 100_000]
)
def test_a_long_text_takes_no_longer_than_its_length_asks_for(text: str) -> None:
    begun = time.process_time()
    redact(text)
    assert time.process_time() - begun < 2.0
