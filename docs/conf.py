"""How Sphinx builds the documentation: `make docs`."""

import inspect
import re
from contextlib import redirect_stdout, suppress
from io import StringIO
from typing import Any
from unittest.mock import patch

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import redraft
from redraft import cli

project = "redraft"
author = copyright = "The redraft contributors"
release = version = redraft.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"redraft {release}"
html_copy_source = False
myst_heading_anchors = 3
myst_enable_extensions = ["deflist", "fieldlist"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
smartquotes = False


class VerbHelp(SphinxDirective):
    """`{verb-help}`: what every verb of the command line says about itself."""

    def run(self) -> list[nodes.Node]:
        """One section per verb, with the text of `redraft VERB --help`."""
        sections: list[nodes.Node] = []
        for name, verb in cli.VERBS.items():
            section = nodes.section(ids=[nodes.make_id(f"redraft {name}")])
            section += nodes.title(text=f"redraft {name}")
            section += nodes.paragraph(text=verb.about + ".")
            section += nodes.literal_block(text=_help_of(name), language="text")
            sections.append(section)
        return sections


def _help_of(name: str) -> str:
    said = StringIO()
    with patch.dict("os.environ", COLUMNS="100", TERM="dumb"), redirect_stdout(said), suppress(SystemExit):
        cli.main([*name.split(), "--help"])
    return re.sub(r"\x1b\[[0-9;]*m", "", said.getvalue()).strip()


def readable_docstrings(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Our docstrings are plain text: `code` in single backticks, `argument: text` for arguments. Say so to Sphinx."""
    try:
        arguments = "|".join(inspect.signature(obj).parameters)
    except (TypeError, ValueError):
        arguments = ""
    paragraphs = [_escaped(" ".join(part.split())) for part in "\n".join(lines).split("\n\n")]
    lines[:] = [line for part in paragraphs for line in _fields(part, arguments)]


def _escaped(text: str) -> str:
    return re.sub(r"`([^`]+)`|([*|_@\\])", lambda m: f"``{m[1]}``" if m[1] else f"\\{m[2]}", text)


def _fields(text: str, arguments: str) -> list[str]:
    """A paragraph, or its sentences about arguments, results and errors as a list of fields."""
    sentences = re.split(r"(?:^|(?<=\. ))(?=(?:[\w\\]+, )*[\w\\]+: |Returns |Raises )", text)
    shown, fields = [], []
    for sentence in filter(None, sentences):
        names, _, about = sentence.partition(": ")
        known = [n for n in names.replace("\\", "").split(", ") if re.fullmatch(arguments or "(?!)", n)]
        if known:
            fields += [f":param {n}: {about}" for n in known]
        elif sentence.startswith("Returns "):
            fields.append(f":returns: {sentence.removeprefix('Returns ')}")
        elif error := re.match(r"Raises (\w+),? (.*)", sentence):
            fields.append(f":raises {error[1]}: {error[2]}")
        else:
            shown.append(sentence)
    return ["".join(shown), "", *fields, ""]


def setup(app: Sphinx) -> None:
    """Register what is above."""
    app.add_directive("verb-help", VerbHelp)
    app.connect("autodoc-process-docstring", readable_docstrings)
