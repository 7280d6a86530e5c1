"""A plan is a list of boxes, as people write it in Markdown."""

from __future__ import annotations

import pytest

from aynig.checklist import Item, all_checked, items, next_item

TEXT = """\
# Plan

- [x] first
* [ ] second thing, with `code`
  1. [X] nested
- [] none
- no box
[ ] no bullet

```
- [ ] an example
```
+ [ ] last\t
"""


def test_the_items_of_a_plan() -> None:
    assert items(TEXT) == (
        Item("first", True),
        Item("second thing, with `code`", False),
        Item("nested", True),
        Item("last", False),
    )


def test_the_next_item_is_the_first_that_is_not_checked() -> None:
    assert next_item(items(TEXT)) == "second thing, with `code`"
    assert next_item(items("- [x] all")) is None
    assert next_item(()) is None


@pytest.mark.parametrize(
    ("plan", "given", "done"),
    [
        pytest.param("- [x] a\n- [x] b", "- [ ] a\n- [ ] b", True, id="all"),
        pytest.param("- [x] a\n- [ ] b", "- [ ] a\n- [ ] b", False, id="one is left"),
        pytest.param("- [x] a", "- [ ] a\n- [ ] b", False, id="one was taken away"),
        pytest.param("- [x] a\n- [x] c\n- [x] d", "- [ ] a\n- [ ] b", True, id="reworded, added"),
        pytest.param("", "- [ ] a", False, id="the file is gone"),
        pytest.param("", "", False, id="no plan is not done"),
    ],
)
def test_all_is_done_that_a_person_has_put_on_the_plan(plan: str, given: str, done: bool) -> None:
    assert all_checked(items(plan), items(given)) is done
