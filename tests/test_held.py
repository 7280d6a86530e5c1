"""What waits is found by what it waits for, and by nothing else."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.held import OF_OTHER_TASKS, Held, HeldTasks
from aynig.model import Hold

KEYS = st.sampled_from(["refs/heads/a", "refs/heads/b", "e" * 40, "origin:a"])
HOLDS = st.builds(
    Held,
    st.builds(
        Hold,
        st.sampled_from(["waiting", "blocked", "copy", "running", "error"]),
        st.just("why"),
        on=st.none() | st.frozensets(KEYS, max_size=3),
    ),
    st.sampled_from(["c" * 40, "d" * 40]),
    st.just(1.0),
    st.none() | st.sampled_from([1.0, 2.0, 3.0]),
)
REFS = st.sampled_from([f"refs/heads/{name}" for name in "tuvwxyz"])


@settings(derandomize=True)
@given(st.lists(st.tuples(REFS, st.none() | HOLDS), max_size=30))
def test_all_ways_to_find_a_held_task_agree(moves: list[tuple[str, Held | None]]) -> None:
    tasks, known = HeldTasks(), dict[str, Held]()
    for ref, held in moves:
        if held is None:
            assert tasks.pop(ref) == known.pop(ref, None)
        else:
            tasks.put(ref, held)
            known[ref] = held
    assert dict(tasks.items()) == known
    for key in ("refs/heads/a", "e" * 40, "origin:a"):
        on = {ref for ref, held in known.items() if key in (held.hold.on or ())}
        assert set(tasks.waiting_for(key)) == on
        others = {ref for ref in on if known[ref].hold.word not in OF_OTHER_TASKS}
        assert set(tasks.waiting_for(key, over=False)) == others
    assert set(tasks.waiting_for_any()) == {
        ref
        for ref, held in known.items()
        if held.hold.on is None and held.hold.word in OF_OTHER_TASKS and held.due is None
    }
    assert set(tasks.copies_of("c" * 40)) == {
        ref for ref, held in known.items() if held.hold.word == "copy" and held.oid == "c" * 40
    }
    for word in ("waiting", "copy", "busy"):
        of_word = {ref for ref, held in known.items() if held.hold.word == word}
        assert set(tasks.of_words({word})) == of_word
        assert tasks.has({word}) == bool(of_word)
    times = {ref: held.due for ref, held in known.items() if held.due is not None}
    assert set(tasks.due(2.0)) == {ref for ref, due in times.items() if due <= 2.0}
    assert tasks.next_due == min(times.values(), default=None)
    named = {key for held in known.values() for key in held.hold.on or ()}
    assert set(tasks.commits) == named & {"e" * 40}
    assert set(tasks.elsewhere) == named & {"origin:a"}
