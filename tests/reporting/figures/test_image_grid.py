"""Pictures in rows and columns: where they lie, what stands beside them, and the same bytes each time."""

import dataclasses
import io
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from setr.reporting.figures.image_grid import ColourScale, Mosaic, coloured, fit, photograph, tile_size

RED, GREEN, BLUE = (250, 20, 20), (20, 200, 20), (20, 20, 250)


def flat(colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((10, 20, 3), colour, np.uint8)


def example(**changes: object) -> Mosaic:
    mosaic = Mosaic(
        "example",
        "Title",
        "Caption",
        [[flat(RED), flat(GREEN)], [flat(BLUE), None]],
        ["one", "<two> & more"],
        ["left", "right"],
        (50, 100),
        answers="Figure 9",
        legends=[[("road & rail", (1, 99, 1))], [("wrong", (99, 1, 1))]],
        scale=ColourScale("viridis", "0", "1"),
    )
    return dataclasses.replace(mosaic, **changes)


def test_pictures_lie_in_their_places() -> None:
    picture = np.asarray(Image.open(io.BytesIO(example().png())).convert("RGB"))
    places = {}
    for colour in (RED, GREEN, BLUE):
        y, x = np.nonzero((picture == colour).all(-1))
        assert len(y) >= 49 * 99
        places[colour] = (np.median(y), np.median(x))
    assert places[GREEN][1] - places[RED][1] == pytest.approx(106, abs=2)
    assert places[BLUE][0] - places[RED][0] == pytest.approx(56, abs=2)
    corner = (int(places[BLUE][0]), int(places[GREEN][1]))
    assert (picture[corner] == 255).all()  # the empty place


def test_svg_follows_light_and_dark_and_is_the_same_each_time() -> None:
    figure = example().figure()
    assert figure == example().figure()
    assert (figure.name, figure.answers) == ("example", "Figure 9")
    assert "prefers-color-scheme:dark" in figure.svg
    assert "pixelated" not in figure.svg
    texts = {"".join(one.itertext()).strip() for one in ElementTree.fromstring(figure.svg).iter() if "text" in one.tag}
    assert {"left", "right", "one", "<two> & more", "road & rail", "wrong"} <= texts
    assert example().png() == example().png()


def test_titles_stand_above_each_picture() -> None:
    titled = example(rows=[], columns=[], titles=[["a1", "b1"], ["a2", "b2"]], legends=[], scale=None)
    texts = {"".join(one.itertext()).strip() for one in ElementTree.fromstring(titled.figure().svg).iter()}
    assert {"a1", "b1", "a2", "b2"} <= texts
    assert titled.down > example().down


def test_sizes_and_colours() -> None:
    assert tile_size(np.zeros((100, 200, 3)), 4) == (184, 369)
    assert tile_size(np.zeros((10, 10)), 100) == (40, 40)
    ids = np.array([[1, 7], [7, 1]], np.uint8)
    assert set(np.unique(fit(ids, (9, 9)))) == {1, 7}
    assert set(np.unique(fit(ids, (1, 2)))) <= {1, 7}
    assert fit(np.array([[[0] * 3, [100] * 3]], np.uint8), (1, 1)).item(0) == 50
    assert len(np.unique(photograph(np.array([[[0] * 3, [100] * 3]], np.uint8), (4, 9)))) > 2
    assert (coloured(np.array([[0.0, 1.0]]), "gray") == [[[0] * 3, [255] * 3]]).all()
    assert (coloured(np.zeros((2, 2)), "gray") == 0).all()
    assert (coloured(np.array([[5.0]]), "gray", low=0, high=1) == 255).all()
