"""The loaders that ours is measured against, each on the same images, with the same crop, scale range and flip.

A peer is a function that prepares its own files below a folder (once) and returns an endless iterator over batches of
uint8 images and labels. Where a peer only stores samples, it gets OpenCV as decoder and our window-first augmentation,
so what is compared is storing and transporting. Labels are PNG where images are JPEG or PNG, as those formats are used.
"""

import itertools
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler

from setr.data.loading.transforms import Augmentation, augment

Decode = Callable[[dict[str, bytes]], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Work:
    """What every loader is given."""

    folder: Path
    images: tuple[Path, ...]  # PNG files; a JPEG of the same name lies beside each
    labels: tuple[Path, ...]  # PNG files
    size: tuple[int, int]  # height, width
    augmentation: Augmentation
    batch_size: int
    processes: int


class Samples(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Samples by position from a reader (position -> fields), decoded and augmented."""

    def __init__(self, count: int, read: Callable[[int], dict[str, bytes]], decode: Decode, work: Work) -> None:
        self.count, self.read, self.decode, self.work = count, read, decode, work

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, position: int) -> tuple[torch.Tensor, torch.Tensor]:
        return augmented(self.decode(self.read(position)), self.work)


def augmented(sample: tuple[np.ndarray, np.ndarray], work: Work) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the sample after our augmentation, with random numbers from numpy's global state."""
    numbers = {"seed": 0, "sample": int(np.random.randint(2**31)), "step": 0}
    image, label = augment(*sample, work.augmentation, **numbers)
    return torch.from_numpy(image), torch.from_numpy(label)


def in_processes(dataset: Dataset[Any], work: Work, **options: Any) -> Iterator[Any]:
    """Returns an endless iterator over batches that worker processes load."""
    sampler = RandomSampler(dataset, replacement=True, num_samples=10**7)  # type: ignore[arg-type]
    return iter(
        DataLoader(
            dataset, work.batch_size, sampler=sampler, num_workers=work.processes, worker_init_fn=_one_thread, **options
        )
    )


def payload(work: Work, position: int, kind: str) -> dict[str, bytes]:
    """Returns the fields that peers store for a sample: raw, jpeg or png."""
    image, label = work.images[position], work.labels[position]
    if kind == "raw":
        pixels = cv2.cvtColor(cv2.imread(str(image)), cv2.COLOR_BGR2RGB)
        return {"image": pixels.tobytes(), "label": cv2.imread(str(label), cv2.IMREAD_GRAYSCALE).tobytes()}
    source = image if kind == "png" else image.with_suffix(".jpg")
    return {"image": source.read_bytes(), "label": label.read_bytes()}


def decoder(work: Work, kind: str) -> Decode:
    """Returns the function from stored fields to image and label."""

    def raw(fields: dict[str, bytes]) -> tuple[np.ndarray, np.ndarray]:
        image = np.frombuffer(fields["image"], np.uint8).reshape(*work.size, 3)
        return image, np.frombuffer(fields["label"], np.uint8).reshape(work.size)

    def encoded(fields: dict[str, bytes]) -> tuple[np.ndarray, np.ndarray]:
        image = cv2.imdecode(np.frombuffer(fields["image"], np.uint8), cv2.IMREAD_COLOR_RGB)
        return image, cv2.imdecode(np.frombuffer(fields["label"], np.uint8), cv2.IMREAD_GRAYSCALE)

    return raw if kind == "raw" else encoded


def mmsegmentation(work: Work) -> Iterator[Any]:
    """mmsegmentation's own pipeline on the PNG files; raises ImportError where it is not installed."""
    # mmcv's compiled operators belong to models; the pure-Python mmcv has none, and mmseg imports them with its models.
    sys.modules.setdefault("mmcv.ops", _NoOperators("mmcv.ops"))
    from mmcv.transforms import Compose, LoadImageFromFile, RandomFlip, RandomResize
    from mmseg.datasets.transforms import LoadAnnotations, PackSegInputs, RandomCrop

    low_high = work.augmentation.ratio_range
    pipeline = Compose(
        [
            LoadImageFromFile(),
            LoadAnnotations(),
            RandomResize(scale=work.size[::-1], ratio_range=low_high, keep_ratio=True, resize_type="Resize"),
            RandomCrop(crop_size=work.augmentation.crop_size, cat_max_ratio=work.augmentation.cat_max_ratio),
            RandomFlip(prob=work.augmentation.flip_probability),
            PackSegInputs(),
        ]
    )
    samples = [
        {"img_path": str(image), "seg_map_path": str(label), "reduce_zero_label": False, "seg_fields": []}
        for image, label in zip(work.images, work.labels, strict=True)
    ]
    return in_processes(_Piped(samples, pipeline), work, collate_fn=list)


def mmsegmentation_restated(work: Work) -> Iterator[Any]:
    """The usual order of work, written out: decode, resize the whole image, crop, flip; for where mmseg is missing."""
    return in_processes(_WholeResize(work), work, collate_fn=list)


def webdataset(work: Work, kind: str) -> Iterator[Any]:
    """webdataset: tar files, resampled shards, a shuffle buffer of 256."""
    import webdataset as wds

    folder = work.folder / f"webdataset-{kind}"
    if not folder.exists():
        folder.mkdir()
        with wds.ShardWriter(f"{folder}/%05d.tar", maxcount=64, verbose=0) as sink:
            for position in range(len(work.images)):
                sink.write({"__key__": f"{position:06d}", **payload(work, position, kind)})
    decode = decoder(work, kind)
    shards = [str(path) for path in sorted(folder.glob("*.tar"))]
    dataset = (
        wds.WebDataset(shards, resampled=True, shardshuffle=False, empty_check=False)
        .shuffle(256)
        .map(lambda fields: augmented(decode(fields), work))
        .batched(work.batch_size, collation_fn=torch.utils.data.default_collate)
    )
    return iter(DataLoader(dataset, batch_size=None, num_workers=work.processes, worker_init_fn=_one_thread))


def mosaicml_streaming(work: Work, kind: str) -> Iterator[Any]:
    """mosaicml-streaming: MDS shards on the local disk with its default shuffle."""
    from streaming import MDSWriter, StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    folder = work.folder / f"mds-{kind}"
    if not folder.exists():
        with MDSWriter(out=str(folder), columns={"image": "bytes", "label": "bytes"}) as sink:
            for position in range(len(work.images)):
                sink.write(payload(work, position, kind))
    clean_stale_shared_memory()
    decode = decoder(work, kind)

    class Stream(StreamingDataset):  # type: ignore[misc, valid-type]
        def __getitem__(self, position: int) -> tuple[torch.Tensor, torch.Tensor]:
            return augmented(decode(super().__getitem__(position)), work)

    dataset = Stream(local=str(folder), shuffle=True, batch_size=work.batch_size, epoch_size=len(work.images) * 64)
    return iter(DataLoader(dataset, work.batch_size, num_workers=work.processes, worker_init_fn=_one_thread))


def lmdb(work: Work, kind: str) -> Iterator[Any]:
    """LMDB with one value per field."""
    import lmdb as store

    path = work.folder / f"lmdb-{kind}"
    if not path.exists():
        with store.open(str(path), map_size=2**36) as environment, environment.begin(write=True) as transaction:
            for position in range(len(work.images)):
                for name, value in payload(work, position, kind).items():
                    transaction.put(f"{position}/{name}".encode(), value)
    return in_processes(Samples(len(work.images), _LmdbReader(path), decoder(work, kind), work), work)


def parquet(work: Work, kind: str) -> Iterator[Any]:
    """Parquet with one row per row group, read by position."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = work.folder / f"{kind}.parquet"
    if not path.exists():
        schema = pa.schema({"image": pa.large_binary(), "label": pa.large_binary()})
        with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False, write_statistics=False) as sink:
            for position in range(len(work.images)):
                sink.write_table(pa.Table.from_pylist([payload(work, position, kind)], schema))
    return in_processes(Samples(len(work.images), _ParquetReader(path), decoder(work, kind), work), work)


def ray_data(work: Work, kind: str) -> Iterator[Any]:
    """Ray Data: Parquet, shuffled, augmented in its workers, as torch batches."""
    import ray

    next(parquet(work, kind))
    if not ray.is_initialized():
        ray.init(num_cpus=work.processes, include_dashboard=False, log_to_driver=False)
    decode = decoder(work, kind)

    def prepare(row: dict[str, Any]) -> dict[str, np.ndarray]:
        image, label = augmented(decode(row), work)
        return {"image": image.numpy(), "label": label.numpy()}

    rows = ray.data.read_parquet(str(work.folder / f"{kind}.parquet"))
    for _ in itertools.count():
        yield from rows.random_shuffle().map(prepare).iter_torch_batches(batch_size=work.batch_size)


class _LmdbReader:
    """Reads by position; opened in the process that reads."""

    def __init__(self, path: Path) -> None:
        self.path, self.environment = path, None

    def __call__(self, position: int) -> dict[str, bytes]:
        if self.environment is None:
            import lmdb as store

            self.environment = store.open(str(self.path), readonly=True, lock=False, readahead=False)
        with self.environment.begin(buffers=False) as transaction:
            return {name: transaction.get(f"{position}/{name}".encode()) for name in ("image", "label")}


class _ParquetReader:
    """Reads by position; opened in the process that reads."""

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, None

    def __call__(self, position: int) -> dict[str, Any]:
        if self.file is None:
            import pyarrow.parquet as pq

            self.file = pq.ParquetFile(self.path)
        table = self.file.read_row_group(position, use_threads=False)
        return {name: table[name].chunk(0).buffers()[2] for name in ("image", "label")}


class _Piped(Dataset[Any]):
    """Sample descriptions through a pipeline."""

    def __init__(self, samples: list[dict[str, Any]], pipeline: Callable[[dict[str, Any]], Any]) -> None:
        self.samples, self.pipeline = samples, pipeline

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, position: int) -> Any:
        return self.pipeline(dict(self.samples[position]))


class _WholeResize(Dataset[Any]):
    """Decode, resize all, crop, flip."""

    def __init__(self, work: Work) -> None:
        self.work = work

    def __len__(self) -> int:
        return len(self.work.images)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = np.random.default_rng()
        image = cv2.imread(str(self.work.images[position]))
        label = cv2.imread(str(self.work.labels[position]), cv2.IMREAD_UNCHANGED)
        ratio = generator.uniform(*self.work.augmentation.ratio_range)
        size = tuple(int(edge * ratio + 0.5) for edge in self.work.size[::-1])
        image, label = cv2.resize(image, size), cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)
        crop = self.work.augmentation.crop_size
        top, left = (int(generator.integers(max(a - b, 0) + 1)) for a, b in zip(size[::-1], crop, strict=True))
        image, label = (array[top : top + crop[0], left : left + crop[1]] for array in (image, label))
        if generator.random() < self.work.augmentation.flip_probability:
            image, label = image[:, ::-1], label[:, ::-1]
        chw = np.ascontiguousarray(image.transpose(2, 0, 1))
        return torch.from_numpy(chw), torch.from_numpy(np.ascontiguousarray(label))


class _NoOperators(types.ModuleType):
    """Stands for a module whose names are imported but not used here."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def _one_thread(_: int) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
