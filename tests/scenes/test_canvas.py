"""Shapes on the canvas: as large, as high and where perspective puts them."""

import numpy as np
import pytest

from setr.scenes import labels
from setr.scenes.camera import Camera, Light
from setr.scenes.canvas import Canvas
from setr.scenes.shapes import Dice
from setr.scenes.strokes import Place
from setr.scenes.vehicles import SIZES, vehicle

CAMERA = Camera(512, 256, 409.6, 256.0, 128.0, eye=1.5, offset=0.0, yaw=0.0, bend=0.0)


def test_a_car_twice_as_far_away_is_half_as_large_and_stands_higher() -> None:
    light = Light("clear", Dice(0))
    boxes = []
    for distance in (10.0, 20.0):
        canvas = Canvas(CAMERA, light)
        # Its rear, not its middle, is at that distance.
        place = Place(0.0, distance + SIZES["saloon"][0] / 2)
        saloon = vehicle("saloon", lit=False, braking=False, oncoming=False, lamps=False, variant=1)
        canvas.paint([(saloon, place, 1.0)])
        rows, columns = np.nonzero(canvas.pixels[..., 3] == labels.CAR)
        boxes.append((np.ptp(columns) + 1, rows.max()))
    assert 1.75 < boxes[0][0] / boxes[1][0] < 2.05  # its mirrors are farther away than its rear
    assert boxes[0][1] - 128 == pytest.approx(2 * (boxes[1][1] - 128), abs=2)
