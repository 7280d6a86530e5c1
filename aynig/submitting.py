"""New tasks, and new states of old ones, as people ask for them: `submit`, one or a whole plan."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from aynig import trailers
from aynig.beginnings import (
    Begun,
    begin_all,
    beginning,
    placed,
    refuse_vain_waits,
    subject_of,
    waits_for,
)
from aynig.dialects import (
    AYNIG,
    DIALECTS,
    check_state,
)
from aynig.errors import UsageError
from aynig.git import names
from aynig.model import (
    HEADS,
    RESERVED_STATES,
    Field,
    Trailer,
)
from aynig.planfile import PlanFile
from aynig.respond import write_state
from aynig.site import Site, limits_of
from aynig.tasks import RUNNERS_ONLY, Written
from aynig.text import quote
from aynig.thread import unique

_SLUG_WIDTH = 40
_TRAILER_KEY = re.compile(r"[A-Za-z0-9-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What `submit` is asked for; `branch` None: a new one gets a name."""

    state: str
    branch: str | None = None
    body: str = ""
    to: str | None = None
    after: Sequence[str] = ()
    extra: Sequence[str] = ()
    start: str | None = None


def submit(site: Site, request: Request) -> Written:
    """Write a state commit on a new or existing branch without touching the working tree.

    Raises UsageError for anything malformed, before any commit is made.
    """
    state = check_state(request.state)
    if state in RESERVED_STATES:
        raise UsageError(f"{state} is a reserved state", hint="Choose another name.")
    fields, others = _extra(request)
    ref = _ref(site, request)
    fields = _with_waits(site, request, ref, fields)
    old = site.repo.read_ref(ref)
    if old is not None and request.start is not None:
        raise UsageError(
            f"{quote(request.branch or '')} exists, so --from has no meaning",
            hint="Leave --from out, or name a new branch.",
        )
    base = _base(site, request.start) if old is None else None
    oid = write_state(
        site.repo,
        site.store,
        ref,
        old,
        state,
        subject=subject_of(state, request.body),
        body=request.body,
        fields=[*fields, *(beginning(site, base) if old is None else [])],
        others=others,
        base=base,
        limits=limits_of(site.settings),
    )
    return Written(ref.removeprefix(HEADS), oid, state)


def _extra(request: Request) -> tuple[list[Field], list[Trailer]]:
    """`--to` and `--trailer K:V`; the latter may be a field: `--trailer 'aynig:priority: 5'`."""
    fields, others = [], []
    if request.to is not None:
        fields.append(Field("assigned-to", trailers.check_value(request.to, "--to")))
    for text in request.extra:
        key, found, value = text.partition(":")
        if not found or not _TRAILER_KEY.fullmatch(key.strip(" \t")):
            raise UsageError(f"{quote(text)} is no trailer", hint="Write it as KEY:VALUE.")
        if "\n" in value or "\r" in value:
            raise UsageError(
                f"the value of {quote(key)} has a line break in it",
                hint="Write it on one line: a line break there would inject a state.",
            )
        trailer = Trailer(key.strip(), trailers.check_value(value.strip(), f"of {quote(key)}"))
        _refuse_claim(text, trailer)
        claim = AYNIG.claim(trailer)
        if claim is None:
            others.append(trailer)
        else:
            fields.append(claim)
    return fields, others


def _refuse_claim(text: str, trailer: Trailer) -> None:
    """UsageError for a state, and for a field that only runners write, in any dialect."""
    for dialect in DIALECTS:
        claim = dialect.claim(trailer)
        if claim is None:
            continue
        if not claim.key:
            raise UsageError(f"{quote(text)} is a state", hint="The state is the first argument.")
        if claim.key in RUNNERS_ONLY:
            raise UsageError(
                f"{quote(text)} is a field that only runners write",
                hint=f"Choose another name, such as meta-{claim.key}.",
            )


def _ref(site: Site, request: Request) -> str:
    if request.branch is None:
        return _free_ref(site, request)
    ref = HEADS + request.branch
    # A branch of the name HEAD could not be told from HEAD itself; git refuses it too.
    if not names.is_ref(ref) or request.branch.startswith("-") or request.branch == "HEAD":
        raise UsageError(
            f"{quote(request.branch)} is no branch name", hint="See git-check-ref-format(1)."
        )
    if site.repo.read_ref(ref) is None:
        _refuse_conflict(site, ref)
    return ref


def _refuse_conflict(site: Site, ref: str) -> None:
    """A branch can't be where another one is a folder, nor below one: refs are files."""
    parents = [ref.rsplit("/", number)[0] for number in range(1, ref.count("/") - 1)]
    below = sorted(site.repo.refs_below(f"{ref}/"))
    for other in [*filter(site.repo.read_ref, parents), *below[:1]]:
        raise UsageError(
            f"{quote(ref.removeprefix(HEADS))} can't be made beside the branch "
            f"{quote(other.removeprefix(HEADS))}",
            hint="Choose another name.",
        )


def _free_ref(site: Site, request: Request) -> str:
    """A readable name that no branch has: `task/` and the first words of the body.

    Where a branch `task` stands in the way of that folder, `task-` takes its place.
    """
    plain = unicodedata.normalize("NFKD", request.body.strip().partition("\n")[0])
    words = re.findall(r"[a-z0-9]+", plain.encode("ascii", "ignore").decode().lower())
    slug = "-".join(words)[:_SLUG_WIDTH].strip("-") or request.state
    stem = f"{HEADS}task-{slug}" if site.repo.read_ref(f"{HEADS}task") else f"{HEADS}task/{slug}"
    taken = site.repo.refs_below(stem)
    number = 1
    while True:
        ref = stem + (f"-{number}" if number > 1 else "")
        if ref not in taken and not any(name.startswith(f"{ref}/") for name in taken):
            return ref
        number += 1


def _base(site: Site, start: str | None) -> str | None:
    if site.clone is not None and site.mirror is not None:
        # As `git push` has it: what the person has here, pushed before or not.
        oid = site.clone.resolve(start or "HEAD")
        if oid is not None:
            site.mirror.take(site.clone, oid)
            return oid
    if start is not None:
        oid = site.repo.resolve(start)
        if oid is None:
            raise UsageError(f"there is no commit {quote(start)}", hint="See `git log --all`.")
        return oid
    # An unborn HEAD has no commit: the task then starts with no files.
    return site.repo.resolve("HEAD")


def _with_waits(site: Site, request: Request, ref: str, fields: list[Field]) -> list[Field]:
    """The fields with all that is waited for, however it was asked for, as it is to be written."""
    asked = [field.value for field in fields if field.key == "depends-on"]
    names = unique(waits_for(site, rev) for rev in [*request.after, *asked])
    if not names:
        return fields
    parent = next((field.value for field in fields if field.key == "parent"), None)
    site.scan.look()
    refuse_vain_waits(site, {ref: names}, {ref: HEADS + parent} if parent else {})
    others = [field for field in fields if field.key != "depends-on"]
    return others + [Field("depends-on", name) for name in names]


def submit_plan(site: Site, plan: PlanFile, start: str | None = None) -> list[Begun]:
    """Begin all tasks of a plan, by one transaction, each at its own commit or else at `start`.

    Raises UsageError for anything malformed, before any commit is made.
    """
    bases: dict[str | None, str | None] = {}
    for task in plan.tasks:
        rev = task.start if task.start is not None else start
        if rev not in bases:
            with placed(task):
                bases[rev] = _base(site, rev)
    return begin_all(
        site,
        plan,
        {task.name: bases[task.start if task.start is not None else start] for task in plan.tasks},
    )
