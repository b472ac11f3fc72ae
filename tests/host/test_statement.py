"""The statement for customers says all that is asked, or nothing."""

from __future__ import annotations

import datetime
import html.parser
import pathlib
import re

import pytest
import shop

from gatehouse_tools import product, statement, statement_fields
from gatehouse_tools.errors import GatehouseError

TODAY = datetime.date(2026, 11, 26)


@pytest.fixture
def item(tmp_path: pathlib.Path) -> product.Product:
    """The product of the demonstration, whose statement is filled in."""
    found = shop.make(tmp_path / "shop", domain="gatehouse.example")
    shop.release(found, "1.0.0")
    return found


def edit(item: product.Product, pattern: str, text: str) -> product.Product:
    """The product with the one line of product.toml that matches replaced."""
    path = item.root / "product.toml"
    changed, count = re.subn(rf"^{pattern}.*$", lambda _: text, path.read_text(), flags=re.MULTILINE)
    assert count == 1, pattern
    path.write_text(changed)
    return product.Product(item.root)


def capabilities(item: product.Product) -> dict[str, str]:
    """Each capability with how to use it."""
    blocks = dict(statement.make(item, TODAY).sections)["What it can do, and how to use it"]
    return dict(one for one in blocks[0] if isinstance(one, tuple))


def test_it_says_all_that_is_asked(item: product.Product) -> None:
    text = statement.markdown(statement.make(item, TODAY))
    plain = text.replace("\\", "")
    for name, field in statement_fields.FIELDS.items():
        for part in field.example if isinstance(field.example, list) else [field.example]:
            assert str(part) in plain, name
    begin, end = statement_fields.support(item.data["product"])
    assert f"{begin}" in plain and f"{end}" in plain
    assert "security@gatehouse.example" in plain
    assert "within 3 days" in plain and "every 14 days" in plain
    assert "UNIX_SIM" in plain and "1.0.0 of 20" in plain
    for title in ("assumed", "how to use", "Network", "Support", "Updates", "vulnerability", "erase", "End of life"):
        assert re.search(rf"^## .*{title}", text, re.MULTILINE), title
    for operation in ("erase", "update.install", "config.restore", "password.change", "interface.set"):
        assert operation in plain


def test_each_capability_says_how_to_use_it(item: product.Product) -> None:
    opened = edit(item, 'groups = \\["all"\\]', 'interfaces = ["uart", "https", "home-assistant"]')
    told = capabilities(opened)
    assert all(len(text) > 30 for text in told.values())
    assert "console" in told["First start"] and "https://" in told["First start"]
    assert "Home Assistant" in told and "A password is lost" not in told
    shut = edit(opened, "interfaces = ", 'interfaces = ["mqtt-commands"]')
    told = capabilities(shut)
    assert "neither console nor page" in told["First start"]


def test_operations_that_it_names_are_there() -> None:
    catalogue = (pathlib.Path(statement.__file__).parents[2] / "docs" / "access.md").read_text()
    text = pathlib.Path(statement.__file__).read_text()
    named = set(re.findall(r"\b(?:password|user|update|config|wifi|interface)\.(?:[a-z]+)\b", text))
    named -= {"config.interfaces", "config.updates", "config.window"}  # settings of the configuration, in the code
    assert len(named) > 8
    assert [name for name in named if f"| `{name}` |" not in catalogue] == []


@pytest.mark.parametrize("name", list(statement_fields.FIELDS))
def test_each_missing_field_is_named_and_nothing_is_written(item: product.Product, name: str) -> None:
    edit(item, f"{name} = ", "")
    done = shop.run("statement", "--product", item.root)
    done.refused(1, f"[statement] {name} is missing", "nothing was written", "[missing]")
    assert not list(item.dist.glob("*statement*"))
    assert not (item.dist / "security.txt").exists()


@pytest.mark.parametrize(
    ("pattern", "line", "words"),
    [
        ("security_contact = ", "", "security_contact is missing"),
        ("security_contact = ", 'security_contact = "the office"', "security_contact"),
        ("support_until = ", "", "support_until is missing"),
        ("support_from = ", 'support_from = "soon"', "support_from"),
        ("news_days = ", "news_days = 0", "news_days is not 1 to 365"),
        ("news_days = ", 'news_days = "often"', "news_days is not a number"),
        ("news_days = ", "news_days = true", "news_days is not a number"),
        ("risks = ", 'risks = "none"', "risks is not a list of texts"),
        ("risks = ", "risks = []", "risks is missing"),
        ("announcements = ", 'announcements = "our blog"', "announcements is not an https:// address"),
        ("environment = ", 'enviroment = "indoors"', "enviroment is not known"),
        ("environment = ", 'environment = "FILL IN: where"', "environment is not filled in"),
    ],
)
def test_each_wrong_field_is_named(item: product.Product, pattern: str, line: str, words: str) -> None:
    edit(item, pattern, line)
    shop.run("statement", "--product", item.root).refused(1, words)


def test_a_new_product_has_to_fill_in_all_of_it(tmp_path: pathlib.Path) -> None:
    item = shop.make(tmp_path / "shop", domain="example.com")
    with pytest.raises(GatehouseError) as caught:
        statement.make(item, TODAY)
    for name in statement_fields.FIELDS:
        assert f"{name} is not filled in yet" in str(caught.value)


def test_the_demonstrations_product_says_that_it_is_an_example(item: product.Product) -> None:
    assert statement.make(item, TODAY).sections[0][0] == "Example"


@pytest.mark.parametrize("until", ["2026-01", "2020-12-31", "2031-13", "2031-02-30", "1"])
def test_a_support_period_that_is_none_is_refused(item: product.Product, until: str) -> None:
    edit(item, "support_from = ", 'support_from = "2026-11-26"')
    edit(item, "support_until = ", f'support_until = "{until}"')
    shop.run("statement", "--product", item.root).refused(1, "support_until")


@pytest.mark.parametrize(
    ("until", "warned"), [("2031-10", True), ("2031-11-24", True), ("2031-11-25", False), ("2031-11", False)]
)
def test_a_short_support_period_is_warned_about(item: product.Product, until: str, warned: bool) -> None:
    edit(item, "support_from = ", 'support_from = "2026-11-26"')
    made = statement.make(edit(item, "support_until = ", f'support_until = "{until}"'), TODAY)
    assert any("Cyber Resilience Act" in text for text in made.warnings) is warned


def test_a_period_may_begin_on_a_leap_day(item: product.Product) -> None:
    edit(item, "support_from = ", 'support_from = "2028-02-29"')
    assert statement.make(edit(item, "support_until = ", 'support_until = "2033-02"'), TODAY).warnings == []


def test_what_a_reader_would_ask_is_warned_about(item: product.Product) -> None:
    assert statement.make(item, TODAY).warnings == []
    assert "support ended" in statement.make(item, datetime.date(2099, 1, 1)).warnings[0]
    (item.root / "releases.json").unlink()
    assert "nothing was released yet" in statement.make(item, TODAY).warnings[0]


def test_security_txt_is_that_of_rfc_9116(item: product.Product) -> None:
    lines = statement.security_txt(item, TODAY).splitlines()
    fields = [line.partition(": ")[::2] for line in lines]
    names = [name for name, _ in fields]
    assert set(names) <= {"Acknowledgments", "Canonical", "Contact", "Encryption", "Expires", "Hiring", "Policy",
                          "Preferred-Languages"}  # fmt: skip
    assert names.count("Expires") == 1 and names.count("Preferred-Languages") == 1 and "Contact" in names
    told = dict(fields)
    assert told["Contact"] == "mailto:security@gatehouse.example"
    expires = datetime.datetime.fromisoformat(told["Expires"])
    assert expires.utcoffset() == datetime.timedelta()
    assert datetime.timedelta(300) < expires.date() - TODAY < datetime.timedelta(366)
    assert told["Canonical"] == "https://gatehouse.example/.well-known/security.txt"
    page = edit(item, "security_contact = ", 'security_contact = "https://gatehouse.example/report"')
    assert "Contact: https://gatehouse.example/report\n" in statement.security_txt(page, TODAY)


class Tags(html.parser.HTMLParser):
    """Every tag opens and closes in order; nothing is loaded from anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag != "meta":
            self.open.append(tag)
        assert not {name for name, _ in attrs} & {"src", "href", "onclick", "style"}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_is_whole_loads_nothing_and_takes_no_markup(item: product.Product) -> None:
    hostile = edit(item, "product = ", 'product = "<script>alert(1)</script> | *bold*"')
    made = statement.make(hostile, TODAY)
    tags = Tags()
    tags.feed(statement.page(made))
    assert tags.open == []
    assert "script" not in tags.seen and "table" in tags.seen
    assert "@media print" in statement.page(made)
    assert "url(" not in statement.page(made)
    assert "\\<script\\>" in statement.markdown(made) and "\\*bold\\*" in statement.markdown(made)


def test_the_command_writes_both_forms_and_security_txt(item: product.Product, tmp_path: pathlib.Path) -> None:
    done = shop.run("statement", "--json", "--product", item.root)
    assert done.code == 0, done.err
    assert [pathlib.Path(one).name for one in done.json["files"]] == [
        "shop-statement.html",
        "shop-statement.md",
        "security.txt",
    ]
    assert all(pathlib.Path(one).stat().st_size for one in done.json["files"])
    assert shop.run("statement", "--output", tmp_path / "out", "--product", item.root).code == 0
    assert (tmp_path / "out" / "security.txt").is_file()
