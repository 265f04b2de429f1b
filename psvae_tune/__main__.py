"""``python -m psvae_tune``, which a job on a cluster starts."""

import os
import platform
import sys
from pathlib import Path

from psvae_tune.cluster.job_log import SUBMITTER_PYTHON, report_refusal

# This comes before anything is imported that an older Python cannot read.
_submitter = os.environ.get(SUBMITTER_PYTHON, platform.python_version())
if _submitter.split(".")[:2] != platform.python_version().split(".")[:2]:
    _error = (
        f"the cluster: runs Python {platform.python_version()}, the machine that submitted "
        f"{_submitter}\n\nhint: install the cluster's Python there, or the other way round"
    )
    report_refusal(_error)
    sys.exit(f"error: {_error}")

from psvae_tune.errors import ConfigError  # noqa: E402
from psvae_tune.study.shadowing import check_shadows  # noqa: E402

try:
    check_shadows(Path.cwd())
except ConfigError as _hidden:  # importing the commands would end in a traceback
    report_refusal(str(_hidden))
    sys.stderr.write(f"error: {_hidden}\n")
    sys.exit(_hidden.exit_code)

from psvae_tune.cli.commands import main  # noqa: E402

main()
