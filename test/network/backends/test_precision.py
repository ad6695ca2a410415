"""The encoder's precision: what is chosen, what is refused, and weights rounded to fp16."""

import pytest
import torch

from shared_pose_ros.network.backends.precision import halve, has_bf16, has_int8, usable_precisions
from shared_pose_ros.network.pose_network import PoseNetwork

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def cpuinfo(folder, flags):
    path = folder / "cpuinfo"
    path.write_text(f"processor\t: 0\nmodel name\t: some bf16 wonder\nflags\t\t: fpu {flags}\n\nprocessor\t: 1\n")
    return path


def test_auto_takes_what_the_processor_has(tmp_path):
    for flags, expected in (
        ("avx512f avx512_bf16", ("bf16", "fp32")),
        ("amx_bf16 avx2", ("bf16", "fp32")),
        ("avx512f avx512_bf16 avx512_vnni", ("int8", "bf16", "fp32")),
        ("avx512_vnni", ("int8", "fp32")),
        ("avx2 avx_vnni", ("fp32",)),  # on request: it has not been measured
        ("avx512f avx2", ("fp32",)),
    ):
        assert usable_precisions("auto", CPU, cpuinfo(tmp_path, flags)) == expected
    assert usable_precisions("auto", CPU, tmp_path / "none") == ("fp32",)
    assert usable_precisions("auto", CUDA, cpuinfo(tmp_path, "avx512_bf16 avx512_vnni")) == ("fp32",)
    # A processor's name is not its flags, and another architecture's file has none.
    path = tmp_path / "cpuinfo"
    path.write_text("Features\t: asimd bf16\nmodel name: avx512_bf16 avx512_vnni\n")
    assert not has_bf16(path) and not has_int8(path)


def test_what_a_device_cannot_compute_in_is_refused(tmp_path, monkeypatch):
    assert usable_precisions("fp32", CPU) == ("fp32",) and usable_precisions("bf16", CPU) == ("bf16",)
    assert usable_precisions("fp16", CUDA) == ("fp16",)
    assert usable_precisions("int8", CPU, cpuinfo(tmp_path, "avx2 avx_vnni")) == ("int8",)
    with pytest.raises(
        ValueError, match="int8 needs an x86 processor with avx512_vnni or avx_vnni.*auto, fp32 or bf16"
    ):
        usable_precisions("int8", CPU, cpuinfo(tmp_path, "avx512f avx512_bf16"))
    with pytest.raises(ValueError, match="int8 is for CPUs, not for cuda"):
        usable_precisions("int8", CUDA)
    with pytest.raises(ValueError, match="'int4' is unknown; choose one of auto, fp32, bf16, fp16, int8"):
        usable_precisions("int4", CPU)
    with pytest.raises(ValueError, match="fp16 is for GPUs, not for cpu"):
        usable_precisions("fp16", CPU)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    with pytest.raises(ValueError, match="cuda has no bf16"):
        usable_precisions("bf16", CUDA)


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
