"""A configuration as people read it: the crawl.toml that a DIR keeps, and the one that `coord init` writes.

Secrets are masked. What is written here `common/configfile.py` reads back.
"""

from __future__ import annotations

from collections.abc import Iterator

from common.config import OPTIONS, CrawlConfig
from common.hostrules import RULE_OPTIONS
from common.masking import masked
from common.options import quoted
from common.tuning import TUNING, Tuning


def config_to_toml(config: CrawlConfig) -> str:
    """The configuration in force, as DIR/crawl.toml keeps it, with secrets masked."""
    lines = [
        "# The configuration of this crawl, as it was last started. What is given with the same --out",
        "# as a flag, a SHOAL_* variable or in a --config file goes before what stands here.",
    ]
    group = ""
    for name, described_as in OPTIONS.items():
        if not described_as.kept or (name == "extract" and config.extractors):
            continue
        if described_as.group != group:
            group = described_as.group
            lines += ["", f"# {group}"]
        lines.append(f"{name} = {shown(name, config)}")
        if name == "extract" and config.code is not None:
            lines.append(f"# {config.code.file}: sha256 {config.code.digest}")
    if config.extractors:
        lines += ["", "[extract]", f"function = {shown('extract', config)}"]
        if config.code is not None:
            lines.append(f"# {config.code.file}: sha256 {config.code.digest}")
        for extractor in config.extractors:
            lines += ["", *extractor.to_toml()]
    for rule in config.host:
        lines += ["", "[[host]]", f"match = {quoted(rule.match)}"]
        lines += [
            f"{name} = {RULE_OPTIONS[name].to_toml(masked(name, value))}"
            for name, value in ((name, getattr(rule, name)) for name in RULE_OPTIONS)
            if value is not None
        ]
    changed = [
        f"{name} = {described_as.to_toml(getattr(config.tuning, name))}"
        for name, described_as in TUNING.items()
        if getattr(config.tuning, name) != getattr(Tuning(), name)
    ]
    if changed:
        lines += ["", "[tuning]", *changed]
    return "\n".join(lines) + "\n"


def commented_file() -> str:
    """What `coord init` writes: every option, commented out at its default, with what it does and why."""
    lines = [
        "# Configuration of a Shoal crawl: coord crawl SEED... --out DIR --config crawl.toml",
        "#",
        *_wrapped(
            "Every option is here at its default; take the # away from those you change. Each is also a "
            "flag (max_pages: --max-pages) and an environment variable (SHOAL_MAX_PAGES). A flag goes before "
            "a variable, that before this file. Times: 1.5, 30s, 5m, 2h. Sizes: 65536, 512KiB, 16MiB, 2GiB. "
            'No limit: "none".'
        ),
    ]
    group = ""
    for name, of in OPTIONS.items():
        if of.group != group:
            group = of.group
            lines += ["", f"# ---- {group} ----"]
        choices = (
            f" One of: {', '.join(of.kind.choices)}." if of.kind.choices and len(of.kind.choices) < 8 else ""
        )
        lines += [
            "",
            *_wrapped(f"{of.help[0].upper()}{of.help[1:]}.{choices}"),
            *_wrapped(f"Default: {of.why}."),
        ]
        lines.append(f"#{name} = {of.to_toml(getattr(CrawlConfig(), name))}")
    lines += [
        "",
        "# ---- Single hosts ----",
        "",
        *_wrapped(
            "One table for each rule; match is a shell pattern for the whole host name. All that match "
            "apply, and the last one that says something wins: general rules first."
        ),
        "#[[host]]",
        '#match = "*.gov.uk"',
        "#delay = 5",
        "#per_host = 1",
        "#blocked = true                     # fetch nothing of it",
        '#header = ["Authorization: Basic ..."]',
        '#proxy = ["socks5://127.0.0.1:1080"]',
        "",
        "# ---- Items without code ----",
        "",
        *_wrapped(
            "One table for each kind of item; they land in items/NAME. A field is found by css:, xpath: or re:; in "
            "brackets it is a list of all that is found. With a function as well, write extract = ... above "
            "as function = ... in a section [extract]."
        ),
        "#",
        "#     [extract.books]",
        '#     match = "/book/"                 # regular expression for the URL; none: every page',
        '#     each = "css:li.offer"            # an item for each of these; none: one for the page',
        '#     title = "css:h1"',
        '#     price = "re:([0-9.]+) EUR"',
        '#     pictures = ["css:img::attr(src)"]',
        "",
        "# ---- Numbers you should not need ----",
        "",
        "#[tuning]",
    ]
    for name, of in TUNING.items():
        lines += [*_wrapped(f"{of.help[0].upper()}{of.help[1:]}. Default: {of.why}.")]
        lines.append(f"#{name} = {of.to_toml(getattr(Tuning(), name))}")
    return "\n".join(lines) + "\n"


def shown(name: str, config: CrawlConfig) -> str:
    """An option's value in the form of TOML, secrets masked."""
    return OPTIONS[name].to_toml(masked(name, getattr(config, name)))


def _wrapped(text: str) -> Iterator[str]:
    line = "#"
    for word in text.split():
        if len(line) + len(word) > 108:
            yield line
            line = "#"
        line += " " + word
    yield line
