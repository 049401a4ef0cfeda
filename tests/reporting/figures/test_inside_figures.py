"""The figures of what a model computes, for models with and without attention."""

import numpy as np
import torch

from setr.models.segmenter import build_model
from setr.reporting.figures.inside_figures import inside_figures

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 96, 3), dtype=np.uint8)


def test_figures_of_a_transformer() -> None:
    torch.manual_seed(0)
    model = build_model("setr-pup", num_classes=5, crop_size=(64, 64), scale="miniature")
    figures = {figure.name: figure for figure in inside_figures(model, IMAGE, [(0, 0), (7, 7), (0, 0)])}
    assert list(figures) == ["features", "attention-points", "attention-layers-1", "attention-layers-2", "positions"]
    names = [name for row in figures["features"].titles for name in row]
    assert names == ["image", *(f"Z{layer}" for layer in range(1, 7)), "U1", "U2", "U3", "logits"]
    points = figures["attention-points"]
    assert points.rows == ["x 6\ny 3", "x 90\ny 45"]
    marked = points.tiles[1][0]
    y, x = np.nonzero((marked == (230, 40, 40)).all(-1))
    assert y.mean() > 0.85 * marked.shape[0]
    assert x.mean() > 0.85 * marked.shape[1]
    assert len(points.numbers) == 2 * 6
    layers = figures["attention-layers-2"]
    assert (list(layers.columns), len(layers.rows)) == (["head 1", "head 2", "head 3", "mean", "roll-out"], 6)
    assert len(figures["positions"].tiles) == 8
    assert {figure.answers for figure in figures.values()} >= {"Figures 5 and 9", "Figures 6, 8 and 10", "Figure 7"}
    for figure in figures.values():
        assert figure.png()[:4] == b"\x89PNG"


def test_the_report_shows_one_point_of_a_grid_in_all_layers() -> None:
    model = build_model("setr-mla-base", num_classes=5, crop_size=(64, 64), scale="miniature")
    figures = {figure.name: figure for figure in inside_figures(model, IMAGE, each_point=False)}
    assert list(figures) == ["features", "attention-points", "attention-layers-2", "positions"]
    assert len(figures["attention-points"].rows) == 6


def test_a_baseline_has_features_alone() -> None:
    model = build_model("fcn", num_classes=5, crop_size=(64, 64), scale="miniature")
    [figure] = inside_figures(model, IMAGE)
    assert [row[0] for row in figure.numbers] == ["Z1", "Z2", "Z3", "Z4", "U1", "U2", "U3", "logits"]
