"""Read from the instructions of code what it reaches by name: globals, attributes of modules, imports.

Byte code is read, not source: a lambda or a function made in a notebook has no source that can be found, and comments
and line numbers must not matter. Nested functions, comprehensions and class bodies are read with the code that contains
them. What is reached by other means, such as a name made at run time, is not seen.
"""

from __future__ import annotations

import dis
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType

GLOBAL = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
ATTRIBUTE = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
NUMBER_CONSTANTS = frozenset({"LOAD_CONST", "LOAD_SMALL_INT"})
IGNORED = frozenset({"EXTENDED_ARG", "CACHE", "NOP", "PRECALL", "PUSH_NULL", "NOT_TAKEN"})


@dataclass(frozen=True)
class Import:
    """`import module`, or `from module import names`; `level` is the number of dots."""

    module: str
    names: tuple[str, ...]
    level: int


@dataclass(frozen=True)
class Uses:
    """What code uses. `chains` are global names with their attributes: `np.random.rand` is `("np", "random", "rand")`.

    `called_bare` are the chains that are called without an argument, or with None as the only one, `called_with_number`
    those that are called with one integer. `words` are all names and keywords in the code, `keywords` those without its
    local variables.
    """

    chains: tuple[tuple[str, ...], ...]
    imports: tuple[Import, ...]
    called_bare: frozenset[tuple[str, ...]]
    called_with_number: frozenset[tuple[str, ...]]
    words: frozenset[str]
    keywords: frozenset[str]


def _is_bare_call(steps: list[dis.Instruction]) -> bool:
    if steps and steps[0].opname == "LOAD_CONST" and steps[0].argval is None:
        return len(steps) > 1 and steps[1].opname == "CALL" and steps[1].arg == 1
    return bool(steps) and steps[0].opname == "CALL" and steps[0].arg == 0


def _is_call_with_number(steps: list[dis.Instruction]) -> bool:
    if len(steps) < 2 or steps[0].opname not in NUMBER_CONSTANTS or type(steps[0].argval) is not int:
        return False
    return steps[1].opname == "CALL" and steps[1].arg == 1


@lru_cache(maxsize=4096)
def uses(code: CodeType) -> Uses:
    """Return all that `code`, and the code within it, reaches."""
    chains: dict[tuple[str, ...], None] = {}
    imports: dict[Import, None] = {}
    bare: set[tuple[str, ...]] = set()
    numbered: set[tuple[str, ...]] = set()
    words = {*code.co_names, *code.co_varnames, *code.co_freevars}
    keywords = set(code.co_names)
    steps = [step for step in dis.get_instructions(code) if step.opname not in IGNORED]
    for number, step in enumerate(steps):
        if step.opname in GLOBAL:
            end = number + 1
            while end < len(steps) and steps[end].opname in ATTRIBUTE:
                end += 1
            chain = tuple(str(each.argval) for each in steps[number:end])
            chains[chain] = None
            if _is_bare_call(steps[end : end + 2]):
                bare.add(chain)
            if _is_call_with_number(steps[end : end + 2]):
                numbered.add(chain)
        elif step.opname == "IMPORT_NAME":
            names = steps[number - 1].argval or ()
            imports[Import(str(step.argval), tuple(names), int(steps[number - 2].argval or 0))] = None
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner = uses(constant)
            chains.update(dict.fromkeys(inner.chains))
            imports.update(dict.fromkeys(inner.imports))
            bare |= inner.called_bare
            numbered |= inner.called_with_number
            words |= inner.words
            keywords |= inner.keywords
        elif isinstance(constant, tuple):
            words.update(word for word in constant if isinstance(word, str))
            keywords.update(word for word in constant if isinstance(word, str))
    return Uses(
        tuple(chains), tuple(imports), frozenset(bare), frozenset(numbered), frozenset(words), frozenset(keywords)
    )
