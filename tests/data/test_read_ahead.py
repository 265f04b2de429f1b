"""What a thread reads ahead comes whole, in order, and not too early."""

import threading

import pytest

from psvae_tune.data.read_ahead import N_AHEAD, read_ahead


@pytest.mark.parametrize("n", [0, 1, N_AHEAD, N_AHEAD + 1, 20])
def test_items_come_in_their_order(n):
    assert list(read_ahead(iter(range(n)))) == list(range(n))


def test_the_next_item_is_made_while_one_is_used():
    is_made = [threading.Event() for _ in range(3)]

    def make():
        for number, event in enumerate(is_made):
            event.set()
            yield number

    items = read_ahead(make())
    assert next(items) == 0
    assert is_made[1].wait(60)
    items.close()


def test_no_more_is_made_than_a_little_ahead():
    n_made = 0

    def make():
        nonlocal n_made
        while True:
            n_made += 1
            yield n_made

    for used in read_ahead(make()):
        assert n_made <= used + N_AHEAD
        if used == 50:
            break


def test_an_error_comes_in_its_place():
    def make():
        yield 1
        yield 2
        raise ValueError("the third")

    items = read_ahead(make())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match="the third"):
        next(items)


def test_the_thread_ends_with_the_iteration():
    before = threading.active_count()
    assert next(read_ahead(iter("abcdef"))) == "a"
    list(read_ahead("abc"))
    items = read_ahead(iter("abcdef"))
    next(items)
    items.close()
    assert threading.active_count() == before
