"""The size that an image gets: pure numbers, for what is trained on, scored and planned."""


def keep_ratio_size(size: tuple[int, int], bounds: tuple[float, float]) -> tuple[int, int]:
    """Returns the (height, width) of an image of `size` scaled into bounds: long edge <= larger, short <= smaller.

    Sides are rounded half up (mmcv's rescale_size); none vanishes, however long and narrow the image.
    """
    factor = min(max(bounds) / max(size), min(bounds) / min(size))
    return max(1, int(size[0] * factor + 0.5)), max(1, int(size[1] * factor + 0.5))
