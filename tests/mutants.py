"""The changes that tests/mutation.py makes: where plcore can be wrong in one place.

Cosmic Ray's operators name the places: an arithmetic operator, a comparison, a number, a condition,
a loop, a decorator.
"""

import ast
import random
import re
from collections import defaultdict

# What draws, executes notebooks or reads the command line: no mathematics.
LEFT_OUT = {"__init__", "__main__", "_notebooks", "figures", "svg"}
# Replacements that fail on any float, or are the same thing to CPython: no test earns them.
BITS = "RShift|LShift|BitOr|BitAnd|BitXor"
TRIVIAL = re.compile(
    rf"Variable|_(?!{BITS})[A-Z]\w+_({BITS})$|_({BITS})_(?!{BITS})|_(Invert|Not)$|_(Is|IsNot)_(?!Is)"
    r"|Comparison\w+_(Eq|NotEq|Lt|LtE|Gt|GtE)_Is"
)


def annotations(tree):
    """First and last positions of every annotation: changes there change nothing."""
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            part = getattr(node, name, None)
            if part is not None:
                yield (part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)


def places(path):
    """Where `path` can be changed: {(position, family): [(operator's name, occurrence)]}."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    code = path.read_text(encoding="utf-8")
    nodes, barred = list(ast_nodes(get_ast(code))), list(annotations(ast.parse(code)))
    found = defaultdict(list)
    for name in sorted(operator_names()):
        if TRIVIAL.search(name):
            continue
        operator, occurrence = get_operator(name)(), 0
        for node in nodes:
            for start, _ in operator.mutation_positions(node):
                if not any(first <= start < last for first, last in barred):
                    found[start, name.split("_")[0]].append((name, occurrence))
                occurrence += 1
    return found


def draw(copy, size, seed):
    """`size` changes at different places, as dictionaries, and the number of places."""
    every = []
    for path in sorted((copy / "plcore").glob("*.py")):
        if path.stem not in LEFT_OUT:
            for (start, _), choices in sorted(places(path).items()):
                every.append((path.name, start, choices))
    generator = random.Random(seed)
    chosen = sorted(generator.sample(every, min(size, len(every))))
    changes = []
    for name, (line, column), choices in chosen:
        operator, occurrence = generator.choice(choices)
        changes.append(
            {"module": name, "line": line, "column": column}
            | {"operator": operator.partition("/")[2], "occurrence": occurrence}
        )
    return changes, len(every)


def changed_code(code, change):
    """`code` with the change."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    operator = get_operator("core/" + change["operator"])()
    return mutate_code(code, operator, change["occurrence"])
