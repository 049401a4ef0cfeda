"""One scene from its random numbers to picture and labels, and what the camera adds to what stands before it."""

import cv2
import numpy as np

from setr.scenes.background import Backdrop, paint_ground, paint_sky, paint_skyline
from setr.scenes.camera import Camera, Light
from setr.scenes.canvas import Canvas
from setr.scenes.cities import City, Street
from setr.scenes.labels import EGO_VEHICLE, ROAD, SIDEWALK
from setr.scenes.layout import furnish
from setr.scenes.shapes import Dice
from setr.scenes.things import Shadows, far_to_near, visible

SUPERSAMPLING = 2  # canvas pixels per picture pixel, each way
MIDDLE_GREY, SHOULDER = 112.0, 190.0


class Film:
    """How the sensor records; blur in pixels of a picture 128 high, noise as standard deviation in 0..255."""

    def __init__(self, rng: Dice) -> None:
        self.contrast, self.vignette = rng.uniform(0.98, 1.16), rng.uniform(0.0, 0.2)
        self.blur, self.noise = rng.uniform(0.0, 0.5), rng.uniform(0.8, 3.2)
        self.green, self.brightness = rng.normal(0.0, 0.01), rng.uniform(0.9, 1.1)


def draw(city: City, rng: Dice, grain: Dice, *, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns picture uint8 (height,width,3) and label ids uint8 (height,width) of a scene in the style of a city.

    The scene is decided by `rng`, the grain of its picture by `grain`. A picture that is not twice as wide as high
    shows the middle of the 2:1 frame that just covers it.
    """
    light = Light(rng.pick(city.weathers), rng)
    street = Street(city, rng)
    bend = rng.uniform(0.0008, 0.006) * rng.pick((0.0, 0.0, 1.0, -1.0))
    bonnet = rng.uniform(0.05, 0.1)  # share of the picture's height
    frame = SUPERSAMPLING * max(width, 2 * height)
    camera = Camera(
        width=SUPERSAMPLING * width,
        height=SUPERSAMPLING * height,
        focal=rng.uniform(0.74, 0.9) * frame,
        horizon=SUPERSAMPLING * height / 2 + rng.uniform(-0.06, 0.02) * frame / 2,
        centre=SUPERSAMPLING * width / 2 + rng.normal(0.0, 0.012) * frame,
        eye=rng.uniform(1.3, 1.75),
        offset=street.own_lane[0] + rng.normal(0.0, 0.25),
        yaw=rng.normal(0.0, 0.04) - 12.0 * bend,  # the car already turns into the bend
        bend=bend,
    )
    bonnet *= rng.chance(0.2)
    backdrop, film = Backdrop(rng, towers=0.2 * city.floors[1]), Film(rng)
    things = furnish(city, street, light, rng)

    canvas = Canvas(camera, light)
    paint_sky(canvas, backdrop)
    paint_skyline(canvas, backdrop)
    shadows = Shadows(camera, light, things)
    paint_ground(canvas, street, shadows.light_left())
    things = far_to_near(visible(things, camera), camera)
    suns = shadows.sunlit(things)
    canvas.paint([(thing.build(), thing.place, sunlit) for thing, sunlit in zip(things, suns, strict=True)])
    _reflect_in_wet_road(canvas)
    if bonnet:
        _paint_bonnet(canvas, bonnet)
    return _expose(canvas, film, grain), _reduce_labels(canvas.pixels[..., 3])


def _reflect_in_wet_road(canvas: Canvas) -> None:
    """Mixes into road and pavement what stands above the horizon, mirrored and smeared downwards."""
    wetness, first = canvas.light.wetness, canvas.camera.first_ground_row
    rows = min(canvas.camera.height - first, first)
    if rows < 4 or wetness <= 0:
        return
    ground = canvas.pixels[first : first + rows]
    above = canvas.pixels[first - rows : first, :, :3][::-1]
    scale = canvas.camera.height / 256.0
    mirrored = cv2.GaussianBlur(np.ascontiguousarray(above), (0, 0), sigmaX=1.5 * scale, sigmaY=9.0 * scale)
    wet = (ground[..., 3] == ROAD) * 1.0 + (ground[..., 3] == SIDEWALK) * 0.4
    fading = np.linspace(1.0, 0.25, rows)[:, None] ** 1.5  # steeper looks mirror less
    share = (0.42 * wetness * wet * fading)[..., None].astype(np.float32)
    ground[..., :3] = (ground[..., :3] * (1 - share) * (1 - 0.2 * share) + mirrored * share).astype(np.uint8)


def _paint_bonnet(canvas: Canvas, height: float) -> None:
    """Paints the bonnet of the car that carries the camera along the bottom; `height` as a share of the canvas."""
    camera, light = canvas.camera, canvas.light
    x = np.linspace(-1.0, 1.0, camera.width, dtype=np.float32)
    top = camera.height * (1.0 - height * (1.0 - 0.6 * np.abs(x) ** 2.4))
    first = int(top.min())
    rows = np.arange(first, camera.height, dtype=np.float32)[:, None]
    depth = np.clip((rows - top) / (camera.height * height), 0, 1)[..., None]
    lit = light.shade(np.array([(48.0, 50.0, 54.0)]), np.array([[0.0, 1.0, 0.0]]), 0.4)[0]
    shine = 0.42 * np.exp(-(((depth - 0.3) / 0.3) ** 2))
    painted = np.empty((*depth.shape[:2], 4), np.uint8)
    painted[..., :3] = np.clip(lit + shine * (light.horizon - lit), 0, 255)
    painted[..., 3] = EGO_VEHICLE
    np.copyto(canvas.pixels[first:], painted, where=(rows >= top)[..., None])


def _reduce_labels(ids: np.ndarray) -> np.ndarray:
    """Returns label ids (H,W) from a canvas twice as large: the commonest of each four, the first where they tie."""
    a, b, c, d = ids[::2, ::2], ids[::2, 1::2], ids[1::2, ::2], ids[1::2, 1::2]
    others = np.where((b == c) | (b == d), b, np.where(c == d, c, a))
    return np.ascontiguousarray(np.where((a == b) | (a == c) | (a == d), a, others))


def _expose(canvas: Canvas, film: Film, grain: Dice) -> np.ndarray:
    """Returns the picture uint8 (H,W,3) that the sensor records of a canvas twice as large."""
    light = canvas.light
    height, width = (side // SUPERSAMPLING for side in canvas.pixels.shape[:2])
    small = cv2.resize(canvas.pixels[..., :3], (width, height), interpolation=cv2.INTER_AREA)
    picture: np.ndarray = small.astype(np.float32)
    scale = height / 128.0
    # Like a camera's automatic exposure: most of the way to middle grey, not all of it.
    gain = np.clip((MIDDLE_GREY / max(float(picture[height // 4 :].mean()), 1.0)) ** 0.55, 0.8, 1.45)
    gain *= light.exposure * film.brightness
    warmth = np.array([1 + light.temperature, 1 + film.green, 1 - light.temperature], np.float32)
    picture *= warmth * np.float32(gain)
    glare = cv2.GaussianBlur(np.maximum(picture - 215.0, 0.0), (0, 0), sigmaX=2.0 * scale)
    picture += glare * np.float32(0.8 if light.lamps else 0.25)
    picture = (picture - MIDDLE_GREY) * np.float32(film.contrast) + MIDDLE_GREY
    bright = np.maximum(picture - SHOULDER, 0.0)  # highlights flatten out instead of burning out
    picture += (255.0 - SHOULDER) * (1.0 - np.exp(-bright / np.float32(255.0 - SHOULDER))) - bright
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    picture *= (1.0 - np.float32(film.vignette) * (x * x + 0.6 * y * y) ** np.float32(1.5) / 2.0)[..., None]
    if light.wetness > 0:
        picture += _rain(grain, height, width, scale)[..., None]
    if film.blur * scale > 0.25:
        picture = cv2.GaussianBlur(picture, (0, 0), sigmaX=film.blur * max(1.0, 0.5 * scale))
    brightness = np.sqrt(np.clip(picture.mean(axis=2, keepdims=True), 0, 255) / np.float32(255.0)) + np.float32(0.35)
    picture += np.float32(film.noise) * brightness * grain.standard_normal((height, width, 3), dtype=np.float32)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _rain(grain: Dice, height: int, width: int, scale: float) -> np.ndarray:
    """Returns the light (height,width) that falling drops add."""
    drops = (grain.random((height, width), dtype=np.float32) > 0.998).astype(np.float32) * 150.0
    length = max(3, int(6 * scale))
    kernel = np.zeros((length, length), np.float32)
    cv2.line(kernel, (length // 2 + 1, 0), (length // 2 - 1, length - 1), 1.0 / length)
    return cv2.filter2D(drops, -1, kernel)
