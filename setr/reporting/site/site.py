"""The report as a static site: written aside, swapped in whole, and byte for byte the same for the same results."""

import base64
import hashlib
import importlib.metadata
import io
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image, UnidentifiedImageError

import setr.study.cells
from setr.reporting.figures.drawing import Figure
from setr.reporting.figures.figures import figure_sections, figures_of
from setr.reporting.numbers.results import Note, Result, usable
from setr.reporting.numbers.significance import differences_of
from setr.reporting.numbers.tables import scales_of
from setr.reporting.site import latex, layouts, pages
from setr.reporting.site.experiment_page import Picture, experiment_page
from setr.reporting.site.layouts import MINIATURE_CAUTION
from setr.reporting.site.site_folder import STATE, check_folder, file_digest, swap_in, unchanged
from setr.study.cells import study_of
from setr.study.records import SETR_NAME, Study
from setr.study.shelf import setr_study

_TEMPLATES = Path(__file__).with_name("templates")
# A picture of more bytes is made smaller, to so many pixels of width; in the second line where there are more of them:
# five hundred experiments have to fit into 30 MB.
_FEW, _MANY = (60_000, 1200), (36_000, 560)
_MANY_PICTURES = 150
_MAX_PICTURE_PIXELS = 100_000_000


@dataclass(frozen=True)
class Site:
    """A report on disk."""

    index: Path
    files: int
    rebuilt: bool  # False: nothing had changed
    notes: tuple[Note, ...]  # what was left out, merged or not found


def build_site(
    results: Iterable[Result],
    folder: Path,
    *,
    notes: Sequence[Note] = (),
    facts: Mapping[str, float] | None = None,
    source: str = "",
    drawn: Sequence[Figure] = (),
    others: Sequence[Study] = (),
) -> Site:
    """Writes the report of the results into `folder` and returns where it is.

    `notes` are shown with the report's own; `facts` are counts for the tables' other columns ("setr-pup/parameters");
    `source` is a sentence about where the results come from, for readers who have to know it (a local copy, say);
    `drawn` are figures that need a model (setr.reporting.figures.figure_store), shown after those of the numbers.
    Nothing is written if nothing changed. Raises InputError if the folder holds something else, EnvironmentFailure if
    it cannot be written.
    """
    folder = folder.absolute()
    given = list(results)
    inputs = _digest_of_inputs(given, notes, facts or {}, source, drawn, others)
    check_folder(folder)
    state = unchanged(folder, inputs)
    if state is not None:
        kept = tuple(Note(**note) for note in state["notes"])
        return Site(folder / "index.html", len(state["files"]), False, kept)
    usable_results, own_notes = usable(given)
    all_notes = [*notes, *own_notes]
    files = _render(usable_results, all_notes, facts or {}, source, drawn, others)
    record = {
        "inputs": inputs,
        "notes": [asdict(note) for note in all_notes],
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())},
    }
    files[STATE] = (json.dumps(record, indent=1, sort_keys=True) + "\n").encode()
    swap_in(folder, files)
    return Site(folder / "index.html", len(files), True, tuple(all_notes))


def _render(
    results: Sequence[Result],
    notes: list[Note],
    facts: Mapping[str, float],
    source: str,
    drawn: Sequence[Figure],
    others: Sequence[Study],
) -> dict[str, bytes]:
    """Returns every file of the site by its path in it; problems found on the way are added to `notes`.

    SETR's pages stand at its top, those of each other study in a folder of its name.
    """
    files: dict[str, bytes] = {}
    names = {study.name for study in others}
    mine = {
        study.name: [result for result in results if _belongs(result, study, names)]
        for study in (setr_study(), *others)
    }
    shown = list(mine)
    cards = [pages.study_card(study, mine[study.name]) for study in others]
    for study in others:
        own = _StudyPages(study, mine[study.name], notes, shown, facts={}, drawn=())
        files |= {f"{study.name}/{path}": data for path, data in own.render(source, []).items()}
    setr = _StudyPages(setr_study(), mine[SETR_NAME], notes, shown, facts=facts, drawn=drawn)
    return files | setr.render(source, cards)


def _belongs(result: Result, study: Study, others: Collection[str]) -> bool:
    """Returns whether a study's pages show a result: it fills one of its cells; SETR's show what fills none, too."""
    if study.prefix:
        return any(key.startswith(study.prefix) for key in result.cells)
    return not result.cells or any(study_of(key) not in others for key in result.cells)


class _StudyPages:
    """The pages of one study."""

    def __init__(
        self,
        study: Study,
        results: Sequence[Result],
        notes: list[Note],
        shown: Sequence[str],
        *,
        facts: Mapping[str, float],
        drawn: Sequence[Figure],
    ) -> None:
        self.study, self.results, self.notes, self.shown = study, results, notes, shown
        self.tables = pages.all_tables(study, results, scales_of(results), facts)
        reports = [report for group in self.tables.values() for report in group]
        self.figures = [*figures_of(reports), *drawn]
        self.files: dict[str, bytes] = {}
        self.environment = _environment(study, self.figures)

    def render(self, source: str, studies: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
        """Returns the files of the pages by their path in the study's folder; `studies` are cards of the others."""
        pictures = _pictures(self.results, self.files, self.notes)
        views = self._tables()
        for figure in self.figures:
            self.files[f"figures/{figure.name}.svg"] = figure.svg.encode()
            self._page(f"figures/{figure.name}.html", "figure.html", figure=figure)
        self._page("figures.html", "figures.html", sections=figure_sections(self.figures))
        rows = [pages.experiment_row(result) for result in self.results]
        self._page("experiments.html", "experiments.html", rows=rows, filters=pages.filters(rows))
        seeds = _by_training(self.results)
        for result in self.results:
            siblings = [one for one in seeds[_without_seed(result)] if one is not result]
            values = experiment_page(
                result, pictures[result.identity], siblings, study=self.study.name, shown=self.shown
            )
            self._page(f"experiments/{result.short}.html", "experiment.html", **values)
        self._page("index.html", "index.html", studies=studies, **self._index(views, pictures, source))
        return self.files

    def _page(self, path: str, template: str, **values: Any) -> None:
        root = "../" * path.count("/")
        top = root + ("../" if self.study.prefix else "")
        known = {"here": path, "root": root, "top": top, "caution": MINIATURE_CAUTION, "study": self.study}
        self.files[path] = self.environment.get_template(template).render(**known, **values).encode()

    def _tables(self) -> dict[int | str, list[pages.TableLayout]]:
        """Writes each table's page and files; returns how each is laid out, at each of its scales."""
        found = {}
        for number, group in self.tables.items():
            compared = {report.scale: differences_of(report, self.notes) for report in group}
            found[number] = [pages.table_layout(report, compared[report.scale]) for report in group]
            self._page(f"table-{number}.html", "table.html", table=group[0].table, views=found[number])
            self.files[f"table-{number}.md"] = layouts.markdown(group, compared).encode()
            self.files[f"table-{number}.tex"] = latex.latex(group, self.study).encode()
            self.files[f"table-{number}.csv"] = layouts.csv_text(group).encode()
            self.files[f"table-{number}.json"] = layouts.json_text(group, compared).encode()
        self.files["tables.tex"] = latex.latex_document(list(self.tables)).encode()
        return found

    def _index(
        self,
        views: Mapping[int | str, Sequence[pages.TableLayout]],
        pictures: Mapping[str, Sequence[Picture]],
        source: str,
    ) -> dict[str, Any]:
        """Returns the values of the first page: the table that a study begins with, or the fullest if that is empty."""
        cards = [pages.table_card(group) for group in self.tables.values()]
        candidates = [view for group in views.values() for view in group if view.report.present]
        main = max(
            candidates,
            key=lambda view: (
                view.report.table.id in self.study.begin_with,
                view.judged,
                len(view.report.present),
            ),
            default=None,
        )
        return {
            "totals": {
                "present": sum(card["present"] for card in cards),
                "wanted": sum(card["wanted"] for card in cards),
                "experiments": len(self.results),
            },
            "source": source,
            "miniature": any(result.of("scale") == "miniature" for result in self.results),
            "cards": cards,
            "main": main,
            "figures": self.figures,
            "gallery": pages.gallery([report for group in self.tables.values() for report in group], pictures),
            "notes": list(self.notes),
        }


def _environment(study: Study, figures: Sequence[Figure]) -> jinja2.Environment:
    css, js = (pages.inline(_TEMPLATES / name) for name in ("site.css", "site.js"))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(pages.template_filters())
    navigation = [
        {"href": "index.html", "title": "Overview"},
        *({"href": f"table-{table.number}.html", "title": f"Table {table.number}"} for table in study.tables),
        *([{"href": "figures.html", "title": "Figures"}] if figures else []),
        {"href": "experiments.html", "title": "Experiments"},
    ]
    policy = (
        "default-src 'none'; img-src 'self' data:; "
        f"style-src 'sha256-{_base64_sha256(css)}'; script-src 'sha256-{_base64_sha256(js)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    environment.globals.update(css=css, js=js, policy=policy, navigation=navigation)
    return environment


def _base64_sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _pictures(results: Sequence[Result], files: dict[str, bytes], notes: list[Note]) -> dict[str, tuple[Picture, ...]]:
    """Adds the pictures of all results to the files and returns them by identity; unreadable ones become notes."""
    found: dict[str, tuple[Picture, ...]] = {}
    limits = _FEW if sum(len(result.pictures) for result in results) <= _MANY_PICTURES else _MANY
    for result in results:
        mine = []
        for index, source in enumerate(result.pictures):
            try:
                suffix, data = _picture(source, *limits)
            except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
                notes.append(Note(result.short, f"picture {source.name} cannot be shown: {error}"))
                continue
            href = f"pictures/{result.short}-{index}.{suffix}"
            files[href] = data
            caption = f"{result.of('variant')}, {result.of('schedule')}, seed {result.of('seed')}"
            alt = f"Validation images with ground truth and prediction of {caption}"
            mine.append(Picture(href, caption, alt, result.short))
        found[result.identity] = tuple(mine)
    return found


def _picture(source: Path, most_bytes: int, width: int) -> tuple[str, bytes]:
    """Returns the suffix and bytes of a picture, made smaller where large; raises for what is no PNG or JPEG."""
    with Image.open(source, formats=("PNG", "JPEG")) as image:
        if image.width * image.height > _MAX_PICTURE_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels are too many")
        small = source.stat().st_size <= most_bytes
        image.load()
        if small:
            return ("jpg" if image.format == "JPEG" else "png"), source.read_bytes()
        picture = image.convert("RGB")
        picture.thumbnail((width, width * 4))
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=80, optimize=True)
        return "jpg", file.getvalue()


def _by_training(results: Sequence[Result]) -> dict[str, list[Result]]:
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(_without_seed(result), []).append(result)
    return groups


def _without_seed(result: Result) -> str:
    return json.dumps({**result.experiment, "seed": None}, sort_keys=True, default=str)


def _digest_of_inputs(
    results: Sequence[Result],
    notes: Sequence[Note],
    facts: Mapping[str, float],
    source: str,
    drawn: Sequence[Figure],
    others: Sequence[Study],
) -> str:
    """Returns the SHA-256 of everything that the pages depend on, the code that makes them included."""
    digest = hashlib.sha256()
    for result in results:
        record = asdict(result)
        record["pictures"] = [(file.name, file_digest(file)) for file in result.pictures]
        record["per_image"] = {name: file_digest(file) for name, file in sorted(result.per_image.items())}
        record["there"] = result.checkpoint is not None and Path(result.checkpoint).is_dir()
        digest.update(json.dumps(record, sort_keys=True, default=str).encode())
    shown = [[asdict(note) for note in notes], dict(facts), source, [asdict(figure) for figure in drawn]]
    digest.update(json.dumps(shown, sort_keys=True).encode())
    own = [study.file for study in (setr_study(), *others) if study.file is not None]
    code = (Path(__file__).parents[1], Path(setr.study.cells.__file__).parent)
    for file in (*own, *(file for folder in code for file in sorted(folder.rglob("*")))):
        if file.suffix in (".py", ".html", ".css", ".js", ".yaml"):
            digest.update(f"{file.name} {file_digest(file)}".encode())
    for package in ("jinja2", "matplotlib", "numpy", "pillow"):
        digest.update(importlib.metadata.version(package).encode())
    return digest.hexdigest()
