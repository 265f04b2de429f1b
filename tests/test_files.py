import pytest

from psvae_tune.files import replace_when_whole


def write_folder(folder):
    folder.mkdir()
    (folder / "inside").write_text("new")


@pytest.mark.parametrize("write", [lambda path: path.write_text("new"), write_folder])
def test_what_is_written_takes_its_name_when_it_is_whole(tmp_path, write):
    with replace_when_whole(tmp_path / "result") as beside:
        write(beside)
        assert not (tmp_path / "result").exists()
    assert list(tmp_path.iterdir()) == [tmp_path / "result"]


@pytest.mark.parametrize("write", [lambda path: path.write_text("new"), write_folder])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_write_that_breaks_off_leaves_what_was_there(tmp_path, write, error):
    path = tmp_path / "result"
    path.write_text("old")

    def break_off():
        with replace_when_whole(path) as beside:
            write(beside)
            raise error

    with pytest.raises(error):
        break_off()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_may_write_the_same_file_at_the_same_time(tmp_path):
    path = tmp_path / "result"
    with replace_when_whole(path) as first, replace_when_whole(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # the outer one ends last
    assert list(tmp_path.iterdir()) == [path]
