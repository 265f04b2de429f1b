"""The state of a fit as bytes, from which a fit continues after a crash."""

import hashlib
import io
import json
from typing import Any

import torch

from psvae_tune.errors import StorageError
from psvae_tune.training.fit import Best, TrainState

_DIGEST = 32  # bytes of a SHA-256


def dump_state(state: TrainState) -> bytes:
    """Return a state as bytes from which `load_state` continues exactly."""
    best = state.best
    buffer = io.BytesIO()
    torch.save(
        {
            "model": state.model.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "epoch": state.epoch,
            "n_without_improvement": state.n_without_improvement,
            "best": None
            if best is None
            else {
                "epoch": best.epoch,
                "metrics": json.dumps(best.metrics),
                "weights": best.weights,
            },
        },
        buffer,
    )
    content = buffer.getvalue()
    return hashlib.sha256(content).digest() + content


def load_state(state: TrainState, saved: bytes) -> None:
    """Put a state back where `dump_state` found it. Side effects: updates ``state``.

    Raises
    ------
    StorageError
        If the bytes are no such state, are damaged, or belong to another model. Then ``state``
        may be changed in part, and must not be used.
    """
    digest, content = saved[:_DIGEST], saved[_DIGEST:]
    if hashlib.sha256(content).digest() != digest:
        # Without this check, a few wrong bits would pass as slightly different numbers.
        raise StorageError("checkpoint", "cannot be continued from: it is damaged")
    try:
        raw: dict[str, Any] = torch.load(
            io.BytesIO(content), weights_only=True, map_location=state.device
        )
        state.model.load_state_dict(raw["model"])
        state.optimizer.load_state_dict(raw["optimizer"])
        for group in state.optimizer.param_groups:
            # The state may come from another kind of device.
            group["capturable"] = state.device.type == "cuda"
        state.epoch = raw["epoch"]
        state.n_without_improvement = raw["n_without_improvement"]
        if raw["best"] is not None:
            best = raw["best"]
            state.best = Best(best["epoch"], json.loads(best["metrics"]), best["weights"])
    except Exception as error:  # torch raises many types for bytes it cannot read
        raise StorageError("checkpoint", f"cannot be continued from: {error}") from error
