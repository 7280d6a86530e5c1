"""Circles among things that wait for each other. Pure, and without recursion."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from aynig.text import escape

# Names that are shown of a circle.
_LONGEST = 8


def find_cycle(starts: Iterable[str], below: Callable[[str], Iterable[str]]) -> tuple[str, ...]:
    """The first circle that is reached from `starts`, as `a b c a`; empty where there is none.

    `below` gives what one waits for. Each is asked for once, however many lead to it.
    """
    clear: set[str] = set()
    for start in starts:
        if start in clear:
            continue
        # A way down: on each step, one and what is still to be looked at below it.
        way = {start: iter(tuple(below(start)))}
        while way:
            last = next(reversed(way))
            for name in way[last]:
                if name in way:
                    names = list(way)
                    return (*names[names.index(name) :], name)
                if name not in clear:
                    way[name] = iter(tuple(below(name)))
                    break
            else:
                clear.add(last)
                del way[last]
    return ()


def in_order(below: Mapping[str, Iterable[str]]) -> list[str]:
    """All names, each after what it waits for, and otherwise as they were given.

    There must be no circle among them, and each that is waited for has to be a key.
    """
    done: dict[str, None] = {}
    for start in below:
        way = [(start, iter(below[start]))]
        while way:
            name, rest = way[-1]
            following = next((each for each in rest if each not in done), None)
            if following is None:
                done[name] = None
                way.pop()
            else:
                way.append((following, iter(below[following])))
    return list(done)


def shown(cycle: Sequence[str]) -> str:
    """`a -> b -> a`; of a long one the beginning and the end."""
    names = [escape(name) for name in cycle]
    if len(names) > _LONGEST:
        names = [*names[: _LONGEST - 2], f"{len(names) - _LONGEST + 1} more", names[-1]]
    return " -> ".join(names)
