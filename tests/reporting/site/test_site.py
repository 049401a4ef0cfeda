import base64
import dataclasses
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.accessibility import rendered
from setr.errors import EnvironmentFailure, InputError
from setr.reporting.numbers.results import Note, Result, save_results
from setr.reporting.site import site_folder
from setr.reporting.site.site import build_site
from setr.study.cells import find_cell
from setr.study.experiment import identity_of
from tests.helpers.environment import ROOT

Make = Callable[..., Result]
MakeAll = Callable[..., list[Result]]
PUP = [find_cell("table2/setr-pup/80k")]
EVIL = "<script>alert(1)</script>\n\"><img src=x onerror=alert(1)> '{{7*7}}"


class Page(HTMLParser):
    """The tags, attributes and targets of one page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.inline: dict[str, str] = {"style": "", "script": ""}
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag if tag in self.inline else self.inside

    def handle_endtag(self, tag: str) -> None:
        self.inside = "" if tag == self.inside else self.inside

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.inline[self.inside] += data
        else:
            self.text += data

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def pages_of(folder: Path) -> dict[Path, Page]:
    return {file: Page(file.read_text(encoding="utf-8")) for file in sorted(folder.rglob("*.html"))}


def hostile(result: Result) -> Result:
    """Returns a result with markup in every text that a user or a tracking server can choose."""
    experiment = {**result.experiment, "variant": EVIL, "dataset": EVIL, "schedule": EVIL, "code": EVIL}
    return dataclasses.replace(
        result,
        identity=identity_of(experiment),
        experiment=experiment,
        run_id=EVIL,
        run_url="javascript:alert(1)",
        tags={EVIL: EVIL, "git.commit": EVIL, "setr.train_command": EVIL},
        class_names=(EVIL,) * 19,
        failure=EVIL,
        checkpoint=EVIL,
        weights=({"file": EVIL},),
        curves={**result.curves, EVIL: [(1, 2.0)]},
        cells=(*result.cells, EVIL),
    )


@pytest.fixture(scope="module")
def some(make_all: MakeAll, tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """Five experiments of Table 2: finished with pictures and single images' scores, unfinished, hostile."""
    folder = tmp_path_factory.mktemp("inputs")
    chosen = [one for one in make_all((2,), points=6) if str(one.of("variant")) in ("setr-pup", "setr-mla", "fcn")]
    generator = np.random.default_rng(0)
    made = []
    for index, one in enumerate(chosen):
        label = generator.integers(100, 300, (12, 19))
        hits = (label * generator.uniform(0.3, 0.6, label.shape)).astype(np.int64)
        areas = folder / f"areas-{index}.npz"
        np.savez(areas, keys=np.array([f"val/{image}" for image in range(12)]), areas=np.stack([hits, label, label], 1))
        made.append(dataclasses.replace(one, per_image={"ss": areas}))
    made[0] = dataclasses.replace(made[0], scores={}, finished=False)
    made.append(hostile(dataclasses.replace(made[-1], cells=())))
    return made


@pytest.fixture(scope="module")
def built(some: list[Result], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "report"
    notes = [Note(EVIL, EVIL)]
    assert build_site(some, folder, notes=notes, source=f"Local copy {EVIL}").rebuilt
    return folder


def test_pages_and_files_are_all_there(built: Path, some: list[Result]) -> None:
    for number in range(1, 8):
        for suffix in ("html", "md", "tex", "csv", "json"):
            assert (built / f"table-{number}.{suffix}").stat().st_size > 100
    assert len(list((built / "experiments").glob("*.html"))) == len(some)
    assert (built / "index.html").stat().st_size < 300_000


def test_every_link_leads_somewhere(built: Path) -> None:
    pages = pages_of(built)
    anchors = {file: {attributes.get("id") for _, attributes in page.tags} for file, page in pages.items()}
    checked = 0
    for file, page in pages.items():
        for tag, name in (("a", "href"), ("img", "src")):
            for attributes in page.all(tag):
                target = attributes[name] or ""
                if target.startswith("http://127.0.0.1"):
                    continue
                path, _, anchor = target.partition("#")
                other = (file.parent / path).resolve() if path else file
                assert other.is_file(), f"{file.name}: {target}"
                if anchor:
                    assert anchor in anchors[other], f"{file.name}: {target}"
                checked += 1
    assert checked > 100


def test_every_number_leads_to_its_experiment_and_from_there_to_its_run(built: Path, some: list[Result]) -> None:
    table = (built / "table-2.html").read_text()
    for one in some[1:-1]:
        assert f'href="experiments/{one.short}.html"' in table
        assert f'href="{one.run_url}"' in (built / f"experiments/{one.short}.html").read_text()


def test_nothing_that_a_user_named_becomes_markup(built: Path) -> None:
    for file, page in pages_of(built).items():
        assert len(page.all("script")) == 1, file.name
        assert "alert(1)" not in page.inline["script"]
        for tag, attributes in page.tags:
            assert not any(name.startswith("on") for name in attributes), (file.name, tag)
            for value in attributes.values():
                assert not (value or "").strip().lower().startswith("javascript:")
            if tag == "img":
                assert (attributes["src"] or "").split("/")[-1] != "x"
    shown = [Page(file.read_text()).text for file in (built / "experiments").glob("*.html")]
    assert sum("<script>alert(1)</script>" in text and "{{7*7}}" in text for text in shown) == 1


def test_policy_allows_the_pages_own_style_and_script_only(built: Path) -> None:
    for page in pages_of(built).values():
        policy = next(one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
        assert policy is not None
        assert policy.startswith("default-src 'none'; img-src 'self' data:; style-src 'sha256-")
        assert "unsafe" not in policy
        for kind in ("style", "script"):
            digest = base64.b64encode(hashlib.sha256(page.inline[kind].encode()).digest()).decode()
            assert f"{kind}-src 'sha256-{digest}'" in policy
        assert not any("style" in attributes for _, attributes in page.tags)


def test_nothing_is_loaded_from_elsewhere(built: Path) -> None:
    for file in built.rglob("*"):
        if file.suffix in (".html", ".svg", ".css", ".js"):
            text = file.read_text(encoding="utf-8")
            loaded = re.findall(r"(?:src=|url\(|@import|<link)[^>]{0,20}https?:", text)
            assert loaded == [], file.name


def test_pages_can_be_read_by_a_screen_reader(built: Path) -> None:
    for file, page in pages_of(built).items():
        assert page.all("html")[0]["lang"] == "en"
        assert len(page.all("h1")) == 1, file.name
        assert page.all("a")[0]["href"] == "#main"
        assert len(page.all("caption")) == len(page.all("table"))
        assert all(one.get("scope") in ("col", "row", "colgroup") for one in page.all("th"))
        assert all(one.get("alt") for one in page.all("img"))
        identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
        assert len(identifiers) == len(set(identifiers)), file.name


def test_differences_between_models_are_tested_over_images(built: Path) -> None:
    text = Page((built / "table-2.html").read_text()).text
    assert "Paired bootstrap over the 12 validation images" in text
    assert "not significant" in text
    assert "| not significant |" in (built / "table-2.md").read_text()
    [scale] = json.loads((built / "table-2.json").read_text())["scales"]
    assert {False} <= {row["significant"] for row in scale["comparisons"]}


def test_missing_numbers_are_listed_with_their_reason(built: Path, some: list[Result]) -> None:
    text = Page((built / "table-2.html").read_text()).text
    assert f"{some[0].cells[0]} unfinished: at step" in text
    assert "table2/hybrid-deit/80k not run: no experiment of this cell has run" in text


def test_settings_that_differ_from_the_papers_come_first(built: Path, some: list[Result]) -> None:
    page = (built / f"experiments/{some[1].short}.html").read_text()
    rows = re.findall(r'<tr( class="differs")?><th scope="row">(\w+)', page[page.index("configuration-caption") :])
    names = [name for differs, name in rows if differs]
    assert {"iterations", "crop_size", "base_size", "dataset"} <= set(names)
    assert [name for _, name in rows][: len(names)] == names


def test_source_and_notes_are_shown(built: Path) -> None:
    text = Page((built / "index.html").read_text()).text
    assert "Local copy <script>alert(1)</script>" in text


def test_unchanged_results_write_nothing_and_quickly(built: Path, some: list[Result]) -> None:
    before = {file: file.stat().st_mtime_ns for file in built.rglob("*")}
    started = time.process_time()
    site = build_site(some, built, notes=[Note(EVIL, EVIL)], source=f"Local copy {EVIL}")
    assert time.process_time() - started < 2.0
    assert not site.rebuilt
    assert site.notes[0].text == EVIL
    assert {file: file.stat().st_mtime_ns for file in built.rglob("*")} == before


def test_another_process_writes_the_same_bytes(some: list[Result], tmp_path: Path) -> None:
    tame = [result for result in some if result.run_id != EVIL]  # a file with the other one would not be read
    save_results(tmp_path / "results.json", tame)
    here, there = tmp_path / "here", tmp_path / "there"
    build_site(tame, here, notes=[Note(EVIL, EVIL)], source="Local copy " + EVIL)
    program = (
        "import sys; from pathlib import Path; from setr.reporting.numbers.results import load_results, Note;"
        "from setr.reporting.site.site import build_site; evil = sys.argv[3];"
        "build_site(load_results(Path(sys.argv[1])), Path(sys.argv[2]), notes=[Note(evil, evil)],"
        " source='Local copy ' + evil)"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "results.json"), str(there), EVIL],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "77", "TZ": "Asia/Tokyo"},
        check=True,
    )
    mine, other = (
        {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        for folder in (here, there)
    )
    assert sorted(mine) == sorted(other)
    assert [str(name) for name in mine if mine[name] != other[name]] == []


def test_damaged_site_is_written_again(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    build_site([], folder)
    (folder / "index.html").write_text("gone")
    assert build_site([], folder).rebuilt
    assert "measured again" in (folder / "index.html").read_text()


def test_no_results_give_a_report_that_says_so(tmp_path: Path) -> None:
    site = build_site([], tmp_path / "deep" / "report")
    text = Page(site.index.read_text()).text
    assert "0 of 79 numbers" in text
    assert "No experiment has scores" in text
    assert not (site.index.parent / "figures").exists()


def test_folder_with_something_else_in_it_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="holds no report"):
        build_site([], tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_failed_write_leaves_the_old_report_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "report"
    build_site([], folder)
    before = (folder / "index.html").read_bytes()

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(site_folder.Path, "write_bytes", full)
    with pytest.raises(EnvironmentFailure, match="No space left"):
        build_site([], folder, source="changed")
    assert (folder / "index.html").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["report"]


def test_pictures_are_copied_made_smaller_or_named(
    tmp_path: Path, result_of: Make, picture: Callable[..., Path]
) -> None:
    (tmp_path / "no.png").write_bytes(b"<html>")
    files = (picture(tmp_path / "s.png"), picture(tmp_path / "large.png", (4096, 3072)), tmp_path / "no.png")
    made = result_of(PUP, pictures=(*files, tmp_path / "lost.png"))
    site = build_site([made], tmp_path / "report")
    shown = {file.name: file.stat().st_size for file in (site.index.parent / "pictures").iterdir()}
    assert set(shown) == {f"{made.short}-0.png", f"{made.short}-1.jpg"}
    assert [note.text.split(" cannot")[0] for note in site.notes] == ["picture no.png", "picture lost.png"]
    assert f"pictures/{made.short}-0.png" in site.index.read_text()


def test_results_of_every_scale_have_their_own_section(tmp_path: Path, result_of: Make) -> None:
    site = build_site([result_of(PUP), result_of(PUP, scale="paper")], tmp_path / "report")
    text = Page((site.index.parent / "table-2.html").read_text()).text
    assert text.index("Paper scale") < text.index("Miniature scale")


def test_500_runs(tmp_path: Path, make_all: MakeAll) -> None:
    results = make_all((2,), seeds=18, points=40)
    assert len(results) == 504
    started = time.process_time()
    site = build_site(results, tmp_path / "report")
    seconds = time.process_time() - started
    files = [file for file in site.index.parent.rglob("*") if file.is_file()]
    assert seconds < 20
    assert sum(file.stat().st_size for file in files) < 30e6
    assert site.index.stat().st_size < 300_000
    started = time.process_time()
    assert not build_site(results, tmp_path / "report").rebuilt
    assert time.process_time() - started < 2


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_runs_the_pages_script_under_its_policy(built: Path) -> None:
    done = rendered(built / "table-2.html", budget=2000)
    assert "15 of 15 rows" in done.stdout
    assert 'aria-sort="none"' in done.stdout
    assert "Refused to" not in done.stderr


def test_many_pictures_are_smaller_than_few(tmp_path: Path, results_of: Make) -> None:
    source = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 1600, 3), dtype=np.uint8)).save(source)

    def widest(count: int) -> int:
        results = [dataclasses.replace(made, pictures=(source,) * 60) for made in results_of((2,))[:count]]
        site = build_site(results, tmp_path / f"report-{count}")
        return max(Image.open(file).width for file in (site.index.parent / "pictures").iterdir())

    assert (widest(1), widest(3)) == (1200, 560)
