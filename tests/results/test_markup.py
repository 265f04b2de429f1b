"""Names that are markup or formulas wherever a study shows them: they stay text."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import yaml

from psvae_tune.data.session_file import write_session
from psvae_tune.results.choices import override
from psvae_tune.results.logged_study import open_study
from psvae_tune.results.publish import REPORT
from tests.support.logged_studies import RAW, log_study

pytestmark = pytest.mark.slow

SCRIPT = "<script>alert(1)</script>"
NAMES = [
    SCRIPT,
    '"><img src=x onerror=alert(1)>',
    "</script><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }} <!-- `",
    r"$\frac$",
]


class Page(HTMLParser):
    """What of a page could act: its tags and their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("markup")
    rng = np.random.default_rng(0)
    path = folder / "<img src=x onerror=alert(1)>.h5"
    write_session(
        path,
        rng.integers(0, 256, (60, 1, 16, 20), np.uint8),
        [6] * 10,
        label_names=NAMES,
        labels=rng.normal(size=(60, len(NAMES))).astype(np.float32),
    )
    raw = yaml.safe_load(yaml.safe_dump(RAW))
    raw["search"]["space"]["ps_vae.alpha"]["grid_search"] = [10, 100]
    return log_study(folder / "out", path, "study", raw)


def test_nothing_in_the_report_acts(study):
    client = study.target.client()
    for trial in study.trials:  # as people do on MLflow's pages
        client.update_run(trial.run_id, name=f"{SCRIPT} {trial.name}")
    again = open_study(study.target.uri, study.name)
    changed = override(again, again.trials[0], NAMES[1], SCRIPT)
    text = changed.read_artifact(changed.run_id, REPORT).decode()
    page = Page(text)
    assert page.tags.count("script") == 3  # its data, its movements and its own
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    sources = [value for name, value in page.attributes if name in ("src", "href")]
    assert sources
    assert all(value.startswith("data:image/") for value in sources)
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 3
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert all(trial["name"] for trial in data["trials"])


def test_every_label_is_logged_and_pictured(study):
    client = study.target.client()
    run = client.get_run(study.trials[0].run_id)
    assert sum(key.startswith("test/label_r2/") for key in run.data.metrics) == len(NAMES)
    (dataset,) = run.inputs.dataset_inputs
    assert json.loads(dataset.dataset.profile)["labels"] == NAMES
    names = [item.path for item in client.list_artifacts(run.info.run_id, "figures")]
    assert "figures/labels.png" in names, names
