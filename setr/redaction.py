"""Texts without their secrets: an address loses login, options and fragment, and known secrets go wherever they stand.

Known are the secrets in the environment's variables and in the addresses that were remembered from the settings. What a
person reads, what is stored and what leaves this process goes through here; the address itself stays with its client.
"""

import os
import re
from typing import Any
from urllib.parse import quote, unquote

HIDDEN = "***"
# A shorter word may stand anywhere with another meaning; inside an address and behind `password=` it goes all the same.
_LEAST = 8
# Bounded, here and below: a text may be anybody's, and a search must not take its length squared.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s\"'<>]+")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]*\]|[^:@\[\]]*)(:\d*)?")
_OPTION = re.compile(r"[?#;&][\w.%+-]+=")
_PAGE = re.compile(r"#/[\w/.-]*")  # of MLflow's UI: #/experiments/1/runs/0f3a
_SECRET_WORD = r"passw(?:or)?d|passwd|token|secret|signature|access_?key|api_?key|(?<![A-Za-z])(?:pwd|sig)"
_PAIR = re.compile(rf"(?i)((?:{_SECRET_WORD})\s{{0,9}}=\s{{0,9}})(\"[^\"]*\"|'[^']*'|[^\s&;,|\"']+)")
_HEADER = re.compile(r"(?i)\b((?:Bearer|Basic)\s+)[\w.~+/=-]{8,}")
_SECRET_NAME = re.compile(r"(?i)TOKEN|PASSW|PASSWD|PWD$|SECRET|ACCESS_?KEY|API_?KEY|CREDENTIAL|PRIVATE")
_NO_SECRET_NAME = re.compile(r"(?i)(PATH|FILE|MODE|DIR|SOCK|URL|URI)$")

_remembered: set[str] = set()


def remember(address: str) -> None:
    """Keeps the secrets of an address that the settings give, so that `redact` knows them wherever they turn up."""
    _remembered.update(_secrets_of(address))


def without_secrets(address: str, *, mark: str = f"{HIDDEN}@") -> str:
    """Returns an address without login, options (?token=...) and fragment; `mark` stands where a login was.

    The page of a run in MLflow's UI, which is a fragment, stays. What is no address comes back as it is.
    """
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if _HOST.fullmatch(authority.rpartition("@")[2]):
        path = re.split(r"[?#;]", rest[len(authority) :], maxsplit=1)[0]
        # An "@" in the path: a password with a slash in it may have come before.
        shown = path.rpartition("@")[2] if "@" in path else authority.rpartition("@")[2] + path
        login = "@" in authority or "@" in path
    else:
        # A password with the characters that end a host: some clients take everything before the last "@" for it.
        option = _OPTION.search(rest)
        head = rest[: option.start()] if option else rest
        login = "@" in head
        shown = re.split(r"[?#;&]", head.rpartition("@")[2], maxsplit=1)[0]
    page = "" if "?" in rest or (found := _PAGE.search(rest)) is None or found.end() != len(rest) else found[0]
    return f"{scheme}://{mark if login else ''}{shown}{page}"


def redact(text: str) -> str:
    """Returns a text whose addresses, passwords and tokens are without what is secret in them."""
    text = _ADDRESS.sub(lambda found: without_secrets(found[0]), text)
    text = _HEADER.sub(rf"\g<1>{HIDDEN}", _PAIR.sub(rf"\g<1>{HIDDEN}", text))
    return without_known(text)


def without_known(text: str) -> str:
    """Returns a text without the secrets of the environment and the settings; all else stays, byte for byte."""
    known = set(_remembered)
    for name, value in os.environ.items():
        if "://" in value:
            known |= _secrets_of(value)
        elif _SECRET_NAME.search(name) and not _NO_SECRET_NAME.search(name) and not value.startswith(("/", "~")):
            known |= _forms(value)
    for secret in sorted(known, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def redacted(value: Any) -> Any:
    """Returns plain values (dictionaries, lists, texts, numbers) with every text redacted."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {name: redacted(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(entry) for entry in value]
    return value


def first_line(error: BaseException) -> str:
    """Returns what an error says first, redacted; its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return redact(lines[0]) if lines else type(error).__name__


def _secrets_of(address: str) -> set[str]:
    """Returns what is secret in an address: its password (or a login that is a token), options, and fragment."""
    _, separator, rest = address.partition("://")
    found: set[str] = set()
    if separator and "@" in rest:
        user, colon, password = rest.rpartition("@")[0].partition(":")
        found |= _forms(password) if colon else _forms(user, least=2 * _LEAST)
    for options in re.split(r"[?#;]", rest)[1:]:
        for pair in options.split("&"):
            name, equals, value = pair.partition("=")
            # An option may itself be a connection string: ...?odbc_connect=UID%3Dme%3BPWD%3D...
            inner = [match[2] for match in _PAIR.finditer(unquote(value))]
            secret = bool(re.search(rf"(?i){_SECRET_WORD}|cred|auth", name))
            alone = "" if equals or name.startswith("/") else name  # ?s3cr3t, #s3cr3t; not MLflow's #/experiments/1
            found |= {form for text in [*inner, value if secret else alone] for form in _forms(text)}
    found |= {form for match in _PAIR.finditer(address) for form in _forms(match[2].strip("\"'"))}
    return found


def _forms(secret: str, *, least: int = _LEAST) -> set[str]:
    """Returns the ways a secret may be written; none for a word that stands in many texts with another meaning."""
    forms = {secret, unquote(secret), quote(secret, safe=""), quote(unquote(secret), safe="")}
    return {one for one in forms if len(one) >= least and not (len(one) < 12 and one.isalpha() and one.islower())}
