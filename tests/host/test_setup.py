"""Set-up (tools/setup, Makefile): which way it takes on which machine, what it does not do twice, how it says no."""

import ast
import fcntl
import hashlib
import importlib
import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
SETUP = ROOT / "tools" / "setup"
MODULES = ("environment", "packages", "optional", "mosquitto", "stubs", "umqtt_sdist", "peer_sdist", "microdot_sdist")


def program(path, text="exit 0"):
    """An executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """The set-up's modules, loaded from a copy of the repository that holds nothing else; `bin` is all of PATH."""
    root = tmp_path / "clone"
    shutil.copytree(SETUP, root / "tools" / "setup", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.syspath_prepend(root / "tools" / "setup")
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    modules = {name: importlib.import_module(name) for name in MODULES}
    yield SimpleNamespace(root=root, bin=tmp_path / "bin", **modules)
    for name in MODULES:
        sys.modules.pop(name, None)


def machine(clone, monkeypatch, version=(3, 11), arch="x86_64", venv=True):
    """Let `clone` see another Python and machine."""
    found = SimpleNamespace(
        version_info=(*version, 0), executable="/usr/bin/python3", platform="linux", stderr=sys.stderr
    )
    monkeypatch.setattr(clone.environment, "sys", found)
    monkeypatch.setattr(clone.environment.platform, "machine", lambda: arch)
    monkeypatch.setattr(clone.environment, "has_venv", lambda: venv)


# Which way: the Python, its machine, its venv module, what is on PATH -> "venv", "uv", or a part of the one line.
WAYS = {
    "the wheel fits": ((3, 11), "x86_64", True, (), "venv"),
    "the wheel fits, uv is not asked": ((3, 11), "x86_64", True, ("uv",), "venv"),
    "newer, uv brings 3.11": ((3, 13), "x86_64", True, ("uv",), "uv"),
    "newer, uv wins over PATH": ((3, 13), "x86_64", True, ("uv", "micropython"), "uv"),
    "newer, PATH serves": ((3, 12), "x86_64", True, ("micropython",), "venv"),
    "newer, nothing": ((3, 12), "x86_64", True, (), "no MicroPython for Python 3.12 on x86_64"),
    "newer, a MicroPython without LittleFS": ((3, 12), "x86_64", True, ("poor",), "none on PATH serves: install uv"),
    "no wheel for this machine, PATH serves": ((3, 11), "aarch64", True, ("micropython",), "venv"),
    "no wheel for this machine, uv cannot help": ((3, 11), "aarch64", True, ("uv",), "for Python 3.11 on aarch64"),
    "too old": ((3, 9), "x86_64", True, (), "Python 3.11 or newer is needed and /usr/bin/python3 is 3.9"),
    "too old, uv brings 3.11": ((3, 9), "x86_64", True, ("uv",), "uv"),
    "no venv module": ((3, 11), "x86_64", False, (), "apt-get install python3-venv"),
    "no venv module, uv brings one": ((3, 11), "x86_64", False, ("uv",), "uv"),
}


@pytest.mark.parametrize("case", WAYS)
def test_way_to_an_environment(clone, monkeypatch, case):
    version, arch, venv, found, expected = WAYS[case]
    machine(clone, monkeypatch, version, arch, venv)
    for name in found:
        program(clone.bin / ("micropython" if name == "poor" else name), "exit 1" if name == "poor" else "exit 0")
    if expected in ("venv", "uv"):
        assert clone.environment.choose() == expected
    else:
        with pytest.raises(clone.environment.SetupError) as caught:
            clone.environment.choose()
        assert expected in str(caught.value)
        assert "\n" not in str(caught.value)


def test_this_python_is_probed_for_real(clone):
    assert clone.environment.has_venv() == (subprocess.call([sys.executable, "-c", "import venv, ensurepip"]) == 0)
    assert clone.environment.micropython_on_path() is None
    found = program(clone.bin / "micropython", '[ "$2" = "import vfs, tls, asyncio; vfs.VfsLfs2" ]')
    assert clone.environment.micropython_on_path() == str(found)


def test_old_pythons_can_read_what_tells_them_so():
    ast.parse((SETUP / "environment.py").read_text(), feature_version=(3, 6))


def test_a_path_that_the_locale_cannot_spell_is_one_line(clone, monkeypatch, capsys):
    machine(clone, monkeypatch)
    monkeypatch.setattr(clone.environment, "ROOT", "/home/j\u00e4ger/gatehouse")
    for codeset in ("ANSI_X3.4-1968", "ISO-8859-1"):  # no such letter; or another one by the same bytes
        monkeypatch.setattr(clone.environment.locale, "nl_langinfo", lambda item, name=codeset: name)
        with pytest.raises(clone.environment.SetupError, match=r"export LC_ALL=C\.UTF-8"):
            clone.environment.check_spelling()
    monkeypatch.setattr(clone.environment.locale, "nl_langinfo", lambda item: "UTF-8")
    clone.environment.check_spelling()
    monkeypatch.setattr(clone.environment.locale, "nl_langinfo", lambda item: "ANSI_X3.4-1968")
    monkeypatch.setattr(clone.environment, "ROOT", "/home/jager/gatehouse")
    clone.environment.check_spelling()


def fake_uv(clone):
    """A `uv` whose environments have a Python that does nothing; it notes its arguments."""
    program(clone.bin / "python")
    program(
        clone.bin / "uv",
        f"""
        echo "$*" >> {clone.bin}/uv.log
        for target; do :; done
        /bin/mkdir -p "$target/bin"
        /bin/cp {clone.bin}/python "$target/bin/"
        """,
    )


def test_uv_makes_the_environment_once(clone, monkeypatch, capsys):
    machine(clone, monkeypatch, (3, 13))
    fake_uv(clone)
    assert clone.environment.main("demo") == 0
    assert clone.environment.main("demo") == 0
    assert (clone.bin / "uv.log").read_text() == f"venv --quiet --seed --python 3.11 {clone.root}/.venv\n"
    said = capsys.readouterr().err
    assert said.count("by uv") == 1
    assert said.count("ready for demo in") == 2


@pytest.mark.parametrize("damage", ["moved", "unfinished", "no python"])
def test_environment_that_is_no_good_is_made_anew(clone, monkeypatch, damage):
    machine(clone, monkeypatch, (3, 13))
    fake_uv(clone)
    assert clone.environment.main("demo") == 0
    marker = Path(clone.environment.MARKER)
    if damage == "moved":
        marker.write_text(json.dumps({"path": "/elsewhere/.venv", "way": "uv"}))
    elif damage == "unfinished":
        marker.unlink()
    else:
        (clone.root / ".venv/bin/python").unlink()
    (clone.root / ".venv/rubbish").touch()
    assert clone.environment.main("demo") == 0
    assert (clone.bin / "uv.log").read_text().count("\n") == 2
    assert not (clone.root / ".venv/rubbish").exists()


def said(capsys):
    """What set-up told the user; a traceback is never part of it."""
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return text


def test_uv_without_network_is_one_line(clone, monkeypatch, capsys):
    machine(clone, monkeypatch, (3, 13))
    program(clone.bin / "uv", "echo 'error: Failed to download'; echo '  Caused by: dns error'; exit 2")
    assert clone.environment.main("demo") == 1
    assert said(capsys).splitlines()[-1] == "Set-up: uv could not make .venv: Caused by: dns error"
    assert not clone.environment.usable()


def test_directory_that_cannot_be_written(clone, monkeypatch, capsys):
    monkeypatch.setattr(clone.environment.os, "access", lambda path, mode: False)
    assert clone.environment.main("demo") == 1
    assert said(capsys) == f"Set-up: {clone.root} is not writable: work in a clone of your own\n"


def test_full_or_broken_disk_is_one_line(clone, capsys):
    (clone.root / "build").write_text("a file where the folder should be")
    assert clone.environment.main("demo") == 1
    assert re.fullmatch(r"Set-up: \S+/build: File exists\n", said(capsys))


def test_second_setup_waits_for_the_first(clone, monkeypatch, capsys):
    machine(clone, monkeypatch, (3, 13))
    fake_uv(clone)
    waiting = threading.Event()
    monkeypatch.setattr(clone.environment, "say", lambda text: waiting.set() if "waiting" in text else None)
    (clone.root / "build").mkdir()
    with (clone.root / "build/setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = threading.Thread(target=clone.environment.main, args=("demo",), daemon=True)
        second.start()
        assert waiting.wait(20)
        assert not (clone.bin / "uv.log").exists()
    second.join(20)
    assert (clone.bin / "uv.log").exists()


# Steps and stamps.


@pytest.fixture
def step(clone):
    """A step with one input and one result; `done` counts how often it was done."""
    given, result = clone.root / "given", clone.root / "result"
    given.write_text("1")
    done = []

    def do():
        done.append(given.read_text())
        result.touch()

    clone.packages.STAMPS.mkdir(parents=True)
    made = clone.packages.Step("step", "doing", (given,), result.exists, do)
    return SimpleNamespace(step=made, run=lambda: clone.packages.run(made), given=given, result=result, done=done)


def test_step_is_done_once(step):
    step.run()
    step.run()
    assert step.done == ["1"]


def test_step_is_done_again_when_its_input_changes_or_its_result_is_gone(step):
    step.run()
    step.given.write_text("2")
    step.run()
    step.result.unlink()
    step.run()
    assert step.done == ["1", "2", "2"]


def test_failed_step_is_done_again(clone, step):
    step.run()
    step.given.write_text("2")
    broken = step.step._replace(do=lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        clone.packages.run(broken)
    step.given.write_text("1")  # its stamp of the first run must not count any more
    step.run()
    assert step.done == ["1", "1"]


def test_what_the_machine_has_already_is_not_installed(clone, step):
    clone.packages.run(step.step._replace(inputs=(), present=lambda: True))
    assert step.done == []


def pip_that(clone, monkeypatch, text):
    """Let `packages` run this script as its Python."""
    clone.packages.BUILD.mkdir()
    python = program(clone.bin / "fake-python", text)
    monkeypatch.setattr(clone.packages, "sys", SimpleNamespace(executable=str(python), version=sys.version))


def test_no_network_is_one_line(clone, monkeypatch, capsys):
    pip_that(
        clone,
        monkeypatch,
        "echo 'Retrying after NewConnectionError: Temporary failure'; echo 'ERROR: No match'; exit 1",
    )
    clone.packages.STAMPS.parent.mkdir()
    assert clone.packages.main("demo") == 1
    lines = said(capsys).splitlines()
    assert lines[1:] == [
        "Set-up: no package index can be reached; the first set-up needs the network (see build/setup.log)"
    ]
    assert "Temporary failure" in (clone.root / "build/setup.log").read_text()


def test_package_that_is_refused_is_one_line(clone, monkeypatch):
    pip_that(clone, monkeypatch, "echo 'ERROR: THESE PACKAGES DO NOT MATCH THE HASHES'; exit 1")
    with pytest.raises(clone.packages.SetupError, match="pip failed: THESE PACKAGES DO NOT MATCH THE HASHES"):
        clone.packages.install(SETUP / "lock" / "base.txt")


def test_pip_checks_hashes_and_installs_into_the_environment(clone, monkeypatch):
    monkeypatch.setenv("PIP_USER", "1")
    pip_that(clone, monkeypatch, 'echo "$* PIP_USER=$PIP_USER"')
    clone.packages.install(Path("lock.txt"))
    logged = (clone.root / "build/setup.log").read_text()
    assert logged == "-m pip install --require-hashes --no-deps -r lock.txt PIP_USER=0\n"


def test_lock_files_pin_every_package_and_name_no_host():
    for lock in (SETUP / "lock").iterdir():
        text = lock.read_text()
        assert "://" not in text
        assert "--index-url" not in text
        entries = re.findall(r"^[^\s#].*?(?=^[^\s#]|\Z)", text, re.MULTILINE | re.DOTALL)
        assert entries
        for entry in entries:
            assert re.match(r"[A-Za-z0-9._-]+==[^\s;]+ ", entry), entry
            assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), entry


def test_lock_files_hold_what_the_project_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = {"base": project["project"]["dependencies"] + project["dependency-groups"]["setup"]}
    asked |= {
        name: project["dependency-groups"][name]
        for name in ("test", "lint", "typings", "typings-s3", "typings-c3", "typings-c6")
    }
    for name, requirements in asked.items():
        text = (SETUP / "lock" / f"{name}.txt").read_text()
        locked = {
            canonicalize_name(found[1]): found[2] for found in re.finditer(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE)
        }
        for requirement in map(Requirement, requirements):
            assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), requirement


# umqtt.simple.


def sdist(*members):
    """A .tar.gz of (name, content, kind)."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for name, content, kind in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd" if kind == tarfile.SYMTYPE else ""
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return data.getvalue()


MEMBER = "micropython-umqtt.simple-1.3.4/umqtt/simple.py"


def pinned(clone, monkeypatch, archive):
    """Let `archive` be the pinned one."""
    monkeypatch.setattr(clone.umqtt_sdist, "SHA256", hashlib.sha256(archive).hexdigest())
    return archive


def test_umqtt_is_the_offered_file_with_the_pinned_hash(clone, monkeypatch, tmp_path):
    good = pinned(clone, monkeypatch, sdist((MEMBER, b"good", tarfile.REGTYPE), ("../escape", b"x", tarfile.REGTYPE)))
    other = sdist((MEMBER, b"another", tarfile.REGTYPE))
    target = tmp_path / "umqtt"
    clone.umqtt_sdist.fetch(target, [other, good])
    assert (target / "umqtt/simple.py").read_bytes() == b"good"
    assert clone.umqtt_sdist.ready(target)
    assert sorted(path.name for path in target.rglob("*")) == ["simple.py", "stamp", "umqtt"]
    assert not (tmp_path / "escape").exists()
    (target / "umqtt/simple.py").write_bytes(b"changed")
    assert not clone.umqtt_sdist.ready(target)


@pytest.mark.parametrize("offered", [[], [sdist((MEMBER, b"another", tarfile.REGTYPE))]])
def test_umqtt_of_another_hash_is_not_even_opened(clone, monkeypatch, tmp_path, offered):
    monkeypatch.setattr(clone.umqtt_sdist, "module_of", lambda data: pytest.fail("unpacked before it was verified"))
    with pytest.raises(clone.umqtt_sdist.FetchError, match="with the pinned SHA-256"):
        clone.umqtt_sdist.fetch(tmp_path / "umqtt", offered)
    assert not (tmp_path / "umqtt").exists()


@pytest.mark.parametrize(
    "member",
    [("elsewhere", b"", tarfile.REGTYPE), (MEMBER, b"", tarfile.SYMTYPE), (MEMBER, b"x" * 65537, tarfile.REGTYPE)],
    ids=["absent", "link", "too long"],
)
def test_umqtt_member_that_is_no_module(clone, monkeypatch, tmp_path, member):
    archive = pinned(clone, monkeypatch, sdist(member))
    with pytest.raises(clone.umqtt_sdist.FetchError):
        clone.umqtt_sdist.fetch(tmp_path / "umqtt", [archive])
    assert not (tmp_path / "umqtt").exists()


def test_peer_is_the_offered_file_with_the_pinned_hash(clone, monkeypatch, tmp_path):
    good = sdist(("micropython_ota-2.1.0/micropython_ota.py", b"good", tarfile.REGTYPE))
    monkeypatch.setattr(clone.peer_sdist, "SHA256", hashlib.sha256(good).hexdigest())
    target = tmp_path / "peer"
    with pytest.raises(clone.umqtt_sdist.FetchError, match="with the pinned SHA-256"):
        clone.peer_sdist.fetch(target, [good + b"\0"])
    assert not target.exists()
    clone.peer_sdist.fetch(target, [good])
    assert (target / "micropython_ota.py").read_bytes() == b"good" and clone.peer_sdist.ready(target)
    (target / "micropython_ota.py").write_bytes(b"changed")
    assert not clone.peer_sdist.ready(target)


def test_microdot_is_the_offered_file_with_the_pinned_hash(clone, monkeypatch, tmp_path):
    members = clone.microdot_sdist._MEMBERS
    good = sdist(*((members[name], name.encode(), tarfile.REGTYPE) for name in members))
    monkeypatch.setattr(clone.microdot_sdist, "SHA256", hashlib.sha256(good).hexdigest())
    target = tmp_path / "microdot"
    with pytest.raises(clone.umqtt_sdist.FetchError, match="with the pinned SHA-256"):
        clone.microdot_sdist.fetch(target, [good + b"\0"])
    assert not target.exists()
    clone.microdot_sdist.fetch(target, [good])
    assert sorted(path.name for path in target.iterdir()) == ["LICENSE", "microdot.py", "stamp"]
    assert (target / "microdot.py").read_bytes() == b"microdot.py" and clone.microdot_sdist.ready(target)
    for name in members:
        (target / name).write_bytes(b"changed")
        assert not clone.microdot_sdist.ready(target)
        (target / name).write_bytes(name.encode())
        assert clone.microdot_sdist.ready(target)


def test_pip_configuration_decides_where_umqtt_comes_from(clone):
    listing = """:env:.find-links='/wheels'
global.cert='/ca.pem'
global.extra-index-url='file:///one/simple file:///two/simple'
global.find-links='/never'
global.index-url='file:///first/simple'
install.index-url='file:///second/simple'
list.format='columns'
"""
    config = clone.umqtt_sdist.parse_pip_config(listing)
    assert config["cert"] == ["/ca.pem"]
    assert "format" not in config
    indexes = ["file:///second/simple", "file:///one/simple", "file:///two/simple"]
    assert clone.umqtt_sdist.sources(config, "default") == (indexes, ["/wheels"])
    assert clone.umqtt_sdist.sources({}, "default") == (["default"], [])
    assert clone.umqtt_sdist.sources({**config, "no-index": ["1"]}, "default") == ([], ["/wheels"])


def test_umqtt_is_found_through_an_index_of_the_user(clone, monkeypatch, tmp_path):
    archive = pinned(clone, monkeypatch, sdist((MEMBER, b"good", tarfile.REGTYPE)))
    page = tmp_path / "simple" / "micropython-umqtt-simple"
    page.mkdir(parents=True)
    (page / "micropython-umqtt.simple-1.3.4.tar.gz").write_bytes(archive)
    (page / "index.html").write_text('<a href="micropython-umqtt.simple-1.3.4.tar.gz">sdist</a>')
    config = {"index-url": [(tmp_path / "simple").as_uri()]}
    assert list(clone.umqtt_sdist.candidates(config)) == [archive]


# Mosquitto, stubs, Makefile.


def test_mosquitto_needs_root(clone, monkeypatch):
    monkeypatch.setattr(clone.mosquitto.os, "geteuid", lambda: 1000)
    with pytest.raises(clone.mosquitto.InstallError, match=r"^the tests need Mosquitto: apt-get install mosquitto"):
        clone.mosquitto.install()


def apt(clone, monkeypatch, tmp_path, works):
    """A fake apt-get that notes each call and whether services were forbidden to start; root; no mosquitto."""
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(clone.mosquitto.os, "geteuid", lambda: 0)
    monkeypatch.setattr(clone.mosquitto, "present", lambda: (tmp_path / "installed").exists())
    program(
        clone.bin / "apt-get",
        f"""
        echo "$5 $({policy}; echo $?)" >> {tmp_path}/apt.log
        [ "$5" = update ] && : > {tmp_path}/updated && exit 0
        if {works}; then : > {tmp_path}/installed; else echo 'E: Unable to locate package'; exit 100; fi
        """,
    )
    return policy


def test_mosquitto_is_installed_without_starting_it(clone, monkeypatch, tmp_path):
    policy = apt(clone, monkeypatch, tmp_path, f"[ -e {tmp_path}/updated ]")
    clone.mosquitto.install(policy)
    assert (tmp_path / "apt.log").read_text().split("\n")[:3] == ["install 101", "update 101", "install 101"]
    assert not policy.exists()


def test_mosquitto_that_apt_does_not_have(clone, monkeypatch, tmp_path):
    policy = apt(clone, monkeypatch, tmp_path, "false")
    with pytest.raises(clone.mosquitto.InstallError, match="could not install mosquitto: E: Unable to locate package"):
        clone.mosquitto.install(policy)
    assert not policy.exists()


@pytest.mark.parametrize("name", ["CHROMIUM", "NMAP"])
def test_program_of_one_test_is_installed_for_root_and_left_out_for_others(clone, monkeypatch, tmp_path, name):
    wanted = getattr(clone.optional, name)
    policy = apt(clone, monkeypatch, tmp_path, "true")
    monkeypatch.setattr(clone.mosquitto, "POLICY", policy)
    monkeypatch.setattr(clone.optional.Program, "present", lambda self: (tmp_path / "installed").exists())
    assert not wanted.settled()
    wanted.install()
    assert wanted.settled()
    (tmp_path / "installed").unlink()
    monkeypatch.setattr(clone.optional.os, "geteuid", lambda: 1000)
    assert wanted.settled(), "its tests skip, and say so"


def test_policy_of_the_owner_stays(clone, tmp_path):
    policy = program(tmp_path / "policy-rc.d", "exit 0")
    with clone.mosquitto.no_service_start(policy):
        assert policy.read_text() == "#!/bin/sh\nexit 0\n"
    assert policy.exists()


def test_stubs_are_patched_or_the_change_is_told(clone, tmp_path):
    for each in clone.stubs.PATCHES:
        (tmp_path / each.file).write_text(f"first\n{each.old}last\n")
    clone.stubs.patch(tmp_path)
    for each in clone.stubs.PATCHES:
        assert (tmp_path / each.file).read_text() == f"first\n{each.new}last\n"
    one = clone.stubs.PATCHES[0]
    for text in ("", one.old * 2):
        (tmp_path / one.file).write_text(text)
        with pytest.raises(clone.stubs.PatchError, match=one.file):
            clone.stubs.patch(tmp_path)
        assert (tmp_path / one.file).read_text() == text


@pytest.fixture
def makefile(tmp_path):
    """The Makefile alone, with a set-up that does nothing and a `gatehouse` that prints its arguments and exits 3."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    program(tmp_path / ".venv/bin/gatehouse", 'echo "gatehouse $*"; exit 3')
    # Without what a make around this test run was told.
    told = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "ARGS", "NAME", "PYTHON", "BENCHES")
    environment = {key: value for key, value in os.environ.items() if key not in told}
    return {"cwd": tmp_path, "env": environment}


def test_demo_without_a_terminal_runs_once_and_gives_its_exit_code(makefile):
    command = ["make", "demo", "PYTHON=true", "ARGS=--json"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **makefile)
    assert done.stdout == "gatehouse demo --once --json\n"
    assert done.returncode == 2  # make's own code for "a command failed"


@pytest.mark.parametrize("option", ["--port 9000", "--port=9000", "--no-story", "--replay", "--device /dev/null"])
def test_what_cannot_run_once_is_left_as_it_is(makefile, option):
    command = ["make", "demo", "PYTHON=true", f"ARGS={option}"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **makefile)
    assert done.stdout == f"gatehouse demo {option}\n"


def test_demo_in_a_terminal_stays(makefile):
    ours, theirs = pty.openpty()
    with subprocess.Popen(["make", "demo", "PYTHON=true"], stdin=theirs, stdout=theirs, stderr=theirs, **makefile):
        os.close(theirs)
        assert os.read(ours, 100).splitlines()[0] == b"gatehouse demo"
    os.close(ours)


def test_machine_without_python(makefile):
    done = subprocess.run(["make", "test", "PYTHON=no-such"], capture_output=True, text=True, check=False, **makefile)
    assert done.stderr.splitlines()[0] == "Set-up: there is no no-such: apt-get install python3 python3-venv"
    assert done.returncode == 2


def test_help_lists_every_target(makefile):
    done = subprocess.run(["make"], capture_output=True, text=True, check=False, **makefile)
    targets = set(re.findall(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split())
    assert set(re.findall(r"^make (\w+)", done.stdout, re.MULTILINE)) == targets
