"""Line charts as inline SVG: small, themed by the page's style sheet, and quick enough for hundreds of pages."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 560, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 34
_BUCKETS = 140  # points of a drawn line; more than that are drawn as mean and range


@dataclass(frozen=True)
class Series:
    """One line: its name and (step, value) points in order of the step."""

    name: str
    points: Sequence[tuple[int, float]]


@dataclass(frozen=True)
class _Frame:
    """Where data lie on the picture."""

    width: int
    height: int
    x: tuple[float, float]  # first and last step
    y: tuple[float, float]  # lowest and highest tick

    def place(self, step: float, value: float) -> tuple[float, float]:
        """Returns the pixel (x, y) of a point."""
        across = (step - self.x[0]) / (self.x[1] - self.x[0])
        up = (value - self.y[0]) / (self.y[1] - self.y[0])
        x = _LEFT + across * (self.width - _LEFT - _RIGHT)
        return x, self.height - _BOTTOM - up * (self.height - _TOP - _BOTTOM)


def line_chart(series: Sequence[Series], *, title: str, unit: str = "") -> Markup:
    """Returns an <svg> of the series over steps, with a text alternative; "" if nothing can be drawn."""
    drawn = [Series(one.name, [(step, value) for step, value in one.points if math.isfinite(value)]) for one in series]
    drawn = [one for one in drawn if one.points]
    if not drawn:
        return Markup("")
    steps = [step for one in drawn for step, _ in one.points]
    values = [value for one in drawn for _, value in one.points]
    x_range = (min(0, *steps), max(*steps, 1))
    x_ticks, y_ticks = ticks(*x_range, 6), ticks(min(values), max(values), 5)
    frame = _Frame(WIDTH, HEIGHT, x_range, (y_ticks[0], y_ticks[-1]))
    lines = "".join(_line(one, index, frame) for index, one in enumerate(drawn))
    words = "; ".join(f"{one.name or title}: {one.points[0][1]:.4g} to {one.points[-1][1]:.4g}" for one in drawn)
    label = f"{title} from step {min(steps)} to {max(steps)}. {words} {unit}".strip()
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
        f"{_grid(x_ticks, y_ticks, frame)}{lines}</svg>"
    )


def ticks(low: float, high: float, count: int) -> list[float]:
    """Returns round tick values around [low, high], about `count` of them, at least two."""
    if not high > low:
        margin = abs(low) * 0.1 or 1.0
        low, high = low - margin, high + margin
    raw = (high - low) / max(count - 1, 1)
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def _grid(x_ticks: Sequence[float], y_ticks: Sequence[float], frame: _Frame) -> str:
    parts = []
    right = frame.width - _RIGHT
    for value in y_ticks:
        _, y = frame.place(frame.x[0], value)
        parts.append(f'<line class="g" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 7}" y="{y + 3.5:.1f}" text-anchor="end">{_short(value)}</text>')
    for value in x_ticks:
        if frame.x[0] <= value <= frame.x[1]:
            x, y = frame.place(value, y_ticks[0])
            parts.append(f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle">{_short(value)}</text>')
    parts.append(f'<text class="t" x="{right}" y="{frame.height - 3}" text-anchor="end">step</text>')
    return "".join(parts)


def _line(series: Series, index: int, frame: _Frame) -> str:
    """Returns a line, and behind it the range of what each of its points stands for."""
    buckets = _bucketed(series.points)
    name = f"s{index % 6}"
    band = ""
    if len(buckets) < len(series.points):
        top = [frame.place(step, high) for step, _, _, high in buckets]
        bottom = [frame.place(step, low) for step, _, low, _ in reversed(buckets)]
        band = f'<polygon class="b {name}" points="{_points(top + bottom)}"/>'
    middle = [frame.place(step, mean) for step, mean, _, _ in buckets]
    line = f'<polyline class="l {name}" points="{_points(middle)}"/>'
    if len(middle) <= 12:
        line += "".join(f'<circle class="p {name}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in middle)
    return band + line


def _bucketed(points: Sequence[tuple[int, float]]) -> list[tuple[float, float, float, float]]:
    """Returns (step, mean, lowest, highest) of at most _BUCKETS runs of neighbouring points."""
    size = math.ceil(len(points) / _BUCKETS)
    found = []
    for start in range(0, len(points), size):
        part = points[start : start + size]
        values = [value for _, value in part]
        step = sum(step for step, _ in part) / len(part)
        found.append((step, sum(values) / len(values), min(values), max(values)))
    return found


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _short(value: float) -> str:
    """Returns a tick's text: 80k for 80000, 0.002 for 0.002."""
    if abs(value) >= 10_000 and value % 100 == 0:
        return f"{value / 1000:g}k"
    return f"{value:.6g}".replace("-", "−")
