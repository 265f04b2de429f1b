"""Is a fit on a real recording worth anything? PS-VAE against ridge regression and PCA.

    python -m tests.benchmarks.real_recording session.h5 [epochs]

Runs the guide's first stage (alpha at beta 1) on a recording, and beside it, on the same clips:
a ridge regression of the labels on the pixels, PCA with as many components as the model has
latents, and the mean frame. Prints a table and writes ``real_recording.json``.
"""

import json
import sys
import tempfile
from pathlib import Path

import mlflow
import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV

from psvae_tune.data.label_scaler import fit_label_scaler
from psvae_tune.data.session_file import read_session
from psvae_tune.data.splits import split_clips
from psvae_tune.metrics.label_prediction import label_r2
from tests.support.command import ROOT, psvae_tune

STAGE = (
    "{name: alpha, space: {ps_vae.alpha: {grid_search: [50, 100, 500, 1000]}}, "
    "objectives: {val/frame_mse: min, val/label_r2: max}}"
)


def baselines(path: Path, n_components: int) -> dict[str, dict[str, float]]:
    """Return the scores of models without a network, on the test split."""
    session = read_session(path, needs_labels=True)
    splits = split_clips(session.header.n_clips, "8;1;1;0", 0)
    scaler = fit_label_scaler(session, splits.train, "zscore")
    labels = scaler.transform(session.labels)
    rows = {
        name: np.concatenate([np.arange(session.header.n_frames)[session.clip(c)] for c in clips])
        for name, clips in (("train", splits.train), ("test", splits.test))
    }
    pixels = session.frames.reshape(len(session.frames), -1).astype(np.float32) / 255
    train, test = pixels[rows["train"]], pixels[rows["test"]]
    guess = np.zeros((len(test), labels.shape[1]))
    for label in range(labels.shape[1]):
        valid = session.label_masks[rows["train"], label]
        ridge = RidgeCV(np.logspace(0, 5, 11))
        ridge.fit(train[valid], labels[rows["train"]][valid, label])
        guess[:, label] = ridge.predict(test)
    r2 = label_r2(labels[rows["test"]], guess, session.label_masks[rows["test"]])
    pca = PCA(n_components, random_state=0).fit(train)
    rebuilt = pca.inverse_transform(pca.transform(test))
    return {
        "ridge on pixels": {"label_r2": r2.mean},
        f"PCA, {n_components} components": {"frame_mse": float(np.mean((test - rebuilt) ** 2))},
        "mean frame": {"frame_mse": float(np.mean((test - train.mean(0)) ** 2))},
    }


def fits(path: Path, n_epochs: int) -> dict[str, dict[str, float]]:
    """Return the test scores of the trials of the guide's first stage."""
    with tempfile.TemporaryDirectory() as folder:
        call = ["run", ROOT / "search_spaces" / "ps_vae_published.yaml", "--data", path]
        call += ["--output", folder, "--set", f"training.max_n_epochs={n_epochs}"]
        psvae_tune(*call, "--set", f"search.stages=[{STAGE}]")
        client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
        runs = client.search_runs(
            [client.get_experiment_by_name("ps-vae").experiment_id],
            "tags.`psvae_tune.kind` = 'trial'",
            order_by=["attributes.start_time ASC"],
        )
        return {
            f"PS-VAE, {run.info.run_name}": {
                name: run.data.metrics[f"test/{name}"] for name in ("label_r2", "frame_mse")
            }
            for run in runs
        }


def main() -> None:
    """Print and keep the table."""
    path, n_epochs = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 80
    n_labels = read_session(path, needs_labels=True).header.n_labels
    rows = baselines(path, n_labels + 2) | fits(path, n_epochs)
    print("| | test label R² | test frame MSE |\n|---|---|---|")
    for name, scores in rows.items():
        r2, mse = scores.get("label_r2"), scores.get("frame_mse")
        shown = [f"{r2:.3f}" if r2 is not None else "", f"{mse:.5f}" if mse is not None else ""]
        print(f"| {name} | {shown[0]} | {shown[1]} |")
    Path("real_recording.json").write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
