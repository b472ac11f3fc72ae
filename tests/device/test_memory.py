"""How often garbage is collected: seldom in a heap with room, often in a small one."""

import gc

from gatehouse import memory


class Heap:
    """A `gc` with so much free and taken, which notes its thresholds."""

    def __init__(self, free, taken):
        self.mem_free = lambda: free
        self.mem_alloc = lambda: taken
        self.collect = lambda: None
        self.thresholds = []
        self.threshold = self.thresholds.append


def settled(free, taken):
    memory._PASSING, memory._STAYING = ("cbor",), ("reasons",)
    memory.gc = Heap(free, taken)
    memory.settle()
    return memory.gc.thresholds


def test_threshold_follows_the_room():
    for free, taken, expected in (
        (60000, 100000, 2048),  # less is free than an application and an update may take
        (175000, 100000, 2048),
        (199000, 100000, 3000),
        (255000, 100000, 10000),
        (900000, 100000, 16384),
        (2000000000, 100000, 16384),
    ):
        assert memory.threshold(free, taken) == expected, (free, taken)


def test_a_small_heap_settles_with_the_threshold_that_modules_are_loaded_with():
    assert settled(165408, 93664) == [2048, 2048], "128wK, where docs/memory.md was measured"


def test_a_roomy_heap_is_collected_less_often_once_the_modules_are_loaded():
    assert settled(234750, 93000) == [2048, 9000]


def test_what_is_busy_leaves_the_threshold_as_it_was():
    for before, within in ((2048, 16384), (8192, 16384), (20480, 20480)):
        gc.threshold(before)
        assert memory.busily(gc.threshold) == within
        assert gc.threshold() == before
