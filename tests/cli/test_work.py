"""What `run`, `daemon` and `demo` share: whoever reads what they tell may go away."""

from __future__ import annotations

import pytest

from aynig.cli.work import Audience
from aynig.daemon import Engine
from aynig.notices import Notice
from aynig.site import open_site
from tests.cli.conftest import Shell


@pytest.mark.parametrize("last", ["watching", "event", "run", "answer"])
def test_where_the_readers_go_away_work_is_drained_and_no_task_is_at_fault(
    aynig: Shell, last: str
) -> None:
    files: dict[str, str | bytes | None] = {".aynig/go": "#!/bin/sh\n"}
    aynig.repo.commit("x\n\naynig: go\n", branch="task", parent=aynig.repo.tip(), files=files)
    told: list[str] = []

    def tell(notice: Notice) -> None:
        told.append(notice.kind)
        if notice.kind == last:
            raise BrokenPipeError

    audience = Audience(tell)
    site = open_site(".")
    engine = Engine([site], audience.hear, jobs=1, poll=3600.0)
    audience.stops(engine)
    engine.run()
    assert told[-1] == last
    assert told.count(last) == 1
    with pytest.raises(BrokenPipeError):
        audience.check()
    assert aynig("run", "-q").status == 0
    assert aynig.repo.state("task") == "done"


def test_as_long_as_somebody_reads_everything_is_told(aynig: Shell) -> None:
    told: list[Notice] = []
    audience = Audience(told.append)
    site = open_site(".")
    engine = Engine([site], audience.hear, jobs=1, poll=3600.0, until_quiet=True)
    audience.stops(engine)
    engine.run()
    audience.check()
    assert [notice.kind for notice in told] == ["watching"]
