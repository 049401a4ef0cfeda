"""Checks of whole data sets: what is counted, and what is found wrong."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from setr.data.checking.doctor import CheckReport, check, evenly, report_lines
from setr.data.reading.ade20k import ADE20K, ADE20K_REDUCED
from setr.data.reading.camvid import CAMVID
from setr.data.reading.cityscapes import CITYSCAPES, CITYSCAPES_TRAIN_IDS
from setr.data.reading.folder import FolderSettings, folder_dataset
from setr.data.reading.images import source_hash
from setr.data.reading.pascal_context import PASCAL_CONTEXT, PASCAL_CONTEXT_59, PASCAL_CONTEXT_59_REDUCED
from setr.data.reading.samples import Dataset, Sample, keyed, pair, stem
from setr.data.reading.sources import find_files

GENERATOR = np.random.default_rng(5)


def write(root: Path, split: str, key: str, values: np.ndarray, image: np.ndarray | None = None) -> None:
    for folder in (root / split, root / f"{split}annot"):
        folder.mkdir(parents=True, exist_ok=True)
    if image is None:
        image = GENERATOR.integers(0, 256, (*values.shape, 3), dtype=np.uint8)
    Image.fromarray(image).save(root / split / f"{key}.png")
    Image.fromarray(values).save(root / f"{split}annot" / f"{key}.png")


def label(*values: int) -> np.ndarray:
    return np.resize(np.array(values, dtype=np.uint8), (8, 12))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for index in range(4):
        write(tmp_path, "train", f"t{index}", label(*range(12)))
    write(tmp_path, "val", "v0", label(*range(12)))
    return tmp_path


def codes(report: CheckReport, severity: str = "error") -> list[str]:
    return [finding.code for finding in report.findings if finding.severity == severity]


def line(report: CheckReport, code: str) -> str:
    return next(finding.line() for finding in report.findings if finding.code == code)


def in_layout_of_camvid(dataset: Dataset) -> Dataset:
    """Returns the data set with its own values and classes, read from CamVid's simple folders."""

    def scan(root: Path, split: str):  # type: ignore[no-untyped-def]
        images, labels = (
            keyed(find_files(root, name).found, lambda path: stem(path, ".png"), where=root)
            for name in (split, f"{split}annot")
        )
        return pair(images, labels)

    return replace(dataset, scanner=scan)


def test_a_sound_data_set_is_counted(root: Path) -> None:
    report = check(CAMVID, root, ("train", "val"))
    assert report.ok
    assert codes(report, "warning") == ["W_COUNT", "W_COUNT"]
    train, val = report.splits
    assert (train.images, train.published, train.checked, train.labelled, val.images) == (4, 367, 4, 4, 1)
    assert train.sizes == {"12x8": 4}
    assert train.image_modes == {"PNG RGB 8 bit": 4}
    assert train.label_modes == {"PNG grey 8 bit": 4}
    assert train.raw_histogram == dict.fromkeys(range(12), 32)
    assert train.class_pixels == (32,) * 11
    assert train.ignored_share == pytest.approx(1 / 12)
    assert report.label_family == report.expected_family == "11 classes (0-11)"


def test_the_record_is_json_and_the_text_has_one_fact_a_line(root: Path) -> None:
    report = check(CAMVID, root, ("train", "val"))
    record = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert record["ok"] is True
    assert record["splits"][0]["raw_histogram"]["11"] == 32
    text = list(report_lines(report))
    assert text[0] == "camvid/train: 4 images (published: 367), 4 with labels"
    assert any("ignored 8.33%" in part for part in text)
    assert any("camvid/train has 4 images, published are 367" in part for part in text)
    assert re.fullmatch(r"0 errors, 2 warnings, [0-9.]+ s", text[-1])


def test_progress_and_limit(root: Path) -> None:
    steps: list[tuple[int, int]] = []
    report = check(CAMVID, root, ("train", "val"), limit=2, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert [split.checked for split in report.splits] == [2, 1]
    samples = [Sample(str(index), Path(str(index))) for index in range(10)]
    assert [sample.key for sample in evenly(samples, 4)] == ["0", "2", "5", "7"]
    assert evenly(samples, None) is samples


def test_every_mistake_is_reported_at_once(root: Path) -> None:
    (root / "train/t0.png").write_bytes((root / "train/t0.png").read_bytes()[:-30])
    write(root, "train", "t1", label(0, 1, 200))
    write(root, "train", "t2", label(0, 1), image=np.zeros((9, 12, 3), dtype=np.uint8))
    (root / "trainannot/t3.png").unlink()
    write(root, "train", "t5", label(11))
    write(root, "train", "t6", label(3))
    (root / "train/._t0.png").write_bytes(b"junk")
    report = check(CAMVID, root, ("train", "val", "test"))
    assert not report.ok
    assert set(codes(report)) >= {
        "E_DATA_LAYOUT",
        "E_IMAGE_DECODE",
        "E_LABEL_RANGE",
        "E_SIZE_MISMATCH",
        "E_PAIR_MISSING",
    }
    assert "t1.png" in line(report, "E_LABEL_RANGE")
    assert report.splits[0].out_of_range == {200: 32}
    empty = [finding for finding in report.findings if finding.code == "W_LABEL_EMPTY"]
    assert [finding.examples for finding in empty] == [("t5",), ("t6",)]
    assert (report.splits[0].all_ignored, report.splits[0].one_class, report.splits[0].junk) == (1, 1, 1)
    assert "W_JUNK" in codes(report, "warning")
    assert all("\n" not in finding.line() for finding in report.findings)


def test_copies_are_found_by_their_pixels(root: Path) -> None:
    picture = np.asarray(Image.open(root / "val/v0.png"))
    Image.fromarray(picture).save(root / "train/t0.png", compress_level=1)
    Image.fromarray(picture).save(root / "train/t2.png", compress_level=0)
    report = check(CAMVID, root, ("train", "val"))
    assert codes(report) == ["E_SPLIT_LEAK"]
    assert "train/t0 = val/v0" in line(report, "E_SPLIT_LEAK")
    assert "train/t0 = train/t2" in line(report, "W_DUPLICATE")


def test_the_same_file_in_two_overlapping_splits_is_no_leak(root: Path) -> None:
    assert "E_SPLIT_LEAK" not in codes(check(CAMVID, root, ("train", "train+val")))


def test_known_bad_images_are_named_with_the_reason(tmp_path: Path) -> None:
    for key in ("augsburg_000000_000000", "troisdorf_000000_000073"):
        city = key.split("_")[0]
        for folder, ending in (("leftImg8bit", "leftImg8bit"), ("gtCoarse", "gtCoarse_labelIds")):
            path = tmp_path / folder / "train_extra" / city / f"{key}_{ending}.png"
            path.parent.mkdir(parents=True)
            shape = (8, 12, 3) if folder == "leftImg8bit" else (8, 12)
            Image.fromarray(GENERATOR.integers(20, 25, shape, dtype=np.uint8)).save(path)
    report = check(CITYSCAPES, tmp_path, ("train_extra",))
    assert report.ok
    assert report.splits[0].denied == {"troisdorf_000000_000073": "the published image is all black"}
    assert (report.splits[0].images, report.splits[0].checked) == (2, 1)
    assert "troisdorf_000000_000073" in line(report, "W_DENIED")


def test_damage_that_no_decoder_sees_is_found_by_the_recorded_hashes(tmp_path: Path) -> None:
    for index in range(3):
        write(tmp_path, "train", f"t{index}", label(*range(12)))
        pixels = GENERATOR.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "train" / f"t{index}.png", "JPEG")
    dataset = in_layout_of_camvid(CAMVID)
    samples = dataset.list_samples(tmp_path, "train")
    hashes = {sample.key: source_hash(sample) for sample in samples}
    data = bytearray((tmp_path / "train/t1.png").read_bytes())
    data[-200:-150] = bytes(50)
    (tmp_path / "train/t1.png").write_bytes(data)
    assert "E_IMAGE_DECODE" not in codes(check(dataset, tmp_path, ("train",)))
    report = check(dataset, tmp_path, ("train",), source_hashes=hashes)
    assert "t1.png" in line(report, "E_SOURCE_HASH")
    found = next(finding for finding in report.findings if finding.code == "E_SOURCE_HASH")
    assert found.count == 1


@pytest.mark.parametrize(
    ("dataset", "values", "setting"),
    [
        (CITYSCAPES, (0, 1, 2, 10, 18, 255), "set data.name=cityscapes_trainids"),
        (CITYSCAPES, (0, 1, 2, 10, 18), "set data.name=cityscapes_trainids"),
        (CITYSCAPES_TRAIN_IDS, (0, 7, 8, 26, 33), "set data.name=cityscapes,"),
        (ADE20K, (0, 1, 149, 255), "set data.name=ade20k_reduced"),
        (ADE20K_REDUCED, (0, 1, 150), "set data.name=ade20k,"),
        (PASCAL_CONTEXT, (0, 58, 255), "set data.name=pascal_context_59_reduced"),
        (PASCAL_CONTEXT_59, (0, 58, 255), "set data.name=pascal_context_59_reduced"),
        (PASCAL_CONTEXT_59_REDUCED, (0, 1, 59), "set data.name=pascal_context (60 classes)"),
        (CAMVID, (0, 5, 31), "take the 11-class labels"),
    ],
)
def test_labels_of_the_wrong_family_say_what_to_set(
    tmp_path: Path, dataset: Dataset, values: tuple[int, ...], setting: str
) -> None:
    write(tmp_path, "train", "t0", label(*values))
    report = check(in_layout_of_camvid(dataset), tmp_path, ("train",))
    assert "E_LABEL_FAMILY" in codes(report)
    assert setting in line(report, "E_LABEL_FAMILY")
    assert report.label_family != report.expected_family


@pytest.mark.parametrize(
    ("dataset", "values"),
    [
        (CITYSCAPES, (0, 7, 8, 26, 33)),
        (CITYSCAPES_TRAIN_IDS, (0, 1, 18, 255)),
        (ADE20K, (0, 1, 150)),
        (ADE20K_REDUCED, (0, 149, 255)),
        (PASCAL_CONTEXT, (0, 1, 59)),
        (PASCAL_CONTEXT_59_REDUCED, (0, 58, 255)),
    ],
)
def test_labels_of_the_right_family_pass(tmp_path: Path, dataset: Dataset, values: tuple[int, ...]) -> None:
    write(tmp_path, "train", "t0", label(*values))
    report = check(in_layout_of_camvid(dataset), tmp_path, ("train",))
    assert report.ok
    assert report.label_family == report.expected_family


def test_values_of_no_known_family_are_said(tmp_path: Path) -> None:
    write(tmp_path, "train", "t0", label(0, 77, 200))
    report = check(in_layout_of_camvid(CITYSCAPES), tmp_path, ("train",))
    assert report.label_family == ""
    assert codes(report) == ["E_LABEL_RANGE"]
    assert "77 (32 px), 200 (32 px)" in line(report, "E_LABEL_RANGE")
    assert "label family: unknown" in "\n".join(report_lines(report))


def test_ids_of_matlab_labels_are_no_family(tmp_path: Path) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    base = tmp_path / "VOC2010"
    (base / "JPEGImages").mkdir(parents=True)
    (base / "ImageSets/Main").mkdir(parents=True)
    (base / "ImageSets/Main/train.txt").write_text("a\n")
    Image.fromarray(np.zeros((2, 2, 3), dtype=np.uint8)).save(base / "JPEGImages/a.jpg")
    (tmp_path / "trainval").mkdir()
    savemat(tmp_path / "trainval/a.mat", {"LabelMap": np.array([[2, 458], [3, 459]], dtype=np.uint16)})
    report = check(PASCAL_CONTEXT, tmp_path, ("train",))
    assert report.ok
    assert report.splits[0].label_modes == {"MATLAB": 1}
    assert report.splits[0].raw_histogram == {2: 1, 3: 1, 458: 1, 459: 1}
    assert report.splits[0].out_of_range == {}


def test_a_split_without_labels_has_no_shares(tmp_path: Path) -> None:
    folder = tmp_path / "leftImg8bit/test/berlin"
    folder.mkdir(parents=True)
    Image.fromarray(np.zeros((8, 12, 3), dtype=np.uint8)).save(folder / "berlin_000000_000019_leftImg8bit.png")
    report = check(CITYSCAPES, tmp_path, ("test",))
    assert report.ok
    assert report.splits[0].ignored_share is None
    assert list(report_lines(report))


def test_an_empty_root_is_a_report_too(tmp_path: Path) -> None:
    report = check(CAMVID, tmp_path, ("train", "val"))
    assert codes(report) == ["E_DATA_EMPTY"]
    assert report.findings[0].count == 2
    assert report.splits == ()


def test_the_real_data_are_sound(camvid_root: Path) -> None:
    report = check(CAMVID, camvid_root, ("train", "val"), limit=20)
    assert report.ok
    assert codes(report, "warning") == []
    assert report.splits[1].sizes == {"480x360": 20}


def test_images_in_no_split_and_other_files_are_counted_once(tmp_path: Path) -> None:
    for key in ("train/a", "valid/b", "test/c", "test/d"):
        for folder, picture in (
            ("photos", GENERATOR.integers(0, 256, (8, 12, 3), dtype=np.uint8)),
            ("masks", label(0, 1)),
        ):
            (tmp_path / folder / key).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(tmp_path / folder / f"{key}.png")
    (tmp_path / "photos/notes.txt").write_text("x")
    dataset = folder_dataset("own", FolderSettings("photos", "masks"), ["x", "y"])
    report = check(dataset, tmp_path, ("train", "val"))
    assert report.ok
    assert line(report, "W_SPLIT_REST").startswith("WARNING W_SPLIT_REST (2x) images in no split | test/c; test/d")
    assert "W_OTHER_FILES (1x)" in line(report, "W_OTHER_FILES")
    assert [split.outside for split in report.splits] == [2, 2]


def test_classes_that_never_occur_are_named_by_split(root: Path) -> None:
    write(root, "val", "v0", label(*range(9)))
    report = check(CAMVID, root, ("train", "val"))
    assert report.ok
    assert line(report, "W_CLASS_ABSENT").endswith("val: never occurs in a label that was read: pedestrian, bicyclist")
    assert [split.absent for split in report.splits] == [(), ("pedestrian", "bicyclist")]
