"""Budgets that fill again with time, on a clock that the test sets."""


class Clock:
    def __init__(self):
        from gatehouse import budget

        self.now = 0
        budget.ticks_ms = lambda: self.now


def test_budget_refills_with_time_and_no_further():
    from gatehouse.budget import Budget

    clock = Clock()
    budget = Budget(2, 1000)
    assert (budget.take(), budget.take(), budget.take()) == (True, True, False)
    clock.now = 1500
    assert (budget.take(), budget.take()) == (True, False)
    clock.now = 2000
    assert (budget.take(), budget.take()) == (True, False)  # half a second was not lost
    clock.now = 3600000
    assert (budget.take(), budget.take(), budget.take()) == (True, True, False)


def test_quiet_days_in_which_the_ticks_go_round_leave_a_full_budget():
    from gatehouse.budget import Budget, refilled

    clock = Clock()
    budget = Budget(2, 1000)
    assert (budget.take(), budget.take(), budget.take()) == (True, True, False)
    clock.now = -1  # a few days later
    assert (budget.take(), budget.take(), budget.take()) == (True, True, False)
    assert refilled(-3, 8, 0, 5000) == (8, -1)
    clock.now = 5000
    assert refilled(-3, 8, 0, 5000) == (-2, 5000)


def test_flood_of_events_leaves_room_in_the_journal_and_is_counted():
    from gatehouse.budget import Notes

    clock = Clock()
    notes, told = Notes(), []
    for _ in range(1000):
        notes.tell(lambda *event: told.append(event), "refused", "format")
    assert told == [("refused", "format", 0)] * 4
    clock.now = 600000
    for _ in range(3):
        notes.tell(lambda *event: told.append(event), "refused", "format")
    assert told[4:] == [("refused", "format", 996)]
    clock.now = 1200000
    notes.tell(lambda *event: told.append(event), "refused", "digest")
    assert told[5:] == [("refused", "digest", 2)]
