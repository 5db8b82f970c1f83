"""How the help of a command reads: its options in groups, and no description cut short.

Plain text: importing rich, which typer would use, doubles the time that `skjob --help` takes.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

GROUPS = ("Where", "Workers", "Environment", "Limits", "Output")
"""Titles of groups of options, in the order of the help; an option names its group as `rich_help_panel`."""

OTHERS = "Options"


class Command(TyperCommand):
    """A command whose help shows its options in groups."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then the options by group. Called by typer for `--help`."""
        sections: dict[str, list[tuple[str, str]]] = {title: [] for title in ("Arguments", *GROUPS, OTHERS)}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                title = getattr(param, "rich_help_panel", None) or OTHERS
                sections["Arguments" if param.param_type_name == "argument" else title].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return the first paragraph of the help, whatever the limit. Called by typer for the list of commands."""
        return _first_paragraph(self.help)


class Group(TyperGroup):
    """A command with subcommands, whose own description is not cut short either."""

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return the first paragraph of the help, whatever the limit."""
        return _first_paragraph(self.help)


def _first_paragraph(text: str | None) -> str:
    return " ".join((text or "").strip().partition("\n\n")[0].split())
