from hypothesis import given
from hypothesis import strategies as st

from stages.schedule import Schedule


@st.composite
def graphs(draw):
    """Stages 0, 1, ... that need some of those before them, a few of which measure time, and one of which may fail."""
    count = draw(st.integers(1, 9))
    needs = {str(n): {str(m) for m in range(n) if draw(st.booleans())} for n in range(count)}
    names = st.sampled_from(sorted(needs))
    return needs, draw(st.sets(names)), draw(st.none() | names), draw(st.sets(names)), draw(st.integers(1, 3))


def simulate(needs, alone, failing, changed, lanes):
    """The stages in the order in which they started, each with what ran beside it and what was done by then."""
    schedule, started = Schedule(needs, alone, changed), []
    while True:
        while len(schedule.running) < lanes and (name := schedule.next()):
            started.append((name, schedule.running - {name}, set(schedule.done)))
        if not schedule.running:
            return schedule, started
        schedule.finish(min(schedule.running), ok=min(schedule.running) != failing, changed=True)


@given(graphs())
def test_a_stage_starts_once_when_all_that_it_needs_is_done(graph):
    needs, alone, failing, _, lanes = graph
    started = simulate(needs, alone, failing, set(needs), lanes)[1]
    assert len({name for name, _, _ in started}) == len(started)
    assert all(needs[name] <= done for name, _, done in started)


@given(graphs())
def test_what_measures_time_has_the_machine_for_itself(graph):
    needs, alone, failing, _, lanes = graph
    for name, beside, _ in simulate(needs, alone, failing, set(needs), lanes)[1]:
        assert not (beside and name in alone) and not beside & alone


@given(graphs())
def test_a_failure_holds_back_what_depends_on_it_and_nothing_else(graph):
    needs, alone, failing, _, lanes = graph
    schedule, started = simulate(needs, alone, failing, set(needs), lanes)
    held = {name for name in needs if failing in ancestors(needs, name)}
    assert set(schedule.held_back()) == held
    assert {name for name, _, _ in started} == set(needs) - held


@given(graphs())
def test_only_what_changed_and_what_depends_on_it_runs(graph):
    needs, alone, _, changed, lanes = graph
    started = {name for name, _, _ in simulate(needs, alone, None, changed, lanes)[1]}
    assert started == {name for name in needs if (ancestors(needs, name) | {name}) & changed}


def test_a_stage_that_gave_the_same_as_before_runs_nothing_after_it():
    schedule = Schedule({"a": set(), "b": {"a"}}, set(), {"a"})
    assert schedule.next() == "a"
    schedule.finish("a", ok=True, changed=False)
    assert schedule.next() is None and schedule.done == {"a", "b"}


def test_the_stage_that_most_others_wait_for_comes_first():
    schedule = Schedule({"leaf": set(), "root": set(), "middle": {"root"}, "end": {"middle"}}, set(), {"leaf", "root"})
    assert schedule.next() == "root"


def ancestors(needs, name):
    return needs[name] | {above for direct in needs[name] for above in ancestors(needs, direct)}


def test_due_is_what_has_changed_and_all_that_depends_on_it():
    needs = {"prepare": set(), "train": {"prepare"}, "time": set(), "report": {"train", "time"}}
    assert Schedule(needs, set(), {"train"}).due() == 2
    assert Schedule(needs, set(), {"prepare", "time"}).due() == 4
    assert Schedule(needs, set(), set()).due() == 0
    assert Schedule(needs, set(), {"time", "not asked for"}).due() == 2
