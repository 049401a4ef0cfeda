"""One scene from its random numbers to picture and labels."""

from dataclasses import dataclass

import numpy as np

from setr.scenes.camera import Camera
from setr.scenes.canvas import Canvas
from setr.scenes.cities import City
from setr.scenes.ground import paint_ground
from setr.scenes.layout import furnish
from setr.scenes.light import WEATHERS, Light, daylight
from setr.scenes.order import far_to_near, visible
from setr.scenes.sensor import Film, expose, load_film, paint_bonnet, reduce_labels, reflect_in_wet_road
from setr.scenes.shadows import Shadows
from setr.scenes.sky import Backdrop, lay_out_backdrop, paint_sky, paint_skyline
from setr.scenes.street import Street, lay_out_street
from setr.scenes.thing import Thing

SUPERSAMPLING = 2  # canvas pixels per picture pixel, each way


@dataclass(frozen=True)
class View:
    """How the camera is mounted; lengths in metres, angles in radians, shares of the picture's reference frame."""

    focal: float  # share of the frame's width
    horizon: float  # share of the frame's height below the middle
    aside: float  # share of the frame's width to the right of the middle
    eye: float
    offset: float
    yaw: float
    bend: float
    bonnet: float  # share of the picture's height, 0 for none


@dataclass(frozen=True)
class Scene:
    """Everything that decides a scene, whatever the size it is rendered at."""

    light: Light
    street: Street
    things: list[Thing]
    backdrop: Backdrop
    view: View
    film: Film


def compose(city: City, rng: np.random.Generator) -> Scene:
    """Returns a scene in the style of a city."""
    light = daylight(WEATHERS[city.weathers[rng.integers(len(city.weathers))]], rng)
    street = lay_out_street(city, rng)
    bend = rng.uniform(0.0008, 0.006) * (0.0, 0.0, 1.0, -1.0)[rng.integers(4)]
    bonnet = rng.uniform(0.05, 0.1)
    view = View(
        focal=rng.uniform(0.74, 0.9),
        horizon=rng.uniform(-0.06, 0.02),
        aside=rng.normal(0.0, 0.012),
        eye=rng.uniform(1.3, 1.75),
        offset=street.own_lane.x + rng.normal(0.0, 0.25),
        yaw=rng.normal(0.0, 0.04) - 12.0 * bend,  # the car already turns into the bend
        bend=bend,
        bonnet=bonnet if rng.random() < 0.2 else 0.0,
    )
    backdrop = lay_out_backdrop(rng, towers=0.2 * city.floors[1])
    film = load_film(rng)
    return Scene(light, street, furnish(city, street, light, rng), backdrop, view, film)


def render(scene: Scene, grain: np.random.Generator, *, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns picture uint8 (height,width,3) and label ids uint8 (height,width) of a scene.

    A picture that is not twice as wide as high shows the middle of the 2:1 frame that just covers it.
    """
    view = scene.view
    frame = SUPERSAMPLING * max(width, 2 * height)
    camera = Camera(
        width=SUPERSAMPLING * width,
        height=SUPERSAMPLING * height,
        focal=view.focal * frame,
        centre=SUPERSAMPLING * width / 2 + view.aside * frame,
        horizon=SUPERSAMPLING * height / 2 + view.horizon * frame / 2,
        eye=view.eye,
        offset=view.offset,
        yaw=view.yaw,
        bend=view.bend,
    )
    canvas = Canvas(camera, scene.light)
    paint_sky(canvas, scene.backdrop)
    paint_skyline(canvas, scene.backdrop)
    shadows = Shadows(canvas, scene.things)
    paint_ground(canvas, scene.street.ground, shadows.light_left())
    things = far_to_near(visible(scene.things, camera), camera)
    shares = shadows.sunlit(things)
    canvas.paint([(thing.build(), thing.place, sunlit) for thing, sunlit in zip(things, shares, strict=True)])
    reflect_in_wet_road(canvas)
    if view.bonnet:
        paint_bonnet(canvas, view.bonnet)
    return expose(canvas, scene.film, grain, height=height, width=width), reduce_labels(canvas.pixels[..., 3])
