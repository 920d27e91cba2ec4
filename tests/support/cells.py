"""A map type written in Python, for tests of such types."""

import errno


class Cells:
    """A dict of values in the map's memory."""

    def map_alloc(attr):
        return {}

    def map_lookup_elem(map, key):
        return map.state.get(key)

    def map_update_elem(map, key, value, flags):
        if key not in map.state and len(map.state) == map.max_entries:
            raise OSError(errno.E2BIG, "all cells are taken")
        map.state[key] = map.element(value)

    def map_delete_elem(map, key):
        if map.state.pop(key, None) is None:
            raise OSError(errno.ENOENT, "no such cell")

    def map_get_next_key(map, key):
        return next((other for other in sorted(map.state) if key is None or other > key), None)
