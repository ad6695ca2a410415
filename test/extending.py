"""The code that docs/extending.md shows, so that the tests try what a reader is told to write."""

import re
import textwrap

from checkout import ROOT


def shown(section):
    """The Python blocks of a section, in order."""
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    (body,) = re.findall(rf"^## {section}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for block in re.findall(r"^```python\n(.*?)^```$", body, re.MULTILINE | re.DOTALL)]


def defined(block, module):
    """What a block defines when it stands in a module, which stays as it is."""
    names = dict(vars(module))
    exec(block, names)
    return {name: value for name, value in names.items() if vars(module).get(name) is not value}


def with_field(line, kind, module):
    """A subclass of a dataclass of settings with one field more."""
    names = {**vars(module), "Base": kind}
    exec(f"@dataclass(frozen=True)\nclass Extended(Base):\n{textwrap.indent(line, '    ')}", names)
    return names["Extended"]
