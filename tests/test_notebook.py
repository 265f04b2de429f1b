"""A study run from a notebook, cell by cell, in a real kernel."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# Everything that a user types. The demo stands for a recording of one's own.
CELLS = [
    """import psvae_tune as pt
session = pt.read_session("demo")""",
    """network = {"ae_encoding_n_channels": [4, 8], "ae_encoding_kernel_size": [5, 5],
           "ae_encoding_stride_size": [2, 4]}
study = pt.load_study(FILE, data=["demo"], settings={
    "search": {"space": {"ps_vae.alpha": {"grid_search": [10, 30, 100, 300]}},
               "objectives": {"val/frame_mse": "min", "val/label_r2": "max"}},
    "model.ps_vae.anneal_epochs": 1, "model.ps_vae.beta": 1, "model.ae_arch_json": network,
    "training.max_n_epochs": 3,
})
result = pt.run_study(study, "studies", name="mouse")""",
    "result.trials()",
    "result.explain()",
    "model = result.best_model()\nmodel.latent_names",
    "latents = model.transform(session.frames[:50])\nlatents.shape",
    """import matplotlib.pyplot as plt
frames = model.traverse(session.frames[0], latent=model.latent_names[0])
fig, axes = plt.subplots(1, len(frames))
for axis, frame in zip(axes, frames):
    axis.imshow(frame[0], cmap="gray")""",
    'pt.run_study(study, "studies", name="mouse")',
]


def test_a_study_from_a_notebook(root: Path, tmp_path: Path):
    n_lines = sum(cell.count("\n") + 1 for cell in CELLS[:-1])
    assert n_lines < 25
    file = root / "search_spaces" / "ps_vae_published.yaml"
    sources = [f"FILE = {str(file)!r}", *CELLS]
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.cells[-1].metadata.tags = ["raises-exception"]
    client = NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [cell.outputs for cell in notebook.cells[1:]]
    shown = [" ".join(str(item.get("data", item.get("text", ""))) for item in o) for o in outputs]
    progress, table, reasons, names, shape, picture = shown[1:7]
    assert ": 4 trials" in progress
    assert "4/4" in progress
    assert "<table" in table
    assert table.count("finished") >= 4
    assert "Take ps_vae.alpha = " in reasons
    assert "paw_left_x" in names
    assert "unsupervised 1" in names
    assert "(50, 6)" in shape
    assert "image/png" in picture
    (error,) = outputs[-1]
    assert error.output_type == "error"
    assert error.ename == "StorageError"
    assert "psvae-tune resume" in error.evalue
