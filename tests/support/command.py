"""The command line, as every benchmark calls it."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = "from psvae_tune.cli.commands import main; main()"


def psvae_tune(*arguments: str | Path) -> None:
    """Run one command to its end, quietly. Side effects: those of the command."""
    # MLflow notes the store it was last pointed at in the environment; a user's is clean.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    call = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    subprocess.run(call, check=True, env=clean, stdout=subprocess.DEVNULL)
