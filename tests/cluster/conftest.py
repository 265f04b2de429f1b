"""A tracking server, an S3 server and a cluster of two nodes that share nothing with anyone."""

import os
import secrets
import shutil
import tempfile
from pathlib import Path

import fsspec
import pytest
import yaml

from psvae_tune.data.demo import write_demo
from tests.support.laptop import BUCKET, PATH, STUDY, Laptop
from tests.support.loopback import RayCluster, serve_mlflow, serve_s3, wait_for


@pytest.fixture(scope="session")
def servers(tmp_path_factory):
    """Return the tracking URI, and what reaches the S3 server, in which there is a bucket."""
    keys = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16),
        "AWS_DEFAULT_REGION": "us-east-1",
        "MLFLOW_TRACKING_USERNAME": "user",
        "MLFLOW_TRACKING_PASSWORD": secrets.token_hex(16),
    }
    before = dict(os.environ)
    with serve_mlflow(tmp_path_factory.mktemp("mlflow")) as uri, serve_s3() as endpoint:
        keys["AWS_ENDPOINT_URL"] = endpoint
        os.environ.update(keys)
        fsspec.filesystem("s3").mkdir(BUCKET)
        yield uri, keys
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def laptop(servers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("laptop")
    write_demo(folder / "demo.h5", n_clips=12, clip_length=20, size=16)
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY))
    (folder / "path.yaml").write_text(yaml.safe_dump(PATH))
    uri, keys = servers
    return Laptop(folder, uri, keys)


@pytest.fixture(scope="session")
def alone(laptop):
    """Return the metrics of the study when it is run on one machine."""
    one_at_a_time = ("--set", "resources.max_concurrent_trials=1")  # one worker has to start
    place = ("--output", str(laptop.folder / "out"), "--name", "alone")
    laptop.run("run", "study.yaml", *place, *one_at_a_time)
    return laptop.metrics("alone")


@pytest.fixture(scope="session")
def make_cluster(servers):
    """Return a function that starts clusters of two nodes, one trial on each at a time."""
    started = []

    def make() -> RayCluster:
        # The paths of sockets are limited, and pytest's folders lie deep.
        folder = Path(tempfile.mkdtemp(prefix="ray"))
        running = RayCluster(folder, environment=servers[1])
        started.append(running)
        running.start_head(cpus=1)
        running.add_node("first")
        wait_for(lambda: running.count_nodes() == 2, what="not all nodes are up")
        return running

    yield make
    for running in started:
        running.close()
        shutil.rmtree(running.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster(make_cluster):
    """Return the cluster that tests share, until the last of them ends it."""
    return make_cluster()
