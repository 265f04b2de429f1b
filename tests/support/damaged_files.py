"""Files of every kind, to be damaged."""

import torch

from psvae_tune.models.model_file import save_model
from psvae_tune.training.batches import prepare_data
from psvae_tune.training.fit import start
from tests.support.studies import make_config, make_session

NAMES = '["paw_x", "paw_y"]'


def write_model(path):
    data = prepare_data([make_session()], make_config())
    state = start(make_config(), data, torch.device("cpu"))
    save_model(path, state.model, data.label_scaler, {"label_names": ["paw_x", "paw_y"]})
