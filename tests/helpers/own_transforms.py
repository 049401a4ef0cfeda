"""Transforms as a user writes them: imported by name in the loader's processes."""

import os

import numpy as np


def noise(image: np.ndarray, label: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    added = generator.integers(0, 9, image.shape, dtype=np.uint8)
    image[...] = np.minimum(image, 246) + added  # its own copies: it may write into them
    label = np.where(generator.random(label.shape) < 0.1, 255, label).astype(np.uint8)
    return image, label


def fails_on_sample(image: np.ndarray, label: np.ndarray, generator: np.random.Generator) -> tuple:
    raise ZeroDivisionError("no such blur")


def returns_floats(image: np.ndarray, label: np.ndarray, generator: np.random.Generator) -> tuple:
    return image / 255, label


def dies(image: np.ndarray, label: np.ndarray, generator: np.random.Generator) -> tuple:
    os._exit(7)


NOT_A_FUNCTION = 3
