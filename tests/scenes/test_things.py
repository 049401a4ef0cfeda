"""What the camera sees, and in which order it is painted."""

from functools import partial

from setr.scenes import labels
from setr.scenes.camera import Camera
from setr.scenes.shapes import Shape
from setr.scenes.strokes import Place
from setr.scenes.things import Thing, far_to_near

CAMERA = Camera(512, 256, 409.6, 256.0, 128.0, eye=1.5, offset=0.0, yaw=0.0, bend=0.0)


def test_what_a_long_vehicle_hides_is_painted_before_it() -> None:
    def thing(x: float, z: float, half_length: float, height: float) -> Thing:
        return Thing(partial(Shape, labels.BUS), Place(x, z), z, 0.5, half_length, height)

    bus = thing(4.0, 20.0, 6.0, 3.0)
    behind, before, farther, nearer = (
        thing(5.2, 18.0, 0.3, 1.7),
        thing(1.5, 24.0, 0.3, 1.7),
        *(thing(0.0, z, 0.3, 1.7) for z in (60.0, 5.0)),
    )
    order = far_to_near([bus, before, nearer, behind, farther], CAMERA)
    assert [order.index(item) for item in (farther, bus, nearer)] == sorted(
        order.index(item) for item in (farther, bus, nearer)
    )
    assert order.index(behind) < order.index(bus) < order.index(before)
