"""A study survives the loss of a node, a new node, and the end of the head."""

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

THERE = ("--output", "s3://lab/studies", "--upload")
SUBMIT = ("submit", "study.yaml", *THERE)


def test_a_node_that_dies_and_one_that_joins_change_no_result(laptop, cluster, alone):
    process = laptop.start(*SUBMIT, "--name", "node", "--follow", on=cluster)
    laptop.wait_for_checkpoint("node")
    cluster.kill("first")
    cluster.add_node("second")
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, out + err
    laptop.check_whole("node")
    assert laptop.metrics("node") == alone


@pytest.fixture
def walked(laptop):
    """Return the metrics of a study with a path when it is run on one machine."""
    one_at_a_time = ("--set", "resources.max_concurrent_trials=1")
    place = ("--output", str(laptop.folder / "out"), "--name", "walked")
    laptop.run("run", "path.yaml", *place, *one_at_a_time)
    return laptop.metrics("walked")


def test_when_the_head_dies_the_study_goes_on_at_another_cluster(
    laptop, cluster, make_cluster, walked
):
    """The last states of trials, from which the path goes on, lie in S3."""
    submit = ("submit", "path.yaml", *THERE, "--name", "head", "--follow")
    process = laptop.start(*submit, on=cluster)
    laptop.wait_for_checkpoint("head")
    cluster.close()
    _, err = process.communicate(timeout=100)
    assert process.returncode == 2, err
    assert f"error: {cluster.address}: does not answer" in err
    another = make_cluster()
    laptop.run("jobs", "resume", "s3://lab/studies/head", "--follow", on=another)
    laptop.check_whole("head", n_trials=3)
    assert laptop.metrics("head") == walked
