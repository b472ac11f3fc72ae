"""A small run of the fuzzer with the session's seed, and the proof that it can fail."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from . import driver

COUNT = 2000
FIXED = 1  # seed of what must be found
TAKEN = {"accepted", "pending-reboot", "rotated"}
ENOUGH = 400  # mutants within which a missing defence shows

# target -> what is taken out of the core: file, line, its replacement, what the fuzzer says then
PATCHES = {
    "envelope": ("suit.py", 'digest(decode(wrapper[0], list, "digest", 1)) != self.digest', "False", "nobody signed"),
    "manifest": ("suit_commands.py", "if passed != everyone:", "if False:", "is complete"),
    "index": ("tree.py", 'if not part or part[0] == ".":', "if False:", "is taken"),
    "trust": ("trust.py", "(ValueError, LookupError, TypeError, AttributeError)", "LookupError", "Error instead"),
}


def test_nothing_is_found(seed: int) -> None:
    with driver.Fuzzer(seed) as fuzzer:
        found = fuzzer.run(driver.jobs(COUNT))
        for target in ("manifest", "index", "trust", "config", "repack", "offer", "image", "rotate"):
            # Mutants reach what lies behind the first check: some of those that were signed again are taken. Of a
            # target with a small share it may need more of them.
            seen = set(found.counts[target])
            if not TAKEN & seen:
                seen = set(fuzzer.run([driver.Job(target, COUNT, ENOUGH)]).counts[target])
            assert TAKEN & seen, (target, seen)
    assert not found.failures, "\n".join(driver.shown(found.failures, seed, 4000))
    assert found.total >= COUNT and set(found.counts) == set(driver.SHARES)


@pytest.fixture(scope="module")
def weakened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[driver.Fuzzer]:
    """The fuzzer on a core from which the lines of PATCHES are gone."""
    lib = tmp_path_factory.mktemp("weakened") / "lib"
    shutil.copytree(driver.ROOT / "lib", lib)
    for name, line, other, _ in PATCHES.values():
        path = lib / "gatehouse" / name
        text = path.read_text()
        assert text.count(line) == 1, f"{name} has changed: {line}"
        path.write_text(text.replace(line, other))
    with driver.Fuzzer(FIXED, lib) as fuzzer:
        yield fuzzer


@pytest.mark.parametrize("target", PATCHES)
def test_missing_defence_is_found_and_found_again(weakened: driver.Fuzzer, target: str) -> None:
    found = weakened.run([driver.Job(target, 0, ENOUGH)])
    wanted = [failure for failure in found.failures if PATCHES[target][3] in failure["why"]]
    assert wanted, found
    again = weakened.run([driver.Job(target, 0, 0, (wanted[0]["number"],))])
    assert [failure["mutant"] for failure in again.failures] == [wanted[0]["mutant"]]
    assert any(f"--number {wanted[0]['number']}" in line for line in driver.shown(wanted, FIXED))


def test_process_that_does_not_come_to_its_end_has_failed() -> None:
    job = driver.Job("cbor", 0, 10)
    counts, failures = driver.read(job, "@0\n@1\nMemoryError: no\n", "the process ended with 1")
    assert counts == {"FAILED": 1} and failures[0]["number"] == 1 and failures[0]["trace"] == ["MemoryError: no"]
    counts, failures = driver.read(job, '@0\n@1\n={"refused": 2}\n', "the process ended with 0")
    assert counts == {"refused": 2} and not failures


def test_every_mutant_of_a_run_is_there_once() -> None:
    jobs = driver.jobs(5000)
    numbers = [(job.target, number) for job in jobs for number in range(job.first, job.first + job.count)]
    assert len(numbers) == len(set(numbers)) >= 5000
    assert {target for target, _ in numbers} == set(driver.SHARES)
    assert {job.target for job in driver.jobs(10, ("index",))} == {"index"}
