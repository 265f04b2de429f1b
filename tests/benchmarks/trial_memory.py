"""What memory does a trial add to those that run already, beside model and framework?

    python -m tests.benchmarks.trial_memory

Writes a generated recording of one gigabyte, trains one, two and four trials of it at a time for
some batches, and reads the unshared memory of each worker (USS, so nothing that processes share is
counted) while it trains. The same with a recording of a hundredth of the size tells what is model
and framework. Prints a Markdown table and writes ``trial_memory.json``. Ten minutes on two cores.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import yaml

from psvae_tune.data.session_file import write_session
from tests.support.command import PROGRAM, ROOT

SIZE, CLIP = 128, 200
NAMES = ("left_x", "right_x", "left_y", "right_y")
N_CLIPS = {"whole": 305, "hundredth": 10}
CONCURRENT = (1, 2, 4)
SECONDS = 60
"""From the first worker that trains to the end of the reading."""


def write_recording(path: Path, n_clips: int) -> None:
    """Write noise of the size of a recording, with labels."""
    rng = np.random.default_rng(0)
    n_frames = n_clips * CLIP
    frames = rng.integers(0, 255, (n_frames, 1, SIZE, SIZE), dtype=np.uint8)
    labels = rng.normal(size=(n_frames, 4)).astype(np.float32)
    write_session(path, frames, [CLIP] * n_clips, label_names=NAMES, labels=labels)


def peak_of_workers(recording: Path, n_concurrent: int, folder: Path) -> list[float]:
    """Return the largest unshared memory that each training worker was seen to take, in bytes."""
    raw = yaml.safe_load((ROOT / "search_spaces" / "ps_vae_published.yaml").read_text())
    raw["data"]["sessions"] = [str(recording)]
    raw["resources"] = {"cpus_per_trial": 0.25, "max_concurrent_trials": n_concurrent}
    file = folder / f"{recording.stem}-{n_concurrent}.yaml"
    file.write_text(yaml.safe_dump(raw))
    call = [sys.executable, "-c", PROGRAM, "run", str(file), "--output", str(folder / file.stem)]
    peaks: dict[int, float] = {}
    with subprocess.Popen(call, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as driver:
        process = psutil.Process(driver.pid)
        begin = None
        while driver.poll() is None and (begin is None or time.monotonic() < begin + SECONDS):
            for child in process.children(recursive=True):
                try:
                    if ".train" in " ".join(child.cmdline()):
                        begin = begin or time.monotonic()
                        used = float(child.memory_full_info().uss)
                        peaks[child.pid] = max(peaks.get(child.pid, 0), used)
                except psutil.Error:
                    continue
            time.sleep(0.5)
        driver.terminate()
    return sorted(peaks.values())


def main() -> None:
    """Measure, print and write."""
    found: dict[str, dict[int, list[float]]] = {}
    with TemporaryDirectory() as folder:
        for name, n_clips in N_CLIPS.items():
            path = Path(folder) / f"{name}.h5"
            write_recording(path, n_clips)
            found[name] = {n: peak_of_workers(path, n, Path(folder)) for n in CONCURRENT}
    n_bytes = N_CLIPS["whole"] * CLIP * SIZE**2
    print("| trials at a time | a trial | with a hundredth | more, of the recording |")
    print("|---|---|---|---|")
    for n in CONCURRENT:
        whole, small = (float(np.mean(found[name][n])) for name in N_CLIPS)
        share = 100 * (whole - small) / n_bytes
        print(f"| {n} | {whole / 1e6:.0f} MB | {small / 1e6:.0f} MB | {share:.1f} % |")
    Path("trial_memory.json").write_text(json.dumps({"bytes": n_bytes, **found}, indent=2))


if __name__ == "__main__":
    main()
