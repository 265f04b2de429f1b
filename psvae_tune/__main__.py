"""``python -m psvae_tune``: what a job on a cluster starts."""

import os
import platform
import sys

# Before anything is imported that an old Python cannot read.
_submitter = os.environ.get("PSVAE_TUNE_PYTHON", platform.python_version())
if _submitter.split(".")[:2] != platform.python_version().split(".")[:2]:
    sys.exit(
        f"error: the cluster: runs Python {platform.python_version()}, the machine that submitted "
        f"{_submitter}\n\nhint: install the cluster's Python there, or the other way round"
    )

from psvae_tune.cli.commands import main  # noqa: E402

main()
