"""The hardware: which device and precision a run uses, and what the record calls the machine."""

import argparse
import re
from pathlib import Path
from typing import Any

from runs import RunError

CPU_FACTS = Path("/proc/cpuinfo")  # Linux's


def device(text: str) -> str:
    """An argparse type: the name of a device, which this machine may yet lack."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]+)?", text):
        raise argparse.ArgumentTypeError(f"unknown device '{text}': choose from auto, cpu, cuda, cuda:N, mps")
    return text


def has_kernels(index: int) -> bool:
    """Whether this PyTorch has code for a CUDA GPU: of its own generation and no newer, or PTX that is no newer."""
    import torch

    built = re.findall(r"(sm|compute)_(\d+)", " ".join(torch.cuda.get_arch_list()))  # AMD's have other names
    major, minor = torch.cuda.get_device_capability(index)
    own = 10 * major + minor
    return not built or any(int(n) <= own and (kind == "compute" or int(n) // 10 == major) for kind, n in built)


def pick_device(name: str) -> str:
    """The device to use: 'auto' is the first there is of a CUDA GPU that works, Apple's GPU and the CPU.

    A CUDA GPU is returned with its number, 'cuda:0'. RunError for a device that is not there or has no code.
    """
    import torch

    mps = torch.backends.mps.is_available()
    if name == "auto":
        cards = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
        return next((f"cuda:{i}" for i in cards if has_kernels(i)), "mps" if mps else "cpu")
    kind, _, index = name.partition(":")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        found = f"{torch.cuda.device_count()} found" if torch.cuda.is_available() else "no CUDA GPU found"
        raise RunError(f"--device {name}: {found} by this PyTorch; use --device auto or cpu")
    if kind == "cuda" and not has_kernels(int(index or 0)):
        card = torch.cuda.get_device_name(int(index or 0))
        raise RunError(f"--device {name}: this PyTorch has no code for {card}; use --device auto or cpu")
    if kind == "mps" and not mps:
        raise RunError("--device mps: no Apple GPU found by this PyTorch; use --device auto or cpu")
    return f"cuda:{int(index or 0)}" if kind == "cuda" else kind


def pick_precision(name: str, device: str) -> str:
    """'auto' is bf16 where the hardware multiplies it faster than float32: new GPUs, CPUs with AMX or AVX512-BF16."""
    if name != "auto":
        return name
    import torch

    chosen = pick_device(device)
    if chosen.startswith("cuda"):
        with torch.cuda.device(chosen):  # the question is about the current one
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    abilities = torch.cpu.get_capabilities() if chosen == "cpu" else {}
    return "bf16" if abilities.get("amx_bf16") or abilities.get("avx512_bf16") else "fp32"


def processor() -> str:
    """The CPU's name, 'unknown' where nothing tells.

    Virtual machines hide a processor's number behind its maker's name; its family and model then tell generations of
    very different speed apart: 'AMD EPYC (family 25, model 17)'.
    """
    import torch

    name = torch.cpu.get_capabilities().get("cpu_name", "unknown")
    if not any(map(str.isdigit, name)) and CPU_FACTS.exists():
        found = dict(re.findall(r"^(cpu family|model)\s*: (\d+)$", CPU_FACTS.read_text(), re.MULTILINE))
        if len(found) == 2:
            return f"{name} (family {found['cpu family']}, model {found['model']})"
    return name


def describe_device(device: Any) -> str:
    """The device and its processor, for the record: 'cpu, 2 threads, AMD Ryzen 9 7950X'. device: a torch.device."""
    import torch

    if device.type == "cuda":
        return f"cuda, {torch.cuda.get_device_name(device)}"
    if device.type != "cpu":
        return str(device)
    threads = torch.get_num_threads()
    return f"cpu, {threads} thread{'s' if threads > 1 else ''}, {processor()}"
