"""A sample of images is counted as among all of them, and put beside the counts that were stored."""

from pathlib import Path

import numpy as np
import pytest

from setr.errors import IntegrityError
from setr.evaluation.evaluate import evaluate
from setr.evaluation.recount import recount
from tests.helpers.tiny_scoring import PROTOCOL, SIZES, Linear, make_shards


def store(path: Path) -> Path:
    """Writes the areas of all images as a scoring does."""
    found = evaluate(Linear().eval(), make_shards(SIZES), PROTOCOL, device="cpu")
    np.savez_compressed(path, keys=np.array([row.key for row in found.rows]), areas=found.areas, matrix=found.matrix)
    return path


@pytest.mark.parametrize("sample", [1, 4, 9, 100])
def test_a_sample_has_the_counts_that_its_images_have_among_all(tmp_path: Path, sample: int) -> None:
    images = recount(
        Linear().eval(), make_shards(SIZES), PROTOCOL, store(tmp_path / "areas.npz"), device="cpu", sample=sample
    )
    assert min(sample, len(SIZES)) <= len(images) <= min(sample + 6, len(SIZES))
    assert len({image.key for image in images}) == len(images)
    assert images[0].key == "image-000"
    if sample > 4:
        assert images[-1].key == f"image-{len(SIZES) - 1:03d}", "spread over all images"
    for image in images:
        assert image.found.tolist() == image.stored.tolist()
        assert (image.protocol, len(image.classes)) == ("ss", 5)


def test_workers_count_a_sample_together(tmp_path: Path) -> None:
    shards, stored = make_shards(SIZES), store(tmp_path / "areas.npz")
    shares = [
        recount(Linear().eval(), shards, PROTOCOL, stored, device="cpu", rank=rank, world_size=2, sample=9)
        for rank in range(2)
    ]
    whole = recount(Linear().eval(), shards, PROTOCOL, stored, device="cpu", sample=9)
    assert sorted(image.key for share in shares for image in share) == [image.key for image in whole]


def test_another_model_has_other_counts(tmp_path: Path) -> None:
    model = Linear().eval()
    model.conv.weight.data[0] += 0.02
    images = recount(model, make_shards(SIZES), PROTOCOL, store(tmp_path / "areas.npz"), device="cpu")
    assert any(image.found.tolist() != image.stored.tolist() for image in images)


def test_counts_that_are_missing_damaged_or_of_other_images_are_refused(tmp_path: Path) -> None:
    path = store(tmp_path / "areas.npz")
    whole = path.read_bytes()

    def refused(shards_of: list[tuple[int, int]] = SIZES) -> str:
        with pytest.raises(IntegrityError, match="E_AREAS") as error:
            recount(Linear().eval(), make_shards(shards_of), PROTOCOL, path, device="cpu")
        return str(error.value)

    assert "found 23 images" in refused(SIZES[:-1])
    assert "without image-" in refused([*SIZES, *SIZES])
    for data in (b"", whole[: len(whole) // 2], b"text", whole[:40] + b"\0" * 40 + whole[80:]):
        path.write_bytes(data)
        assert len(refused().splitlines()) == 1
    np.savez(path, keys=np.array(["image-000"]))
    refused()
    path.unlink()
    refused()
