"""Pictures of label maps: colours, overlays, errors, captioned panels and a legend. All uint8 RGB arrays (H,W,3)."""

from collections.abc import Sequence

import cv2
import numpy as np

from setr.data.checking.preview import Palette, colorize

CORRECT, WRONG, IGNORED = (208, 208, 208), (214, 39, 40), (0, 0, 0)
_PAPER, _INK = 255, (32, 32, 32)
_GAP = 6  # pixels between pictures
_CAPTION = 22  # pixels of a caption's line


def overlay(image: np.ndarray, label: np.ndarray, palette: Palette, *, opacity: float = 0.5) -> np.ndarray:
    """Returns the image with the class colours laid over it; ignored pixels show the image alone."""
    mixed = cv2.addWeighted(image, 1.0 - opacity, colorize(label, palette), opacity, 0.0)
    return np.where((label < len(palette))[..., None], mixed, image)


def errors(prediction: np.ndarray, label: np.ndarray, *, ignore_index: int = 255) -> np.ndarray:
    """Returns grey where the prediction is right, red where it is wrong, black where the label is ignored."""
    kinds = np.where(label == ignore_index, 2, (prediction != label).astype(np.uint8))
    return np.asarray([CORRECT, WRONG, IGNORED], np.uint8)[kinds]


def panel(
    image: np.ndarray,
    prediction: np.ndarray,
    label: np.ndarray | None,
    palette: Palette,
    *,
    ignore_index: int = 255,
    height: int | None = None,
) -> np.ndarray:
    """Returns image | ground truth | prediction | errors side by side with captions; overlay in place of the missing.

    With `label` None the pictures are image | prediction | overlay. `height` in pixels scales each of them.
    """
    pictures = {"image": image, "prediction": colorize(prediction, palette)}
    if label is None:
        pictures["overlay"] = overlay(image, prediction, palette)
    else:
        pictures = {
            "image": image,
            "ground truth": colorize(label, palette),
            "prediction": pictures["prediction"],
            "errors": errors(prediction, label, ignore_index=ignore_index),
        }
    columns = [_captioned(_scaled(picture, height), caption) for caption, picture in pictures.items()]
    gap = np.full((columns[0].shape[0], _GAP, 3), _PAPER, np.uint8)
    return np.concatenate([part for column in columns for part in (column, gap)][:-1], axis=1)


def sheet(panels: Sequence[np.ndarray]) -> np.ndarray:
    """Returns panels below one another, narrower ones filled up with white on the right."""
    width = max(picture.shape[1] for picture in panels)
    rows = [
        cv2.copyMakeBorder(
            picture, 0, _GAP, 0, width - picture.shape[1], cv2.BORDER_CONSTANT, value=(_PAPER, _PAPER, _PAPER)
        )
        for picture in panels
    ]
    return np.concatenate(rows, axis=0)


def legend(classes: Sequence[str], palette: Palette, *, rows: int = 20) -> np.ndarray:
    """Returns number, colour and name of each class, in columns of at most `rows` lines."""
    line, swatch, column = 24, 30, 250  # pixels
    columns = -(-len(classes) // rows)
    picture = np.full((line * min(rows, len(classes)) + _GAP, column * columns, 3), _PAPER, np.uint8)
    for index, (name, colour) in enumerate(zip(classes, palette, strict=True)):
        left, top = _GAP + column * (index // rows), _GAP + line * (index % rows)
        picture[top : top + line - _GAP, left : left + swatch] = colour
        _write(picture, f"{index} {name}", (left + swatch + _GAP, top + line - 2 * _GAP))
    return picture


def _scaled(picture: np.ndarray, height: int | None) -> np.ndarray:
    if height is None or picture.shape[0] == height:
        return picture
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    # Areas when made smaller; no colour between two classes when made larger.
    smaller = height < picture.shape[0]
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_NEAREST)


def _captioned(picture: np.ndarray, caption: str) -> np.ndarray:
    strip = np.full((_CAPTION, picture.shape[1], 3), _PAPER, np.uint8)
    _write(strip, caption, (2, _CAPTION - 7))
    return np.concatenate([strip, picture], axis=0)


def _write(picture: np.ndarray, text: str, origin: tuple[int, int]) -> None:
    """Writes plain ASCII (cv2's fonts have no more) into the picture; `origin` is x, y of the baseline's start."""
    ascii_text = text.encode("ascii", "replace").decode()
    cv2.putText(picture, ascii_text, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.45, _INK, 1, cv2.LINE_AA)
