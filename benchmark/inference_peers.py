"""What the shared network is timed against in inference.py: the same answers by other means.

Every system is a module ``(image, boxes, object_index) → (rotations, confidences)`` as ``PixelsToHypotheses``
is, so that all of them run behind the same ``PoseEstimator``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from shared_pose_ros.baselines.codebook import view_rotations
from shared_pose_ros.network.codebook_network import Codebook, CodebookNetwork
from shared_pose_ros.network.inference_module import PixelsToHypotheses
from shared_pose_ros.network.pose_network import PoseNetwork

VIEWPOINTS = 642  # × 36 turns in the plane: 23,112 views an object
_INPUTS, _OUTPUTS = ["crops", "object_index"], ["rotations", "logits"]


class ForeignNetwork(nn.Module):
    """A network that another runtime computes, with the interface of ``PoseNetwork``.

    Args:
        network: whose head is asked for n.
        call: crops ``(B, 3, S, S)`` float32 and object_index ``(B,)`` int64 → rotations and logits, as arrays.
    """

    def __init__(self, network: PoseNetwork, call: Callable[[np.ndarray, np.ndarray], list[np.ndarray]]) -> None:
        super().__init__()
        self.head = network.head
        self._call = call

    def forward(self, crops: Tensor, object_index: Tensor) -> tuple[Tensor, Tensor]:
        """As ``PoseNetwork.forward``."""
        rotations, logits = self._call(crops.numpy(), object_index.numpy())
        return torch.from_numpy(rotations), torch.from_numpy(logits)


class OneByOne(nn.Module):
    """The way of the authors' code: crop by crop, cut and resized by OpenCV, the code copied to numpy and back.

    Theirs clips the crop at the image's border and stretches it; so does this. No quarter rotations: they have none.
    """

    def __init__(self, network: PoseNetwork, pad: float, size: int) -> None:
        super().__init__()
        self.network, self.pad, self.size = network, pad, size

    def forward(self, image: Tensor, boxes: Tensor, object_index: Tensor) -> tuple[Tensor, Tensor]:
        """As ``PixelsToHypotheses.forward``."""
        answers = [self._one(image.cpu().numpy(), *pair) for pair in zip(boxes.cpu().numpy(), object_index)]
        return torch.stack([rotations for rotations, _ in answers]), torch.stack([weights for _, weights in answers])

    def _one(self, image: np.ndarray, box: np.ndarray, index: Tensor) -> tuple[Tensor, Tensor]:
        half = self.pad * max(box[2], box[3]) / 2
        x0, y0, x1, y1 = (round(float(v)) for v in (box[0] - half, box[1] - half, box[0] + half, box[1] + half))
        cut = image[max(y0, 0) : max(y1, 1), max(x0, 0) : max(x1, 1)]
        crop = cv2.resize(cut, (self.size, self.size), interpolation=cv2.INTER_LINEAR).astype(np.float32) / 255
        crop = (crop - crop.min()) / max(crop.max() - crop.min(), 1e-4)
        pixels = torch.from_numpy(crop.transpose(2, 0, 1)[None].copy())
        code = self.network.code(pixels.to(index.device)).cpu().numpy()
        rotations, logits = self.network.hypotheses(torch.from_numpy(code).to(index.device), index[None])
        rotations, weights = rotations.cpu()[0], torch.softmax(logits, dim=1).cpu()[0]
        order = weights.argsort(descending=True)
        return rotations[order], weights[order]


def codebook_of(network: PoseNetwork, objects: int, hypotheses: int) -> CodebookNetwork:
    """The network's encoder with a codebook of random codes: a search takes as long whatever they are."""
    rotations = view_rotations(VIEWPOINTS)
    codes = torch.nn.functional.normalize(torch.randn(objects, len(rotations), 128), dim=2)
    return CodebookNetwork(network.encoder, Codebook(codes, rotations, hypotheses)).eval()


def write_onnx(network: PoseNetwork, size: int, path: Path) -> None:
    """The network from crops to rotations and logits as an ONNX file, for any number of crops."""
    example = torch.rand(2, 3, size, size), torch.zeros(2, dtype=torch.int64)
    axes = {name: {0: "batch"} for name in (*_INPUTS, *_OUTPUTS)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's successor, which takes a minute
        torch.onnx.export(
            network, example, str(path), dynamo=False, input_names=_INPUTS, output_names=_OUTPUTS, dynamic_axes=axes
        )


def onnx_runtime(network: PoseNetwork, path: Path, threads: int) -> ForeignNetwork:
    """ONNX Runtime on the CPU, in fp32: it has no convolution in bf16. ImportError where it is not installed."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return ForeignNetwork(network, lambda *arrays: session.run(_OUTPUTS, dict(zip(_INPUTS, arrays))))


def openvino(network: PoseNetwork, path: Path, threads: int, precision: str | None) -> tuple[ForeignNetwork, str]:
    """OpenVINO on the CPU, and the precision that it took; None leaves that to it. ImportError where it is missing."""
    import openvino as ov

    core = ov.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    if precision:
        settings["INFERENCE_PRECISION_HINT"] = precision
    compiled = core.compile_model(core.read_model(str(path)), "CPU", settings)
    request = compiled.create_infer_request()
    taken = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()

    def call(*arrays: np.ndarray) -> list[np.ndarray]:
        found = request.infer(list(arrays), share_inputs=True)
        return [np.array(found[number]) for number in range(2)]

    return ForeignNetwork(network, call), taken


def eager(network: nn.Module, pad: float, size: int, tta_rotations: int) -> PixelsToHypotheses:
    """A network behind the package's own cropping, sorting and merging, in eager PyTorch."""
    return PixelsToHypotheses(network, pad, size, tta_rotations).eval()
