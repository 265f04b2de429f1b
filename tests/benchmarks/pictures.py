"""The pictures of the README: a fitted model moves one latent at a time, and a report.

    python -m tests.benchmarks.pictures VIDEO POSES [--folder .github/pictures] [--keep FOLDER]

VIDEO and POSES are those of the walking mouse, ``180607_004.mp4`` and its CSV of poses
(paninski-lab/eks, MIT). The view from below is cropped to the right side of the mouse. The models
are given the label of the right front paw; that of the right hind paw is kept aside. A study
of four fits searches alpha and beta, and its choice makes ``traversal.webp``: the recording, the
latent of the front paw, and both unsupervised latents, each moved back and forth alone.
``report.png`` is the report of the same study as a headless Chromium shows it, which needs the
packages chromium and chromium-driver.

Prints how well each unsupervised latent follows the hind paw, on clips that no fit was trained on.
With ``--keep`` the study is kept in FOLDER, and not run again. 20 minutes on two cores.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from sklearn.linear_model import LinearRegression

import psvae_tune as pt
from psvae_tune.data.splits import split_clips
from psvae_tune.files import locate
from psvae_tune.tracking.folders import OutputFolder
from tests.support.command import ROOT

Floats = NDArray[np.floating[Any]]

CROP = (272, 136, 58, 262)  # width, height, x and y in the video
SIZE = (160, 80)
TRACKED, HIDDEN = "paw3RF_bot", "paw4RH_bot"
SPLITS = "8;1;1;0"
STUDY = """
experiment_name: mouse
data: {sessions: [mouse.h5], trial_splits: "8;1;1;0"}
model:
  model_class: ps-vae
  n_ae_latents: n_labels + 2
  ps_vae.beta: 1
  ps_vae.anneal_epochs: 45      # with 15, on smaller frames, both unsupervised latents collapsed
  ae_arch_json:
    ae_encoding_n_channels: [16, 32, 64]
    ae_encoding_kernel_size: [5, 5, 5]
    ae_encoding_stride_size: [2, 2, 2]
training: {max_n_epochs: 60, learning_rate: 1.0e-3}
search:
  stages:
    - name: alpha
      space: {ps_vae.alpha: {grid_search: [100, 300, 1000]}}
      objectives: {val/frame_mse: min, val/label_r2: max}
      select:
        within: {metric: val/label_r2, tolerance: 0.05}
        then: {ps_vae.alpha: min}
        require: {val/active_units: all}
    - name: beta
      space: {ps_vae.beta: {grid_search: [1, 4]}}
      objectives: {val/latent_correlation: min, val/frame_mse: min}
      select:
        within: {metric: val/frame_mse, tolerance: 0.05}
        then: {val/latent_correlation: min}
        require: {val/active_units: all}
"""

MOVED = (f"{TRACKED}_x", "unsupervised 0", "unsupervised 1")
BASE_STEP = 5  # every so many unseen frames may be the one that is changed
N_STEPS = 24  # frames of one way there and back
STEP_MS = 80
RANGE = (3, 97)  # percentiles of the training frames between which a latent moves
SCALE = 2.5  # shown pixels a stored one
BRIGHTNESS = 1.7  # shown frames; the recording is dark
GAP, CAPTION, SLIDER = 12, 42, 26  # pixels
INK, QUIET, MARK = (20, 20, 20), (110, 110, 110), (255, 196, 0)
CAPTIONS = (
    ("recording", "right front and hind paw from below; no fit was trained on this clip"),
    ("latent of the front paw", "tracked; the ring is the label that the model predicts"),
    ("unsupervised latent 0", "not tracked: the model found the hind paw by itself"),
    ("unsupervised latent 1", "not tracked: the hind paw again, in another way"),
)


def main() -> None:
    """Run the study, and make both pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("poses", type=Path)
    parser.add_argument("--folder", type=Path, default=ROOT / ".github" / "pictures")
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        result = run_study(args.video, args.poses, folder)
        report = folder / "report.html"
        result.report(report)
        draw_report(report, args.folder / "report.png")
        both = import_mouse(args.video, args.poses, folder / "both.h5", [TRACKED, HIDDEN])
        draw_traversal(result.best_model(), both, args.folder / "traversal.webp")


def import_mouse(video: Path, poses: Path, output: Path, keypoints: list[str]) -> Path:
    """Import the right side of the mouse with the labels of some paws."""
    return pt.import_session(
        video,
        poses,
        output,
        overwrite=True,
        size=SIZE,
        crops=[CROP],
        clip_length=20,
        keypoints=[keypoints],
        label_offset=0,
    )


def run_study(video: Path, poses: Path, folder: Path) -> pt.StudyResult:
    """Return the study of the recording; one that is there already is not run again."""
    output, file = folder / "studies", folder / "mouse.yaml"
    name = "mouse"
    if OutputFolder(locate(str(output))).has_study(name):
        study = output / name
    else:
        import_mouse(video, poses, folder / "mouse.h5", [TRACKED])
        raw = yaml.safe_load(STUDY)
        raw["data"]["sessions"] = [str(folder / "mouse.h5")]
        file.write_text(yaml.safe_dump(raw))
        study = file
    return pt.run_study(pt.load_study(study), output, name=name, resume=True)


def draw_report(report: Path, path: Path) -> None:
    """Write what a browser shows of a report."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless=new", "--no-sandbox", "--window-size=1200,1000"):
        options.add_argument(argument)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    browser = webdriver.Chrome(options=options, service=service)
    try:
        browser.get(report.resolve().as_uri())
        wait = WebDriverWait(browser, 60)
        wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, "#front .point"))
        time.sleep(1)  # pictures are decoded
        browser.save_screenshot(str(path))
    finally:
        browser.quit()
    with Image.open(path) as shown:
        shown.convert("P", palette=Image.Palette.ADAPTIVE).save(path, optimize=True)


def draw_traversal(model: pt.FittedModel, recording: Path, path: Path) -> None:
    """Write the moving picture, and print what the unsupervised latents know."""
    session = pt.read_session(recording)
    splits = split_clips(session.header.n_clips, SPLITS, 0)
    positions = np.arange(session.header.n_frames)
    train = np.concatenate([positions[session.clip(clip)] for clip in splits.train])
    unseen = np.concatenate([positions[session.clip(clip)] for clip in splits.val + splits.test])
    latents = model.transform(session.frames)
    print_knowledge(model, latents, session, train, unseen)
    low, high = np.percentile(latents[train], RANGE, axis=0)
    base = choose_base(model, session.frames[unseen[::BASE_STEP]], low, high)
    phase = (1 - np.cos(2 * np.pi * np.arange(N_STEPS) / N_STEPS)) / 2
    moved = [
        model.traverse(base, column, low[column] + (high - low)[column] * phase)
        for column in map(model.latent_names.index, MOVED)
    ]
    points = model.predict_labels(moved[0])
    clip = session.frames[session.clip(splits.val[0])] / 255
    recorded = clip[np.rint(phase * (len(clip) - 1)).astype(int)]
    first, *rest = [
        draw_sheet([recorded[i], *(frames[i] for frames in moved)], points[i], phase[i])
        for i in range(N_STEPS)
    ]
    first.save(path, save_all=True, append_images=rest, duration=STEP_MS, loop=0, quality=75)


def choose_base(
    model: pt.FittedModel, frames: NDArray[np.uint8], low: Floats, high: Floats
) -> NDArray[np.uint8]:
    """Return the frame whose least visible traversal is the most visible one."""
    visible = []
    for frame in frames:
        ends = [
            model.traverse(frame, column, [low[column], high[column]])
            for column in map(model.latent_names.index, MOVED)
        ]
        visible.append(min(float(np.abs(end - begin).mean()) for begin, end in ends))
    return frames[int(np.argmax(visible))]


def print_knowledge(
    model: pt.FittedModel,
    latents: Floats,
    session: Any,
    train: NDArray[np.intp],
    unseen: NDArray[np.intp],
) -> None:
    """Print how well linear regressions tell where the hidden paw is, on unseen clips."""
    names = list(session.header.label_names)
    hidden = session.labels[:, names.index(f"{HIDDEN}_x")]
    n_supervised = len(model.label_names)
    inputs = {
        "the latents of the tracked paw": latents[:, :n_supervised],
        "the unsupervised latents": latents[:, n_supervised:],
        "all latents": latents,
    }
    print("| the x of the hind paw, from | R² on unseen clips |\n|---|---|")
    for name, given in inputs.items():
        fitted = LinearRegression().fit(given[train], hidden[train])
        print(f"| {name} | {fitted.score(given[unseen], hidden[unseen]):.2f} |")


def draw_sheet(frames: list[Floats], ring: Floats, value: float) -> Image.Image:
    """Return one step of the moving picture: four panels with captions and sliders."""
    width, height = (round(side * SCALE) for side in SIZE)
    row = CAPTION + height + SLIDER
    sheet = Image.new("RGB", (2 * width + GAP, 2 * row), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    title, note = ImageFont.load_default(15), ImageFont.load_default(12)
    for i, (frame, caption) in enumerate(zip(frames, CAPTIONS, strict=True)):
        left, top = (i % 2) * (width + GAP), (i // 2) * row
        draw.text((left, top), caption[0], INK, title)
        draw.text((left, top + 20), caption[1], QUIET, note)
        top += CAPTION
        pixels = np.clip(frame[0] * BRIGHTNESS * 255, 0, 255).astype(np.uint8)
        shown = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
        sheet.paste(shown.convert("RGB"), (left, top))
        if i == 0:
            continue
        y = top + height + SLIDER // 2
        draw.line((left, y, left + width, y), QUIET, 2)
        draw_disc(draw, left + 6 + value * (width - 12), y, 6, fill=INK)
        if i == 1:
            x, y = (left + (ring[0] + 0.5) * SCALE, top + (ring[1] + 0.5) * SCALE)
            draw_disc(draw, x, y, 11, outline=MARK, width=2)
    return sheet


def draw_disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, **style: Any) -> None:
    """Draw a disc or a ring around a point."""
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), **style)


if __name__ == "__main__":
    main()
