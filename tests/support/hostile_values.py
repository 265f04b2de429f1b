"""Values that no setting expects, and the places of a study that take one."""

from hypothesis import strategies as st

from tests.support.hostile import text

numbers = st.integers() | st.floats() | st.sampled_from([0, -1, 1, 10**9, 10**30, 1e-320])
values = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)


def places(node, path=()):
    """Yield the path of everything in a tree of dicts and lists."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))
