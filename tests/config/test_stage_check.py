"""A stage that cannot end in a choice is refused before anything is trained."""

import copy

import pytest
import yaml

from psvae_tune.config.study import parse_study
from psvae_tune.errors import ConfigError
from tests.support.study_texts import FILE


def parse(text, metric="val/frame_mse"):
    """Parse the file of the tests with some sections changed by a text in YAML."""
    raw = copy.deepcopy(FILE)
    for section, changed in yaml.safe_load(text.replace("METRIC", metric)).items():
        raw[section] = raw[section] | changed
    return parse_study(raw, "f.yaml", 4)


def problems(text, metric="val/frame_mse"):
    with pytest.raises(ConfigError) as caught:
        parse(text, metric)
    return list(caught.value.problems)


CHOOSING = {
    "search.objectives": "search: {objectives: {METRIC: min}, select: {best: val/label_r2}}",
    "search.select: best": "search: {select: {best: METRIC}}",
    "search.select: within": "search: {select: {within: {metric: METRIC, tolerance: 0.1},"
    " then: {ps_vae.alpha: min}}}",
    "search.select: knee": "search: {select: {knee: [METRIC, val/label_r2]}}",
    "search.select: pareto": "search: {select: {pareto: [val/label_r2, METRIC],"
    " then: {ps_vae.alpha: min}}}",
    "search.select: chebyshev": "search: {select: {chebyshev: {METRIC: 1, val/label_r2: 2}}}",
    "search.select: then": "search: {select: {pareto: [val/label_mse, val/label_r2],"
    " then: {METRIC: min}}}",
    "search.select: require": "search: {select: {best: val/label_r2, require: {METRIC: <= 1}}}",
    "training.best_epoch_metric": "training: {best_epoch_metric: METRIC}",
}
"""Every place of a metric that something is chosen by, with an example."""


@pytest.mark.parametrize("split", ["test", "train"])
@pytest.mark.parametrize("place", CHOOSING)
def test_only_validation_metrics_choose(place, split):
    parse(CHOOSING[place])
    assert problems(CHOOSING[place], f"{split}/frame_mse") == [
        f"{place}: only validation metrics may choose, got '{split}/frame_mse'; "
        "use `val/frame_mse`"
    ]
