"""Split the words of `skjob run` in two: what stands before the script is skjob's, what stands after it the script's.

As with `uv run` and `torchrun`. Up to 0.1 an option of skjob's could stand after the script, and the script's own
arguments stood behind `--`. A line of that form is still read that way, with a note; every other word after the script
goes to the script, with a note if the word is the name of an option of skjob's. Pure: only `RunCommand` knows typer.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import typer

from skjob.cli.help import Command

NOTES = "skjob.notes"
"""Where `typer.Context.meta` has the notes to show."""

NEW = frozenset({"-m", "--set-env", "--secret-env", "--worker-gpu", "--node-pool", "--arch", "--mlflow"})
"""Options that no release has taken after the script."""


@dataclass(frozen=True)
class RunArguments:
    """The words of a command line: options of skjob's, then the program, then its own arguments; and notes to show."""

    options: tuple[str, ...]
    program: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _After:
    """What stands after the script, as an earlier release read it: `arguments` is None if it would have refused."""

    options: tuple[tuple[str, ...], ...]
    arguments: tuple[str, ...] | None


def split_words(words: Sequence[str], known: Mapping[str, bool]) -> RunArguments:
    """Split the words after `skjob run`. `known` are the names of options, and whether each takes a value."""
    before, number = [], 0
    while number < len(words) and _is_option(words[number]):
        option = _option_at(words, number, known) or (words[number],)
        before.append(option)
        number += len(option)
    options = tuple(word for option in before for word in option)
    if words[number : number + 1] == ["--"]:
        number += 1
    if number >= len(words):
        return RunArguments(options)
    program, rest = words[number], tuple(words[number + 1 :])
    after = _read_after(rest, known)
    named = {_name(option) for option in before}
    is_old = after.arguments is not None and not (named & NEW) and named.isdisjoint(map(_name, after.options))
    if not is_old:
        arguments = rest[1:] if rest[:1] == ("--",) else rest
        return RunArguments(options, (program,), arguments, _note_on_scripts_own(before, program, rest, after, known))
    moved = tuple(word for option in after.options for word in option)
    arguments = after.arguments or ()
    notes: tuple[str, ...] = ()
    if moved:
        line = _line([*options, *moved], program, arguments)
        names = ", ".join(f"`{_name(option)}`" for option in after.options)
        notes = (f"write options before the script: `{line}`; after it {names} will be the script's own from 0.2 on",)
    return RunArguments((*options, *moved), (program,), arguments, notes)


def _read_after(rest: tuple[str, ...], known: Mapping[str, bool]) -> _After:
    """Read what stands after the script. The options in it are known ones, complete or not."""
    options: list[tuple[str, ...]] = []
    arguments: list[str] = []
    refused, number = False, 0
    while number < len(rest):
        if rest[number] == "--":
            arguments += rest[number + 1 :]
            break
        option = _option_at(rest, number, known) if _is_option(rest[number]) else None
        if option is not None:
            options.append(option)
            refused = refused or _name(option) in NEW or not _is_complete(option, known)
            number += len(option)
        else:
            refused = refused or _is_option(rest[number])
            arguments.append(rest[number])
            number += 1
    return _After(tuple(options), None if refused else tuple(arguments))


def _note_on_scripts_own(
    before: Sequence[tuple[str, ...]], program: str, rest: tuple[str, ...], after: _After, known: Mapping[str, bool]
) -> tuple[str, ...]:
    if rest[:1] == ("--",) or not after.options:
        return ()
    taken = {_name(option) for option in after.options}
    kept = [word for option in before if _name(option) not in taken for word in option]
    left: list[str] = []
    number = 0
    while number < len(rest) and rest[number] != "--":
        option = _option_at(rest, number, known) or (rest[number],)
        left += [] if option in after.options else option
        number += len(option)
    options = [*kept, *(word for option in after.options for word in _completed(option, known))]
    if "-m" in options:  # beside the name of the module, as people write it
        options.remove("-m")
        options.append("-m")
    line = _line(options, program, [*left, *rest[number:]])
    names = ", ".join(f"`{_name(option)}`" for option in after.options)
    stand, go = ("stands", "goes") if len(after.options) == 1 else ("stand", "go")
    return (f"{names} {stand} after the script and {go} to it; for skjob, write options before the script: `{line}`",)


def _option_at(words: Sequence[str], number: int, known: Mapping[str, bool]) -> tuple[str, ...] | None:
    """Return the known option at this place, with its value if that is there; None if there is no known option."""
    word = words[number]
    name, has_value, _ = word.partition("=")
    if name not in known or (has_value and not known[name]):
        return None
    if has_value or not known[name]:
        return (word,)
    return tuple(words[number : number + 2])


def _is_complete(option: tuple[str, ...], known: Mapping[str, bool]) -> bool:
    return len(option) == 2 or "=" in option[0] or not known[option[0]]


def _completed(option: tuple[str, ...], known: Mapping[str, bool]) -> tuple[str, ...]:
    return option if _is_complete(option, known) else (*option, "VALUE")


def _name(option: tuple[str, ...]) -> str:
    return option[0].partition("=")[0]


def _is_option(word: str) -> bool:
    return word.startswith("-") and word not in ("-", "--")


def _line(options: Sequence[str], program: str, arguments: Sequence[str]) -> str:
    return shlex.join(["skjob", "run", *options, program, *arguments])


class RunCommand(Command):
    """`skjob run`, whose words are split before typer reads them."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Called by typer with the words after `run`."""
        known = {
            name: not (getattr(option, "is_flag", False) or getattr(option, "count", False))
            for option in self.get_params(ctx)
            if option.param_type_name == "option"
            for name in (*option.opts, *option.secondary_opts)
            if name != "-h"  # no release has taken it after the script, where it is the script's own
        }
        split_up = split_words(args, known)
        ctx.meta[NOTES] = split_up.notes
        words = [*split_up.options, *(["--"] if split_up.program else []), *split_up.program, *split_up.arguments]
        try:
            return super().parse_args(ctx, words)
        except typer.Exit:  # `--help` has been printed
            for line in split_up.notes:
                typer.echo(f"skjob: {line}", err=True)
            raise
