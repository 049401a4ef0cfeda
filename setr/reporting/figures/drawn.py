"""The report's figures of trained experiments: which images they show, and what is drawn of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from setr.data.shards import Shards, open_shards
from setr.evaluation.areas import read_areas
from setr.evaluation.inference import predict
from setr.evaluation.opened import Opened, open_model
from setr.reporting.figures.figure_store import INSIDE, PAIRS, Wanted
from setr.reporting.figures.image_grid import Mosaic
from setr.reporting.figures.inside_figures import inside_figures
from setr.reporting.figures.prediction_figures import Example, Names, pairs, worst
from setr.reporting.numbers.results import Result
from setr.reporting.numbers.statistics import mean_iou
from setr.reporting.site.layouts import number
from setr.study.protocols import Protocol

PAIR_IMAGES, WORST_IMAGES = 5, 5


def draw(wanted: Wanted, val: Path, device: str, *, allow_code: bool = False) -> list[Mosaic]:
    """Returns the figures of one kind from the experiments' checkpoints and the prepared images in `val`."""
    shards = open_shards(val)
    opened = [_open(one, device, allow_code=allow_code) for one in wanted.results]
    manifest = shards.manifest
    names = Names(manifest.dataset, manifest.classes, manifest.palette, manifest.ignore_index)
    titles = [model_name(one) for one in wanted.results]
    with torch.inference_mode():
        if wanted.kind == PAIRS:
            places = np.linspace(0, len(shards) - 1, min(PAIR_IMAGES, len(shards))).astype(int).tolist()
            found = [pairs(_examples(opened, shards, places), names, (titles[0], titles[1]))]
        elif wanted.kind == INSIDE:
            found = inside_figures(opened[0].model, shards[len(shards) // 2].image, each_point=False)
        else:
            places = worst_places(wanted.results[0], len(shards))
            found = [worst(_examples(opened, shards, places), names, titles[0])] if places else []
    return [_captioned(figure, wanted, titles) for figure in found]


def model_name(result: Result) -> str:
    """Returns how a model is named in a figure: variant and schedule."""
    return f"{result.of('variant')} {result.of('schedule')}"


def worst_places(result: Result, images: int) -> list[int]:
    """Returns the places in the split of the images with the lowest mIoU; none where no image's score was kept."""
    file = result.per_image.get("ss")
    if file is None or not file.is_file():
        return []
    _, areas = read_areas(file)
    if len(areas) != images:
        return []
    scores = np.where(areas[:, 2].sum(-1) > 0, mean_iou(areas), np.inf)
    order = np.argsort(scores, kind="stable")[:WORST_IMAGES]
    return [int(place) for place in order if np.isfinite(scores[place])]


def _open(result: Result, device: str, *, allow_code: bool) -> Opened:
    opened = open_model(Path(result.checkpoint or ""), allow_code=allow_code)
    opened.model.to(device)
    return replace(opened, protocol=Protocol(**result.scores["ss"]["protocol"]))


def _examples(opened: list[Opened], shards: Shards, places: list[int]) -> list[Example]:
    found = []
    for place in places:
        record = shards[place]
        maps = tuple(predict(one.model, record.image, one.protocol) for one in opened)
        found.append(Example(record.key, record.image, record.label, maps))
    return found


def _captioned(figure: Mosaic, wanted: Wanted, titles: list[str]) -> Mosaic:
    """Returns the figure with data set, scale and the models' scores in its caption."""
    dataset, scale = wanted.group
    scores = [
        f"{title} ({number(one.score('ss', 'mIoU'))} % mIoU)" for title, one in zip(titles, wanted.results, strict=True)
    ]
    made = f"{' and '.join(scores)} on {dataset}, {scale} scale."
    return replace(figure, caption=f"{figure.caption} {made}")
