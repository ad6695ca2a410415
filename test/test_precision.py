"""The encoder's precision: what is chosen, what is refused, and weights rounded to fp16."""

import pytest
import torch

from shared_pose_ros.network.pose_network import PoseNetwork
from shared_pose_ros.network.precision import choose_precision, halve, has_bf16

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def cpuinfo(folder, flags):
    path = folder / "cpuinfo"
    path.write_text(f"processor\t: 0\nmodel name\t: some bf16 wonder\nflags\t\t: fpu {flags}\n\nprocessor\t: 1\n")
    return path


def test_auto_takes_bf16_where_the_processor_has_it(tmp_path):
    assert choose_precision("auto", CPU, cpuinfo(tmp_path, "avx512f avx512_bf16")) == "bf16"
    assert choose_precision("auto", CPU, cpuinfo(tmp_path, "amx_bf16 avx2")) == "bf16"
    assert choose_precision("auto", CPU, cpuinfo(tmp_path, "avx512f avx2")) == "fp32"
    assert choose_precision("auto", CPU, tmp_path / "none") == "fp32"
    assert choose_precision("auto", CUDA, cpuinfo(tmp_path, "avx512_bf16")) == "fp32"
    # A processor's name is not its flags, and another architecture's file has none.
    path = tmp_path / "cpuinfo"
    path.write_text("Features\t: asimd bf16\nmodel name: avx512_bf16\n")
    assert not has_bf16(path)


def test_what_a_device_cannot_compute_in_is_refused(monkeypatch):
    assert choose_precision("fp32", CPU) == "fp32" and choose_precision("bf16", CPU) == "bf16"
    assert choose_precision("fp16", CUDA) == "fp16"
    with pytest.raises(ValueError, match="'int8' is unknown; choose one of auto, fp32, bf16, fp16"):
        choose_precision("int8", CPU)
    with pytest.raises(ValueError, match="fp16 is for GPUs, not for cpu"):
        choose_precision("fp16", CPU)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    with pytest.raises(ValueError, match="cuda has no bf16"):
        choose_precision("bf16", CUDA)


def test_halving_rounds_matrices_and_leaves_the_rest():
    torch.manual_seed(0)
    network = PoseNetwork(2, 3, "compact", 16)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    halve(network)
    for name, tensor in network.state_dict().items():
        if before[name].ndim > 1:
            assert tensor.dtype == torch.float16 and torch.equal(tensor, before[name].half())
        else:
            assert tensor.dtype == before[name].dtype and torch.equal(tensor, before[name])
    network.float()
    with torch.no_grad():
        network.encoder.linear.weight[3, 5] = 1e5
    with pytest.raises(ValueError, match=r"encoder\.linear\.weight reaches 1e\+05, fp16 ends at 65504"):
        halve(network)
