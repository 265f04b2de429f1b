r"""Texts that follow the options in the help of a command: examples and details.

A paragraph that begins with a line of ``\b`` keeps its line breaks.
"""

SETTINGS = """\b
Settings:
  psvae-tune check study.yaml --set training.max_n_epochs=30
  psvae-tune check study.yaml --set model.ps_vae.beta=5
  psvae-tune check study.yaml \\
      --set search.stages.alpha.space.ps_vae.alpha='{grid_search: [10, 20]}'

--set takes SECTION.NAME=VALUE. The value is YAML. A published name keeps its dots. After
search.stages comes the name of a stage.
"""

RECORDINGS = """\b
Recordings:
  psvae-tune check study.yaml --data mouse.h5 --data other.h5
  psvae-tune check study.yaml --data sessions.csv

A CSV has a column `path`, or the columns lab,expt,animal,session below data.folder. A recording
that takes more than a third of the free memory stays in its file, and each trial reads a clip
when it needs it; the numbers are the same. On a cluster the limit is also four fifths of the
smallest object store, and every node must see the path or reach the URL of such a recording.
"""

PASSWORDS = """Passwords:

A tracking URL with a password is taken from --tracking-uri or MLFLOW_TRACKING_URI alone, and is
masked wherever it is shown or kept. Search-space files, recordings, output folders and jobs that
hold a password are refused.
"""

CLUSTER = """\b
On a cluster:
  psvae-tune submit study.yaml --address http://HEAD:8265 \\
      --output s3://lab/studies --upload --follow

Recordings are paths on the cluster or URLs. --upload sends those of this machine to the output
folder, once for the same contents. Before training, every node is asked whether it sees the
output folder and reaches the tracking server.

This code goes along, but not the packages that it needs: the nodes have them. With --package each
node installs a wheel or a version of psvae-tune instead.

Tokens, keys and passwords do not go along, because everyone who sees a cluster sees its jobs.
RAY_AUTH_TOKEN is read here. MLFLOW_TRACKING_PASSWORD and the keys of the output folder belong
into the environment of the nodes.

A node that is lost costs its trials at most training.checkpoint_every epochs. The trials continue
on other nodes, in the same runs.
"""

WORLDS = """\b
Worlds, in which untracked movements are harder to tell apart:
  together  jaw and whisker move alike half of the time
  overlap   the whisker sweeps over the jaw
  unequal   the whisker is faint beside the jaw
  three     an ear moves as well
  flicker   the light changes slowly
  faint     all that moves is faint, and the camera is noisy

The file holds under `truth` what moved untracked.
"""

CHOOSE = """\b
Without knowing which trial is which:
  psvae-tune choose STUDY --blind
  psvae-tune choose STUDY --blind --rater anna

The command prints the address of a page on this machine. It shows the trials of the front, two at
a time and on sides of chance, and asks which latents each move one thing. Answers are kept at once
in the study's history, so that one who ends it with Ctrl-C goes on later. After the last pair come
the names of the trials, how often each was better, and how far two people agree.
"""

EXPORT = """\b
Optuna's tools:
  psvae-tune export STUDY --optuna sqlite:///study.db
  optuna-dashboard sqlite:///study.db --artifact-dir study.artifacts

Each stage becomes a study of Optuna, STUDY/STAGE, with the trials that it compares. One that was
stopped early is `pruned`; one that misses what is required is infeasible. The pictures of study
and trials go to a folder beside the database, which the dashboard is told of.

\b
ONNX, for programs without Python:
  pip install 'psvae-tune[onnx]'
  psvae-tune export STUDY --onnx mouse.onnx

The graph takes `frames`: uint8 from 0 to 255, any number of them, (frame, channel, height, width),
cut and scaled as those of the recording; a conditional encoder takes `labels_sc` as well. It gives
`latents` and, if the model predicts them, `labels` in the units of the recording. The metadata of
the file names the columns, the size of the frames and the part of the video that they show.

\b
Models of sequences, which divide behaviour into states or syllables:
  psvae-tune export STUDY --sequences latents.npz

\b
  import numpy
  with numpy.load("latents.npz") as file:
      clips = [file[name] for name in file if name != "columns"]

Each clip is an array (frame, latent) of float32 and is called SESSION/CLIP; `columns` names the
latents. `ssm` fits the list; where all clips are equally long, `dynamax` and the autoregressive
models of keypoint-moseq (`jax_moseq`) fit numpy.stack(clips). CEBRA fits numpy.concatenate(clips),
whose rows are those of the Parquet file that --to writes, beside labels and times.
"""

ROWS = """\b
Every row says:
  session      name of the recording
  clip         its clip
  frame_index  index of the frame in the video, from 0; of a recording that does
               not say it, the index in the recording
  time_s       seconds by the time stamps of the video; empty where it has none

\b
Then come the columns:
  latent: NAME  posterior mean
  label: NAME   label that the model predicts, in the unit of the recording
  mask: NAME    whether the tracker saw the point; of a recording with labels

Units are in the metadata of the Parquet file.

\b
NWB (pip install 'psvae-tune[nwb]'):
  psvae-tune predict models:/mouse@champion mouse.mp4 --nwb session.nwb

The file gets series psvae_… in processing/behavior: latents, whose comments name the model, its
settings and its run in MLflow; labels as a PoseEstimation of ndx-pose; the index of every frame.
Times are those of the video, as seconds since the start of the session. A file that is absent is
made, without the start and the animal of the session, which are to be written into it.
"""

CHECK = f"{SETTINGS}\n{RECORDINGS}"
RUN = f"{SETTINGS}\n{RECORDINGS}\n{PASSWORDS}"
SUBMIT = f"{CLUSTER}\n{SETTINGS}\n{PASSWORDS}"
