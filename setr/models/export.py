"""A trained model as files for elsewhere: safetensors + JSON, ONNX, and a torch.export program; each is tried out.

ONNX and torch.export take images (B, 3, H, W), normalised, of any B, H and W above one patch, to logits (B, K, H, W).
The position table is resized inside the graph. Each file is read back and compared with the model at several sizes.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor
from torch.export import Dim

from setr.data.loading.transforms import MEAN, STD
from setr.errors import EnvironmentFailure, InputError, IntegrityError
from setr.files.atomic import written_aside
from setr.files.hashing import file_sha256
from setr.models.segmenter import Segmenter, own_texts
from setr.models.spec_json import spec_to_json
from setr.models.specification import SegmenterSpec, TimmSpec
from setr.models.weights import OWN_KEY, SPEC_KEY, import_checkpoint
from setr.settings.config import to_dict

# Float32 in another order of summation; a wrong resize or norm moves logits by 1e-3 and more.
TOLERANCE = 1.0e-4
Sizes = Sequence[tuple[int, int]]  # H, W pixels


@dataclass(frozen=True)
class ExportRecord:
    """One exported file and how far its logits were from the model's."""

    path: str
    format: str  # safetensors | onnx | torch.export
    sha256: str
    size_bytes: int
    sizes: tuple[tuple[int, int], ...]  # images tried, H x W pixels
    largest_difference: float  # of logits, absolute

    def as_dict(self) -> dict[str, Any]:
        """Returns the record as plain values that json.dumps takes."""
        return to_dict(self)


def check_sizes(spec: SegmenterSpec) -> Sizes:
    """Returns the sizes (H, W pixels) that exports are tried at: the training crop, and one of no whole patches."""
    height, width = spec.image_size
    return (height, width), (max(33, height * 3 // 4 + 5), max(33, width // 2 + 3))


def export_weights(
    model: Segmenter, path: Path, *, about: Mapping[str, Any] | None = None, sizes: Sizes | None = None
) -> ExportRecord:
    """Writes `path` (.safetensors, its structure in the header) and a .json beside it; returns the record.

    The JSON says what a user needs: structure, normalisation, SHA-256, and `about` (class names, where it came from).
    `import_checkpoint(path)` returns the model. Code of a user's own that it runs goes with it, in the header.
    """
    sizes = sizes or check_sizes(model.spec)
    spec = spec_to_json(model.spec)
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    with written_aside(path) as aside:
        own = {OWN_KEY: json.dumps(texts, sort_keys=True)} if (texts := own_texts(model)) else {}
        safetensors.torch.save_file(tensors, aside, {SPEC_KEY: json.dumps(spec, sort_keys=True), **own})
        read_back, _ = import_checkpoint(aside, allow_code=True)  # which runs already
        record = _record(model, lambda images: read_back(images), aside, "safetensors", sizes, final=path)
        description = {
            "format": "setr segmenter, safetensors",
            "spec": spec,
            "input": {"layout": "B,3,H,W float32, RGB", "mean": list(MEAN), "std": list(STD), "range": [0, 255]},
            "output": "logits B,K,H,W; the class is the largest",
            "weights": record.as_dict(),
            "about": dict(about or {}),
        }
        text = json.dumps(description, indent=1, sort_keys=True) + "\n"
        aside.with_suffix(".json").write_text(text, encoding="utf-8")
    return record


def export_onnx(model: Segmenter, path: Path, *, sizes: Sizes | None = None) -> ExportRecord:
    """Writes `path` (.onnx; batch, height and width dynamic), runs it with onnxruntime and returns the record.

    Raises IntegrityError where the logits differ from PyTorch's by more than TOLERANCE, EnvironmentFailure where
    onnx, onnxscript or onnxruntime is not installed.
    """
    _require_graph(model)
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - what torch.onnx builds the graph with
    except ImportError as error:
        raise EnvironmentFailure(
            "E_EXPORT_PACKAGES", "a package for ONNX is not installed", found=error, remedy="pip install '.[export]'"
        ) from None
    sizes = sizes or check_sizes(model.spec)
    names = {0: "batch", 2: "height", 3: "width"}
    with written_aside(path) as aside, _on_cpu(model) as plain, torch.no_grad():
        program = torch.onnx.export(
            plain,
            (_images(model, sizes[-1], batch=2),),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=(names,),
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.save(aside)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(aside, options, providers=["CPUExecutionProvider"])

        def run(images: Tensor) -> Tensor:
            return torch.from_numpy(np.asarray(session.run(None, {"images": images.numpy()})[0]))

        return _record(plain, run, aside, "onnx", sizes, final=path)


def export_program(model: Segmenter, path: Path, *, sizes: Sizes | None = None) -> ExportRecord:
    """Writes `path` (.pt2, torch.export; batch, height and width dynamic), reads it back and returns the record."""
    _require_graph(model)
    sizes = sizes or check_sizes(model.spec)
    dynamic = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    with written_aside(path) as aside, _on_cpu(model) as plain, torch.no_grad():
        program = torch.export.export(plain, (_images(model, sizes[-1], batch=2),), dynamic_shapes=(dynamic,))
        torch.export.save(program, aside)
        module = torch.export.load(aside).module()
        return _record(plain, module, aside, "torch.export", sizes, final=path)


def _require_graph(model: Segmenter) -> None:
    """Raises InputError for an encoder of timm's: its graph holds for sizes like the example's alone."""
    if isinstance(model.spec.encoder, TimmSpec):
        raise InputError(
            "E_EXPORT_ENCODER",
            "an encoder of timm's has no graph for images of any size",
            found=model.spec.encoder.name,
            expected="an encoder of the tables",
            remedy="export to .safetensors, which import_checkpoint opens",
        )


@contextmanager
def _on_cpu(model: Segmenter) -> Iterator[Segmenter]:
    """Yields the model on the CPU in eval mode; afterwards it is as it was."""
    device, training = next(model.parameters()).device, model.training
    try:
        yield model.eval().cpu()
    finally:
        model.to(device).train(training)


def _images(model: Segmenter, size: tuple[int, int], batch: int) -> Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(size[0]))


def _record(
    model: Segmenter, run: Callable[[Tensor], Tensor], written: Path, kind: str, sizes: Sizes, *, final: Path
) -> ExportRecord:
    """Returns the record of a file after its logits were compared with the model's at every size, batches 1 and 2."""
    largest = 0.0
    with _on_cpu(model) as plain, torch.no_grad():
        for batch, size in enumerate(sizes, start=1):
            images = _images(plain, size, batch)
            expected, found = plain(images), run(images)
            assert found.shape == expected.shape
            largest = max(largest, float((found - expected).abs().max()))
    if not largest <= TOLERANCE:
        raise IntegrityError(
            "E_EXPORT_DIFFERS",
            f"the {kind} file computes other logits than the model",
            where=final,
            found=f"{largest:.1e}",
            expected=f"at most {TOLERANCE:.0e}",
            remedy="report it with the versions of torch and onnxruntime; the file was not kept",
        )
    size_bytes = sum(file.stat().st_size for file in written.parent.iterdir())
    return ExportRecord(str(final), kind, file_sha256(written), size_bytes, tuple(sizes), largest)
