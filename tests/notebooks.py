"""What a stored notebook has to look like, beyond what nbval compares.

Each check takes a notebook and returns the faults that it finds, a line each.
"""

import ast
import re
import symtable

PATHS = re.compile(r"(?<![\w.:/<])/(?:home|root|tmp|work|opt|usr|Users|mnt|var)/|\b[A-Z]:\\+Users")
BAR = re.compile(r"\d%\||\bHBox\(|FloatProgress")  # tqdm's, as text and as a widget
IGNORED = "nbval-ignore-output"
OWN_SCOPE = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def code_cells(notebook):
    return [
        (number, cell)
        for number, cell in enumerate(notebook.cells, start=1)
        if cell.cell_type == "code"
    ]


def tags(cell):
    return cell.metadata.get("tags", [])


def outputs_text(cell):
    """Everything that a cell shows, except drawings."""
    texts = []
    for output in cell.outputs:
        texts.append(output.get("text", ""))
        for kind, data in output.get("data", {}).items():
            if isinstance(data, str) and not kind.startswith("image/"):
                texts.append(re.sub(r'src="data:[^"]*"', "", data))
    return "\n".join(texts)


def executed_in_order(notebook):
    """Cells are counted 1, 2, …: none was skipped, stripped or executed twice."""
    faults = []
    for count, (number, cell) in enumerate(code_cells(notebook), start=1):
        if cell.execution_count is None:
            faults.append(f"cell {number} was never executed, or its outputs were stripped")
        elif cell.execution_count != count:
            faults.append(f"cell {number} has the count {cell.execution_count} instead of {count}")
        if not cell.source.strip():
            faults.append(f"cell {number} is empty")
    return faults


def no_errors(notebook):
    """No error, no warning, no progress bar, and no tag that lets nbval pass over one."""
    faults = []
    for number, cell in code_cells(notebook):
        for output in cell.outputs:
            if output.output_type == "error":
                faults.append(f"cell {number} ended in {output.ename}: {output.evalue}")
            elif output.get("name") == "stderr":
                faults.append(f"cell {number} wrote to stderr: {output.text.strip()[:60]}")
        if BAR.search(outputs_text(cell)):
            faults.append(f"cell {number} holds what is left of a progress bar")
        for tag in ("nbval-skip", "nbval-raises-exception", "raises-exception"):
            if tag in tags(cell):
                faults.append(f"cell {number} is tagged {tag}")
    return faults


def no_machine(notebook):
    """No path of the machine that the notebook was executed on."""
    faults = []
    for number, cell in enumerate(notebook.cells, start=1):
        shown = outputs_text(cell) if cell.cell_type == "code" else ""
        found = PATHS.search(cell.source + "\n" + shown)
        if found:
            faults.append(f"cell {number} names an absolute path: {found[0]}…")
    return faults


def plain_metadata(notebook):
    """The kernel is `python3`, and no widget needs a kernel to be seen."""
    faults = []
    kernel = notebook.metadata.get("kernelspec", {}).get("name")
    if kernel != "python3":
        faults.append(f"the kernel is {kernel} instead of python3")
    if "widgets" in notebook.metadata:
        faults.append("the notebook's metadata holds the state of widgets")
    for number, cell in code_cells(notebook):
        kinds = {kind for output in cell.outputs for kind in output.get("data", {})}
        faults += [f"cell {number} holds a {kind}" for kind in sorted(kinds) if "widget" in kind]
    return faults


def figures_are_described(notebook):
    """Each drawing has a name, a caption and an alternative text, and numbers that are compared."""
    faults = []
    cells = code_cells(notebook)
    for k, (number, cell) in enumerate(cells):
        data = [output.get("data", {}) for output in cell.outputs]
        image = any(kind.startswith("image/") for kinds in data for kind in kinds)
        control = any('class="figure-control"' in kinds.get("text/html", "") for kinds in data)
        if not (image or control):
            continue
        options = cell.metadata.get("mystnb", {})
        figure = options.get("figure", {})
        if not re.fullmatch(r"fig(-[a-z0-9]+)+", figure.get("name", "")):
            faults.append(f"the figure in cell {number} has no name of the form fig-…")
        if not figure.get("caption", "").strip():
            faults.append(f"the figure in cell {number} has no caption")
        if image and len(options.get("image", {}).get("alt", "")) < 20:
            faults.append(f"the figure in cell {number} has no alternative text to speak of")
        if image and not any("image/svg+xml" in kinds for kinds in data):
            faults.append(f"the figure in cell {number} was not made by plcore.figures.subplots")
        if len(data) > 1:
            faults.append(f"cell {number} shows more than its figure")
        if IGNORED not in tags(cell):
            faults.append(f"the figure in cell {number} is not tagged {IGNORED}")
        following = [later for _, later in cells[k + 1 : k + 2]]
        if not any(later.outputs and IGNORED not in tags(later) for later in following):
            faults.append(f"the cell after the figure in cell {number} prints nothing to compare")
    return faults


def bound(tree):
    """The names that a cell binds when it runs, those inside functions left out."""
    names = set()
    for node in tree.body:
        inner = [node]
        while inner:
            part = inner.pop()
            if isinstance(part, ast.FunctionDef | ast.ClassDef):
                names.add(part.name)
            elif isinstance(part, ast.alias):
                names.add((part.asname or part.name).split(".")[0])
            elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                names.add(part.id)
            elif not isinstance(part, OWN_SCOPE):
                inner += ast.iter_child_nodes(part)
    return names


def read_by_functions(source):
    """For each function of a cell the global names that it reads when it is called."""

    def names(table):
        found = {one.get_name() for one in table.get_symbols() if one.is_global()}
        return found.union(*map(names, table.get_children()))

    found = {}
    for table in symtable.symtable(source, "cell", "exec").get_children():
        found.setdefault(table.get_name(), set()).update(names(table))
    return found


def controls_go_on_working(notebook):
    """What a control computes with is not bound anew by a later cell of the chapter."""
    faults, functions = [], {}
    cells = code_cells(notebook)
    for k, (number, cell) in enumerate(cells):
        own = read_by_functions(cell.source)
        functions |= own
        if not re.search(r"^figures\.(slider|choice)\(", cell.source, flags=re.MULTILINE):
            continue
        needed, new = set(), set().union(*own.values())
        while new:
            needed |= new
            new = set().union(*(functions.get(name, set()) for name in new)) - needed
        for later, other in cells[k + 1 :]:
            for name in sorted(needed & bound(ast.parse(other.source))):
                faults.append(
                    f"cell {later} binds {name}, which the control of cell {number} reads"
                )
    return faults


def begins_with_its_title(notebook):
    """The first cell holds a label and the only heading of the first level."""
    text = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    heading = re.compile(r"^# .+", flags=re.MULTILINE)
    faults = []
    if notebook.cells[0].cell_type != "markdown" or not re.match(
        r"\(sec(-[a-z0-9]+)+\)=\n# .+", notebook.cells[0].source
    ):
        faults.append("the first cell doesn't begin with (sec-…)= and a title")
    if sum(len(heading.findall(source)) for source in text) != 1:
        faults.append("there isn't one heading of the first level")
    return faults


CHECKS = [
    executed_in_order,
    no_errors,
    no_machine,
    plain_metadata,
    figures_are_described,
    controls_go_on_working,
    begins_with_its_title,
]
