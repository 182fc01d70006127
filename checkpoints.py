"""The checkpoint of a run: saved in PyTorch's format, and loaded and resumed from without trusting it."""

import io
import math
import warnings
from pathlib import Path
from typing import Any

from runs import AGAIN, RunError, check_archive, check_json, unread, write_whole

CHECKPOINT_FORMAT = 2  # 1: the blocks' layers had other names
# What each optimizer keeps of a parameter, in its checkpoint.
OPTIMIZER_STATE = {"Muon": {"momentum_buffer"}, "Adam": {"step", "exp_avg", "exp_avg_sq"}}


def save_checkpoint(path: Path, content: dict) -> None:
    """Save tensors and plain values in PyTorch's format."""
    import torch

    buffer = io.BytesIO()
    torch.save({"format": CHECKPOINT_FORMAT, **content}, buffer)
    write_whole(path, buffer.getvalue())


def load_checkpoint(path: Path) -> dict:
    """Load a checkpoint of save_checkpoint, on the CPU; its pickle may hold tensors and plain values only, never code.

    Raises RunError when it is missing, truncated, not a checkpoint, of another format, or holds weights that are no
    numbers.
    """
    import torch

    reason = ""
    try:
        check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on what is then refused
            content = torch.load(path, map_location="cpu", weights_only=True)
        _check_tensors(content)
        if not isinstance(content, dict) or content.get("format") != CHECKPOINT_FORMAT:
            reason = "is not a checkpoint of this program"
        elif not all(_finite(content.get(part)) for part in ("model", "head", "other", "mean", "std")):
            reason = "holds weights that are NaN or infinite"
    except Exception as error:  # damaged files bring up nearly every exception there is
        raise unread(path, error, AGAIN, "is damaged, or not a checkpoint") from None
    if reason:
        raise RunError(f"{path} {reason}: {AGAIN}")
    return content


def _check_tensors(value: Any) -> None:
    """ValueError for a tensor in `value` that is not stored in full: a stride of 0 makes any size out of one number."""
    import torch

    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for entry in value:
            _check_tensors(entry)
    elif isinstance(value, torch.Tensor) and value.untyped_storage().nbytes() < value.numel() * value.element_size():
        raise ValueError(f"a tensor of shape {tuple(value.shape)} is not stored in full")


def _finite(value: Any) -> bool:
    """Whether all numbers in a tensor, or in a dictionary of tensors, are finite."""
    import torch

    if isinstance(value, dict):
        return all(_finite(entry) for entry in value.values())
    return not isinstance(value, torch.Tensor) or bool(value.isfinite().all())


def check_weights(saved: dict, own: dict) -> None:
    """ValueError, or another of BAD_CONTENT, unless saved weights have a network's `own` names, shapes and types."""
    kinds = [{name: (t.shape, t.dtype) for name, t in weights.items()} for weights in (saved, own)]
    if kinds[0] != kinds[1]:
        raise ValueError("weights of another network")


def check_state(state: dict, own: dict, epochs: int) -> None:
    """ValueError, or another of BAD_CONTENT, unless a checkpoint's `state` can go on where a fresh run's `own` starts:
    weights of the same shapes and types, the same optimizer settings, and a history of as many epochs as it tells."""
    for part in ("model", "head", "other"):
        check_weights(state[part], own[part])
    for saved, fresh in zip(state["optimizer"], own["optimizer"], strict=True):
        for theirs, ours in zip(saved["param_groups"], fresh["param_groups"], strict=True):
            # The learning rate moves; further entries come and go with PyTorch's versions.
            if any(theirs[name] != ours[name] for name in theirs.keys() & ours.keys() - {"lr"}):
                raise ValueError("other optimizer settings")
    epoch, seconds, history = state["epoch"], state["seconds"], state["history"]
    if type(epoch) is not int or not 0 <= epoch <= epochs or not 0 <= float(seconds) < math.inf:
        raise ValueError(f"epoch {epoch} of {epochs}")
    columns = list(history[0]) if history else []
    if [row["epoch"] for row in history] != list(range(1, epoch + 1)) or any(list(row) != columns for row in history):
        raise ValueError("a history of other epochs")
    check_json([history, state["devices"]])
    if not all(isinstance(name, str) for name in state["devices"]):
        raise ValueError("devices without a name")


def check_optimizer(optimizer: Any) -> None:
    """ValueError, or another of BAD_CONTENT, unless what an optimizer loaded fits its parameters."""
    for parameter, kept in optimizer.state.items():
        wrong = [name for name, value in kept.items() if value.shape not in (parameter.shape, ())]
        if wrong or kept.keys() != OPTIMIZER_STATE[type(optimizer).__name__]:
            raise ValueError(f"optimizer state {sorted(kept)}")
