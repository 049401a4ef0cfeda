"""Settings files and overrides, changed at random: what people type, and what no one would."""

import dataclasses
import random
import typing

from setr.settings.config import Config
from setr.settings.recipe_rules import RECIPE_RULES

# Each was once a traceback, a hang or something else than what stands there.
VALUES = (
    *("", " ", "~", "null", "no", "yes", "true", "off", "1e3", "1e-3", "2024", "2024-02-30", "2024-13-45", "12:30:00"),
    *("0x10", "010", "1_000", "9" * 5000, "-1", "0", "1", "3", "1e400", ".inf", "-.inf", ".nan", "-0.0", "1.0e-300"),
    *(str(2**63 - 1), str(2**63), str(2**64), "1000000000", "1000000", "-9223372036854775809", "0.5", "2.5"),
    *("[", "]", "{", "}", "[x]", "[[x]]", "[]", "{}", "{a: b}", "a: b", "a:", ": b", "[a, [b, {c: d}]]", "[1, 2, 3]"),
    *("!!int x", "!!bool maybe", "!!float x", "!!binary gAA=", "!!binary x", "!!set {a, b}", "!!timestamp 2024"),
    *("!!python/object/apply:os.system [ls]", "!x y", "!", "&a [1]", "*a", "{<<: {a: 1}}", "{[a]: 1}", "{a: 1, a: 2}"),
    *("- a", "? b", "'", '"', "'x", '"x', "#", " #2", "x #2", "/x/My set #2", "\\", "%", "@", "`", "|", ">", "--- a"),
    *("\0", "\udcff", "a\udcffb", "\x1b[31m", "\u00e9", "\u200b", "\ufeff", "\x85", "a\nb", "a\tb", "\U0001f600"),
    *(
        "../..",
        "/",
        ".",
        "..",
        "data",
        "setr",
        "setr/data",
        "checkpoints",
        "results/x",
        "s3://b/c",
        "~nobody/x",
        "$HOME",
    ),
    *("[" * 3000, "{a: " * 500, "[" * 30 + "]" * 30, "x" * 300, "x" * 100_000, "[" + "1, " * 20_000 + "1]"),
    *("paper", "bfloat16", "[true]", "[1.5, x]", "[[1, 2, 3]]", "[128, 128]", "[256, 64]", "{40k: 3}", "{40k: 0}"),
    *("cpu", "table2/setr-pup/80k", "[table2/setr-pup/80k]", "setr-pup", "[2, 3]", "4", "80k"),
)


def keys(record: type = Config, where: str = "") -> list[str]:
    """Returns every setting by its whole name, the recipe's numbers among them."""
    found: list[str] = []
    for name, hint in typing.get_type_hints(record).items():
        key = f"{where}.{name}" if where else name
        found += keys(hint, key) if dataclasses.is_dataclass(hint) else [key]
    return found if where else [*found, *(f"training.recipe.{name}" for name in RECIPE_RULES)]


KEYS = (*keys(), "datasets.mine", "miniature.iterations.40k", "search.space.base_lr", "search.space.seed")


def override(chance: random.Random) -> str:
    """Returns `key=value`, seldom with a key that is none."""
    key = chance.choice(KEYS)
    if chance.random() < 0.15:
        key = chance.choice((key[:-1], key + ".x", key.upper(), key.partition(".")[0], "." + key, "..", "", key + " "))
    value = chance.choice(VALUES)
    return f"{key}={value}" if chance.random() < 0.98 else key + value


def file(text: str, chance: random.Random) -> str:
    """Returns the text of a settings file with one to three changes."""
    lines = text.splitlines()
    for _ in range(chance.randint(1, 3)):
        lines = lines or [""]
        place = chance.randrange(len(lines))
        change = chance.randrange(7)
        if change == 0:
            del lines[place]
        elif change == 1:
            lines.insert(place, lines[chance.randrange(len(lines))])
        elif change == 2:
            lines[place] = f"{lines[place].partition(':')[0]}: {chance.choice(VALUES)}"
        elif change == 3:
            lines[place] = " " * chance.randint(1, 3) + lines[place]
        elif change == 4:
            cut = chance.randrange(len(lines[place]) + 1)
            lines[place] = lines[place][:cut] + chance.choice(VALUES)[:200] + lines[place][cut:]
        elif change == 5:
            lines.insert(place, f"{chance.choice(KEYS).partition('.')[0]}: {chance.choice(VALUES)}")
        else:
            lines = lines[: max(1, place)]
    return "\n".join(lines) + "\n"
