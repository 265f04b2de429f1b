"""Search-space files as data, to be changed and refused."""

import copy

FILE = {
    "experiment_name": "ps-vae",
    "data": {"sessions": ["demo"]},
    "model": {
        "model_class": "ps-vae",
        "n_ae_latents": "n_labels + 2",
        "ps_vae.beta": 1,
        "ps_vae.anneal_epochs": 10,
    },
    "training": {"max_n_epochs": 20},
    "search": {
        "space": {"ps_vae.alpha": {"grid_search": [50, 100]}},
        "objectives": {"val/label_r2": "max"},
    },
}


def changed(place, value):
    raw = copy.deepcopy(FILE)
    node = raw
    for part in place[:-1]:
        node = node.setdefault(part, {})
    node[place[-1]] = value
    return raw


SAMPLED = {
    "space": {"ps_vae.alpha": {"loguniform": [50, 1000]}, "ps_vae.beta": {"choice": [1, 5]}},
    "objectives": {"val/label_r2": "max"},
    "algorithm": "optuna",
    "num_trials": 5,
}
