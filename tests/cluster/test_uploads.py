"""Upload of recordings to an S3 server."""

import shutil

import fsspec
import pytest

from psvae_tune.cluster.uploads import upload
from psvae_tune.files import locate
from psvae_tune.tracking.folders import OutputFolder

pytestmark = pytest.mark.slow


def test_what_is_there_already_is_not_sent_again(servers, laptop, tmp_path):
    output = OutputFolder(locate("s3://lab/uploads"))
    store = fsspec.filesystem("s3", use_listings_cache=False)
    recording = laptop.folder / "demo.h5"
    n_bytes = recording.stat().st_size
    told = []
    url, n_sent = upload(recording, output, told.append)
    assert n_sent == n_bytes == told[-1]
    assert store.cat(url) == recording.read_bytes()
    # Whatever is sent from now on would undo this.
    store.pipe(url, bytes(n_bytes))
    copy = shutil.copy(recording, tmp_path)
    assert upload(tmp_path / "demo.h5", output, told.append) == (url, 0)
    assert told[-1] == n_bytes
    assert store.cat(url) == bytes(n_bytes)
    with open(copy, "ab") as file:
        file.write(b"more")
    other, n_sent = upload(tmp_path / "demo.h5", output, told.append)
    assert n_sent == n_bytes + 4
    assert set(store.find("lab/uploads")) == {name.removeprefix("s3://") for name in (url, other)}
