"""The report as a static site: written aside, swapped in whole, and byte for byte the same for the same results."""

import base64
import hashlib
import importlib.metadata
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image, UnidentifiedImageError

from setr.reporting.figures.drawing import Figure
from setr.reporting.figures.figures import figure_sections, figures_of
from setr.reporting.numbers.results import Note, Result, usable
from setr.reporting.numbers.significance import differences_of
from setr.reporting.numbers.tables import TableReport, scales_of
from setr.reporting.site import latex, layouts, pages
from setr.reporting.site.experiment_page import Picture, experiment_page
from setr.reporting.site.layouts import MINIATURE_CAUTION
from setr.reporting.site.site_folder import STATE, check_folder, file_digest, swap_in, unchanged
from setr.study.cells import TABLES
from setr.study.tables import TABLES_FILE

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
    inputs = _digest_of_inputs(given, notes, facts or {}, source, drawn)
    check_folder(folder)
    state = unchanged(folder, inputs)
    if state is not None:
        kept = tuple(Note(**note) for note in state["notes"])
        return Site(folder / "index.html", len(state["files"]), False, kept)
    usable_results, own_notes = usable(given)
    all_notes = [*notes, *own_notes]
    files = _render(usable_results, all_notes, facts or {}, source, drawn)
    record = {
        "inputs": inputs,
        "notes": [asdict(note) for note in all_notes],
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())},
    }
    files[STATE] = (json.dumps(record, indent=1, sort_keys=True) + "\n").encode()
    swap_in(folder, files)
    return Site(folder / "index.html", len(files), True, tuple(all_notes))


def _render(
    results: Sequence[Result], notes: list[Note], facts: Mapping[str, float], source: str, drawn: Sequence[Figure]
) -> dict[str, bytes]:
    """Returns every file of the site by its path in it; problems found on the way are added to `notes`."""
    tables = pages.all_tables(TABLES, results, scales_of(results), facts)
    reports = [report for group in tables.values() for report in group]
    figures = [*figures_of(reports), *drawn]
    files: dict[str, bytes] = {}
    pictures = _pictures(results, files, notes)
    compared = {
        number: {report.scale: differences_of(report, notes) for report in group} for number, group in tables.items()
    }
    views = {
        number: [pages.table_layout(report, compared[number][report.scale]) for report in group]
        for number, group in tables.items()
    }
    rows = [pages.experiment_row(result) for result in results]
    environment = _environment(figures)

    def page(path: str, template: str, **values: Any) -> None:
        root = "../" * path.count("/")
        text = environment.get_template(template).render(here=path, root=root, caution=MINIATURE_CAUTION, **values)
        files[path] = text.encode()

    for number, group in tables.items():
        page(f"table-{number}.html", "table.html", table=group[0].table, views=views[number])
        files[f"table-{number}.md"] = layouts.markdown(group, compared[number]).encode()
        files[f"table-{number}.tex"] = latex.latex(group).encode()
        files[f"table-{number}.csv"] = layouts.csv_text(group).encode()
        files[f"table-{number}.json"] = layouts.json_text(group, compared[number]).encode()
    files["tables.tex"] = latex.latex_document(list(tables)).encode()
    for figure in figures:
        files[f"figures/{figure.name}.svg"] = figure.svg.encode()
        page(f"figures/{figure.name}.html", "figure.html", figure=figure)
    page("figures.html", "figures.html", sections=figure_sections(figures))
    page("experiments.html", "experiments.html", rows=rows, filters=pages.filters(rows))
    seeds = _by_training(results)
    for result in results:
        siblings = [one for one in seeds[_without_seed(result)] if one is not result]
        values = experiment_page(result, pictures[result.identity], siblings)
        page(f"experiments/{result.short}.html", "experiment.html", **values)
    page("index.html", "index.html", **_index(tables, views, results, figures, pictures, notes, source))
    return files


def _index(
    tables: Mapping[int, Sequence[TableReport]],
    views: Mapping[int, Sequence[pages.TableLayout]],
    results: Sequence[Result],
    figures: Sequence[Figure],
    pictures: Mapping[str, Sequence[Picture]],
    notes: Sequence[Note],
    source: str,
) -> dict[str, Any]:
    """Returns the values of the first page: Table 2 stands on it, or the fullest one where Table 2 is empty."""
    cards = [pages.table_card(group) for group in tables.values()]
    candidates = [view for group in views.values() for view in group if view.report.present]
    main = max(
        candidates,
        key=lambda view: (view.report.table.number == 2, view.judged, len(view.report.present)),
        default=None,
    )
    return {
        "totals": {
            "present": sum(card["present"] for card in cards),
            "wanted": sum(card["wanted"] for card in cards),
            "experiments": len(results),
        },
        "source": source,
        "miniature": any(result.of("scale") == "miniature" for result in results),
        "cards": cards,
        "main": main,
        "figures": figures,
        "gallery": pages.gallery([report for group in tables.values() for report in group], pictures),
        "notes": list(notes),
    }


def _environment(figures: Sequence[Figure]) -> jinja2.Environment:
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
        *({"href": f"table-{number}.html", "title": f"Table {number}"} for number in TABLES),
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
    for file in (*sorted(Path(__file__).parents[1].rglob("*")), *sorted(TABLES_FILE.parent.iterdir())):
        if file.suffix in (".py", ".html", ".css", ".js", ".yaml"):
            digest.update(f"{file.name} {file_digest(file)}".encode())
    for package in ("jinja2", "matplotlib", "numpy", "pillow"):
        digest.update(importlib.metadata.version(package).encode())
    return digest.hexdigest()
