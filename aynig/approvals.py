"""Asks people before a run, and judges what they reply (docs/approvals.md).

Each decision is a step: the history says who was asked what, and who agreed. No time decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from aynig.answer import RESERVED_FIELDS, SUBJECT_WIDTH
from aynig.dialects import (
    DIALECTS,
    DWP,
    Limits,
    by_name,
    read,
    writable_fields,
    writable_trailers,
    write,
)
from aynig.family import named_children
from aynig.git.authorship import made_by
from aynig.git.differences import difference
from aynig.git.merging import Merged, merge_files
from aynig.model import (
    AWAITING,
    AWAITING_ANSWER,
    AWAITING_APPROVAL,
    Event,
    Field,
    Hold,
    Statement,
    Step,
    Trailer,
)
from aynig.onbranch import WORKING
from aynig.policies.approval import KIND, Person, Verdict, judge
from aynig.policies.joining import CONFLICT_STATE
from aynig.policies.people import is_peoples
from aynig.requests import Asked, read_request, voice_of
from aynig.site import Site
from aynig.text import escape, shorten
from aynig.thread import REPLIES, Thread, Told, first_words
from aynig.trailers import encode
from aynig.workflow import BEFORE, Approval, StateSettings, Workflow

# The trusted tree of a task whose commit has this tree, and the workflow in there.
Trusted = Callable[[str], tuple[str, Workflow]]

# Of a diff and of a task's words in a request: it is read in a terminal, and within the limits.
SHOWN_BYTES = 16 * 1024
# Fields that are of one commit and not of the task: money is added up from each commit.
_OF_ONE_COMMIT = RESERVED_FIELDS | {
    "cost-usd", "tokens-in", "tokens-out", "calls", "question", "answer", "parent", "retry-of",
    "reopens",
}  # fmt: skip
# What an answer tells the state that it leads to: of a failure; a step, of children as well.
_OF_FAILURES = frozenset({"failure", "compensates", "then"})
_OF_STEPS = _OF_FAILURES | {
    "joined", "left-out", "unmerged", "child", "child-state", "conflict", "conflicts",
    "conflict-with",
}  # fmt: skip
# What a step writes beside the words of the task.
_BESIDE = (RESERVED_FIELDS | {"parent"}) - _OF_STEPS
_ARROW = re.compile(r"[a-z0-9_-]+ -> [a-z0-9_-]+(?:: |$)")
# A line of its own in the body of a proposal; what follows is for who looks at it.
MARK = "What it proposes:"
_FIELD_WIDTH = 500


# --- before a run ----------------------------------------------------------------------------


def before(
    site: Site, event: Event, settings: StateSettings, thread: Thread, trusted: Trusted
) -> Step | None:
    """The request for a run that has to be approved first; None where it may start."""
    approval = settings.approval
    if approval is None or approval.when != BEFORE or _may_start(site, event, trusted):
        return None
    words = event.statement
    shown = difference(
        site.repo,
        _files_before(site, thread, event),
        event.tree,
        show=approval.show,
        most=room(site),
    )
    parts = [f"May {event.state} run? It is asked to:", *_said(words)]
    parts += task_words(site, thread.start, but=event.origin)
    if shown:
        parts += ["What the task has changed so far:", indented(shown)]
    return Step(
        KIND,
        AWAITING_APPROVAL,
        f"may {event.state} run?",
        "\n\n".join(parts),
        (*_parent(event, words), Field("proposes", event.state), Field("proposal", event.origin)),
    )


def task_words(site: Site, start: str, but: str = "") -> list[str]:
    """What a task was begun with, for who is asked about it later; `but` is shown already."""
    told = site.threads.told(start) if start and start != but else None
    return ["The task is:", *_said(told.statement)] if told is not None else []


def _said(words: Statement) -> list[str]:
    said = (words.subject, _cut(words.body)) if words.body else (words.subject,)
    return [indented(each) for each in said]


def _may_start(site: Site, event: Event, trusted: Trusted) -> bool:
    """Is the commit what follows of approvals that count now? They are judged again.

    Anybody who may push can write that a commit was approved.
    """
    reply = site.threads.answered(event.origin)
    if reply is None or reply.statement.state != "approved":
        return False
    if event.statement.value("step") != KIND:
        return False
    step = of_reply(site, _event_of(event, reply), trusted)
    if not isinstance(step, Step) or step.state != event.state or reply.tree != event.tree:
        return False
    below = site.threads.told(reply.parent)
    asked = _asked(site, below, trusted) if below is not None else None
    return asked is not None and asked.when == BEFORE and _says(event.statement, reply, step)


def _says(statement: Statement, reply: Told, step: Step) -> bool:
    """Does a commit say what the step would: was nothing added to what was approved?"""
    subject = shorten(f"{reply.statement.state} -> {step.state}: {step.subject}", SUBJECT_WIDTH)
    dialect = by_name(statement.dialect)
    message = write(dialect, step.state, step.fields, step.trailers, subject, step.body)
    ours = read(encode(message), Limits(1 << 40, 1 << 40))
    return ours is not None and _shown_to_script(ours) == _shown_to_script(statement)


def _shown_to_script(statement: Statement) -> tuple[object, ...]:
    fields = {field for field in statement.fields if field.key not in _BESIDE}
    return (statement.subject, statement.body, fields, set(statement.trailers))


def _event_of(event: Event, told: Told) -> Event:
    return Event(event.ref, told.oid, told.tree, told.time, told.statement)


def _files_before(site: Site, thread: Thread, event: Event) -> str:
    """The files that the task began with."""
    start = site.repo.commit(thread.start) if site.repo.has_commit(thread.start) else None
    if start is None:
        return event.tree
    return site.repo.commit(start.parents[0]).tree if start.parents else site.repo.empty_tree()


# --- what people reply -----------------------------------------------------------------------


def of_reply(site: Site, event: Event, trusted: Trusted) -> Step | Hold | None:
    """What follows of `approved`, `rejected` and `answered`; None where they are plain states."""
    if event.state not in REPLIES:
        return None
    reply = site.threads.told(event.origin)
    below = site.threads.told(reply.parent) if reply is not None and reply.parent else None
    if reply is None or below is None or below.statement.state not in AWAITING:
        return None
    if below.statement.state == AWAITING_ANSWER:
        asking = site.threads.answered(below.oid)
        if asking is None:
            return None
        return _a_scripts(site, event) or _answered(site, event, asking, below)
    asked = _asked(site, below, trusted)
    if asked is None:
        return None
    return _a_scripts(site, event) or _replied(site, event, reply, asked, trusted)


def _asked(site: Site, below: Told, trusted: Trusted) -> Asked | None:
    return read_request(site, below.oid, lambda tree: trusted(tree)[1])


def _a_scripts(site: Site, event: Event) -> Hold | None:
    if site.threads.answered(event.origin) is None:
        return None
    return Hold("blocked", f"a script wrote {event.state}, which only people may write here")


def _replied(
    site: Site, event: Event, reply: Told, asked: Asked, trusted: Trusted
) -> Step | Hold | None:
    if event.state == "rejected":
        return _rejected(site, event, asked, trusted)
    if event.state == "answered":
        return _corrected(site, event, asked)
    asked = replace(asked, replies=(*asked.replies, reply))
    verdict = verdict_on(site, asked, trusted)
    workflow = trusted(asked.trigger.tree)[1]
    step = _goes_on(event, asked, verdict)
    if asked.of_step:
        step = _as_was_asked(site, event, asked, step, workflow)
    if verdict.approved and not verdict.refused:
        return step
    changed = reply.tree != asked.request.tree
    show = approval_of(workflow, asked.trigger.statement.state).show
    return _asks_again(site, event, asked, verdict, step, show, changed=changed)


def verdict_on(site: Site, asked: Asked, trusted: Trusted) -> Verdict:
    """How many of the approvals of a request count, and why the last does not."""
    tree, workflow = trusted(asked.trigger.tree)
    approval = approval_of(workflow, asked.trigger.statement.state)
    signers = allowed_signers(site, tree, workflow)
    voices = [voice_of(site, each, signers) for each in asked.replies]
    return judge(approval, workflow.signed, asked.request, voices)


def approval_of(workflow: Workflow, state: str) -> Approval:
    """What is asked of who approves; where only the autonomy of the workflow asks: anybody."""
    return workflow.of(state).approval or Approval()


def allowed_signers(site: Site, tree: str, workflow: Workflow) -> bytes | None:
    """The allowed-signers file of the trusted tree; None without one."""
    entry = site.repo.entry(tree, workflow.allowed_signers)
    return site.repo.blob(entry[1]) if entry is not None and entry[0] & 0o100000 else None


def _goes_on(event: Event, asked: Asked, verdict: Verdict) -> Step:
    statement = asked.words.statement
    # Whole in the fields; the subject is read beside many others.
    names = ", ".join(re.split(r" [<(]", who)[0] for who in verdict.approved_by)
    subject = f"approved by {names}"
    body = statement.body
    if asked.when == BEFORE:
        # The person's own words, or those of the answer that led here. Where that is a step, they
        # tell who approved something else.
        is_step = statement.value("step") is not None
        said = "" if is_step else _ARROW.sub("", first_words(statement))
        # `aynig submit` begins its subjects with the state, and so does this one.
        said = said.removeprefix(f"{asked.proposes}: ")
        subject = f"{said} ({subject})" if said else subject
    else:
        body = without_proposal(body)
    fields = [
        *_told_on(event, statement),
        *(Field("approved-by", who) for who in verdict.approved_by),
        Field("approves", asked.request.oid),
    ]
    reopens = ""
    if asked.when != BEFORE and not asked.of_step:
        reopens = statement.value("would-reopen") or ""
    if reopens:
        fields.append(Field("reopened", reopens.rpartition("@")[0]))
    return Step(
        KIND, asked.proposes, subject, body, (*fields,), _trailers(statement), reopens=reopens
    )


def _as_was_asked(
    site: Site, event: Event, asked: Asked, approved: Step, workflow: Workflow
) -> Step:
    """A join, say, with exactly the tips that were asked about, whatever became of them since.

    Where that can't be done any more, the state looks anew at what there is.
    """
    said = asked.words.statement
    join = workflow.of(asked.trigger.statement.state).join
    there = [oid for key, _, oid in named_children(site.repo, said) if key == "joined"]
    wanted = len(said.values("joined"))
    if wanted and (len(there) < wanted or join is None):
        task = asked.trigger.statement
        return replace(
            approved,
            state=task.state,
            subject="what was approved can't be joined any more",
            body=task.body,
            fields=tuple(_told_on(event, task)),
            trailers=_trailers(task),
        )
    if join is None:
        return approved
    return replace(
        approved,
        parents=tuple(
            oid for oid in dict.fromkeys(there) if not site.repo.descends(event.oid, oid)
        ),
        merge=join.merge,
        on_conflict=join.on_conflict or CONFLICT_STATE,
    )


def _asks_again(
    site: Site,
    event: Event,
    asked: Asked,
    verdict: Verdict,
    step: Step,
    show: str,
    *,
    changed: bool,
) -> Step:
    """The same request once more; `step` is what follows when it is approved."""
    thread = site.threads.of(event.origin)
    fields = [*_parent(event, asked.words.statement), Field("proposes", asked.proposes)]
    body = f"The request is {asked.request.oid}."
    subject = f"{verdict.score} approvals"
    if changed:
        # The files that are on the branch now are what is asked about from here on.
        old = (thread.accepted if thread is not None else "") or asked.trigger.tree
        merged = merge_files(site.repo, event.oid, step.parents, step.merge)
        tree = merged.tree if isinstance(merged, Merged) else event.tree
        shown = difference(site.repo, old, tree, show=show, most=room(site))
        body = f"{MARK}\n\n{indented(shown)}" if shown else ""
    else:
        fields.append(Field("proposal", asked.request.oid))
        fields += [Field("approved-by", who) for who in verdict.approved_by]
        fields.append(Field("approvals", verdict.score))
    if verdict.refused:
        fields.append(Field("refused", _one_line(verdict.refused)))
        subject = f"not counted: {verdict.refused}"
        body = f"This does not count: {verdict.refused}.\n\n{body}"
    parts = [body, *task_words(site, thread.start if thread is not None else "")]
    body = "\n\n".join(part for part in parts if part)
    return Step(KIND, AWAITING_APPROVAL, subject, body, tuple(fields))


def _rejected(site: Site, event: Event, asked: Asked, trusted: Trusted) -> Step:
    workflow = trusted(asked.trigger.tree)[1]
    state = approval_of(workflow, asked.trigger.statement.state).on_reject or "failed"
    who, words = author_of(site, event.origin), reply_words(event.statement)
    said = words or "no reason was given"
    task = asked.trigger.statement
    fields = [
        *handed_on(event, task),
        Field("rejects", asked.request.oid),
        Field("rejected-by", who),
        Field("validation-errors", _one_line(said)),
    ]
    body = f"{who} has rejected it:\n\n{said}"
    if state != "failed" and task.body:
        body = f"{task.body}\n\n{body}"
    # What was proposed stays in the history; files of the person's own are never taken away.
    takes_back = asked.when != BEFORE and event.tree == asked.request.tree
    return Step(
        KIND,
        state,
        f"rejected by {who}: {_one_line(said)}",
        body,
        tuple(fields),
        _trailers(task),
        files_of=asked.trigger.oid if takes_back else "",
    )


def _corrected(site: Site, event: Event, asked: Asked) -> Step:
    """Neither yes nor no: the state runs again, or asks again, with what the person says."""
    who, words = author_of(site, event.origin), reply_words(event.statement)
    task = asked.trigger.statement
    body = f"{task.body}\n\n{who} says to what was proposed:\n\n{words}".strip()
    return _asked_state(event, task, who, words, body, Field("replies-to", asked.request.oid))


def _answered(site: Site, event: Event, asking: Told, question: Told) -> Step:
    """The state that asked goes on, with the person's words in the place of its task's."""
    who, words = author_of(site, event.origin), reply_words(event.statement)
    asked = Field("question", _one_line(question.statement.value("question") or ""))
    fields = (asked, Field("replies-to", question.oid))
    return _asked_state(event, asking.statement, who, words, words, *fields)


def _asked_state(
    event: Event, task: Statement, who: str, words: str, body: str, *more: Field
) -> Step:
    fields = [
        *_told_on(event, task),
        *more,
        Field("answer", _one_line(words)),
        Field("answered-by", who),
    ]
    subject = f"{who}: {_one_line(words)}"
    return Step(KIND, task.state, subject, body, tuple(fields), _trailers(task))


# --- states that only people write -----------------------------------------------------------


def only_people(site: Site, event: Event, workflow: Workflow) -> Hold | None:
    """A state that only people may write, which a script has written all the same."""
    state = event.state
    if state not in workflow.people_only:
        return None
    below = _run_below(site, event)
    if below is None or not is_peoples(state, workflow.people_only, after=below.state):
        return None
    if state in _ways_on(workflow.of(below.state)):
        return None
    return Hold("blocked", f"a script wrote {state}, which only people may write")


def _run_below(site: Site, event: Event) -> Statement | None:
    """What was run whose answer this commit is; None for a person's, and for a step."""
    if event.statement.value("step") is not None:
        return None
    answered = site.threads.answered(event.origin)
    if answered is not None:
        return answered.statement
    # In dwp a script's own commit is the answer: it lies on the lease.
    parents = site.repo.commit(event.origin).parents
    below = site.threads.told(parents[0]) if parents else None
    if below is None or (below.statement.dialect, below.statement.state) != (DWP.name, WORKING):
        return None
    return below.statement


def _ways_on(settings: StateSettings) -> tuple[str | None, ...]:
    """The states that the workflow itself says come next."""
    return (settings.next, settings.on_failure, settings.escalate, settings.compensate)


# --- words -----------------------------------------------------------------------------------


def handed_on(event: Event, statement: Statement) -> list[Field]:
    """The fields of the task that a step writes again, on top of a person's reply."""
    fields = [field for field in statement.fields if field.key not in _OF_ONE_COMMIT]
    dialect = by_name(event.statement.dialect)
    return [*_parent(event, statement), *writable_fields(dialect, fields)]


def _told_on(event: Event, statement: Statement) -> list[Field]:
    """The same with what aynig has told the state: who was asked is not to forget its children."""
    kept = _OF_STEPS if statement.value("step") is not None else _OF_FAILURES
    told = [field for field in statement.fields if field.key in kept]
    return [*handed_on(event, statement), *told]


def _parent(event: Event, statement: Statement) -> list[Field]:
    """Whose child the task is, where the person's reply does not say it: the tip has to."""
    parent = statement.value("parent")
    if not parent or event.statement.value("parent") is not None:
        return []
    return writable_fields(by_name(event.statement.dialect), [Field("parent", parent)])


def reply_words(statement: Statement) -> str:
    """What a person says: the body, and the first line where that is not its beginning."""
    first = _ARROW.sub("", statement.subject).strip()
    body = statement.body.strip()
    if not first or body.startswith(first.rstrip("…")):
        return body
    return f"{first}\n\n{body}".strip()


def without_proposal(body: str) -> str:
    """The script's own words of a proposal: all but what aynig has added for who looks at it.

    Lines of a diff are indented, so the last line that is the mark is ours.
    """
    lines = body.split("\n")
    for number in range(len(lines) - 1, -1, -1):
        if lines[number] == MARK:
            return "\n".join(lines[:number]).strip("\n")
    return body


def room(site: Site) -> int:
    """How many bytes of a diff go into a message."""
    return min(SHOWN_BYTES, site.settings.message_limit // 4)


def indented(text: str) -> str:
    """Text that no reader takes for trailers, whatever is in it."""
    return "\n".join(f"    {line}" for line in text.strip("\n").split("\n"))


def _cut(text: str) -> str:
    return shorten(text, SHOWN_BYTES // 4)


def author_of(site: Site, oid: str) -> str:
    """Whom a commit names as its author, on one line."""
    made = made_by(site.repo, oid)
    return _one_line(str(Person(*made.author)))


def _one_line(text: str) -> str:
    return shorten(escape(" ".join(text.split())), _FIELD_WIDTH)


def _trailers(statement: Statement) -> tuple[Trailer, ...]:
    """Trailers that are no fields, as they are written again."""
    others = writable_trailers(statement.trailers)
    return tuple(other for other in others if all(row.claim(other) is None for row in DIALECTS))
