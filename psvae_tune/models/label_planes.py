"""Tracked points as images, which a conditional encoder sees in addition to the frames."""

import torch
from torch import Tensor


def label_planes(labels_sc: Tensor, height: int, width: int) -> Tensor:
    """Return one plane for each tracked point: 1 in the pixel nearest to it and 0 elsewhere.

    Points beyond the border are moved to it; a point that is NaN goes to the pixel (0, 0).

    Parameters
    ----------
    labels_sc
        (frame, label) in pixels: all x, then all y.
    height, width
        Size of the frames in pixels.

    Returns
    -------
    Tensor
        (frame, label / 2, height, width), with the dtype of ``labels_sc``.
    """
    x, y = labels_sc.nan_to_num(nan=0.0).chunk(2, dim=1)
    columns = x.clamp(0, width - 1).round().long()
    rows = y.clamp(0, height - 1).round().long()
    planes = torch.zeros(*x.shape, height * width, dtype=x.dtype, device=x.device)
    planes.scatter_(2, (rows * width + columns)[..., None], 1.0)
    return planes.reshape(*x.shape, height, width)
