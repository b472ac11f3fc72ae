"""A product for the tests of the host tools, and the CLI in this process or in one of its own."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

from click.testing import CliRunner

from gatehouse_tools import build, ca, cli, lms_keys, product

TOOLS = pathlib.Path(cli.__file__).resolve().parents[1]
APPLICATION = {
    "app.py": "from access import policy\n\n\ndef run(boot):\n    print(policy.NAME, boot)\n",
    "access/policy.py": "NAME = 'closed'\n" + "".join(f"RULE_{n} = 'nobody may do this'\n" for n in range(40)),
    "data/words.txt": "one two three\n" * 50,
}

BARE_BOARD = 'chip = "unix"\nled = false\nbutton = false\n'  # of a board.toml, to which model and flash_size belong


def source(folder: pathlib.Path, files: dict[str, str] | None = None) -> pathlib.Path:
    """A small application's source."""
    for name, text in (APPLICATION if files is None else files).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


H5 = lms_keys.Parameters(height=5)  # quick to make


def make(folder: pathlib.Path, name: str = "shop", domain: str = "example.com", **kinds: str) -> product.Product:
    """A new product whose application is the small one, as `gatehouse init` makes it, with ECDSA keys.

    kinds: other ones, such as root="lms" or release="ecdsa lms"; HSS/LMS keys are small ones.
    """
    product.create(folder, name, domain, ["unix"], None, {role: kind.split() for role, kind in kinds.items()}, H5)
    ca.create(folder / "ca", name)
    source(folder / "application")
    path = folder / "product.toml"
    path.write_text(path.read_text().replace('# firmware = "../firmware"', 'firmware = "application"'))
    return product.Product(folder)


def real(folder: pathlib.Path, board: str = "ESP32_GENERIC_S3") -> product.Product:
    """A product for a real board, with release 1.0.0, whose broker and packs are elsewhere."""
    item = make(folder)
    path = folder / "product.toml"
    text = path.read_text().replace('boards = ["unix"]', f'boards = ["{board}"]')
    path.write_text(
        text.replace('"localhost"', '"broker.example.com"').replace("//localhost:8080", "//packs.example.com")
    )
    item = product.Product(folder)
    release(item, "1.0.0")
    return item


def command(name: str):
    """One command of the CLI, to look at its options."""
    return cli.load(name)


def release(item: product.Product, version: str, **more) -> build.Release:
    """A signed release of the product's application."""
    return build.release(item, build.build(item.firmware, item.name, version, domain=item.domain), version, **more)


@dataclasses.dataclass
class Result:
    """What a call of the CLI left: exit code, both streams."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)

    def refused(self, code: int, *words: str) -> None:
        """Assert the form of every error: this exit code, one line on stderr with these words, no traceback."""
        assert self.code == code, (self.code, self.out, self.err)
        lines = self.err.strip().splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("gatehouse: "), lines
        for word in words:
            assert word in lines[0], lines
        assert "Traceback" not in self.err and "internal error" not in self.err


def run(*arguments: object, stdin: str | None = None, **env: str) -> Result:
    """The CLI in this process."""
    environment = {"GATEHOUSE_PRODUCT": "", "NO_COLOR": "1", **env}
    done = CliRunner().invoke(cli.main, [str(one) for one in arguments], env=environment, input=stdin)
    return Result(done.exit_code, done.stdout, done.stderr)


def start(*arguments: object, cwd: pathlib.Path, **env: str) -> Result:
    """The CLI as a program of its own."""
    environment = os.environ | {"PYTHONPATH": str(TOOLS)} | env
    environment.pop("GATEHOUSE_PRODUCT", None)
    command = [sys.executable, "-m", "gatehouse_tools", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return Result(done.returncode, done.stdout, done.stderr)
