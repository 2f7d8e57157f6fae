"""Runs notebooks and writes what their cells print and draw into them; no kernel is needed.

    python docs/hooks/run_notebooks.py docs/notebooks/*.ipynb

Each runs in an empty folder beside a link to docs/examples. A line `!cimm ...` runs in this process, which has compiled already
what an earlier one needed, and any other `!...` as a program.
"""

import ast
import base64
import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["code_cells", "main", "printed", "read", "run", "source"]

WIDTH = "120"
"""Characters of a line of tables."""


def main(paths: list[str]) -> None:
    """Runs every notebook and writes it again."""
    for name in paths:
        path = Path(name)
        notebook = read(path)
        run(notebook)
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
        print(f"{path}: {len(code_cells(notebook))} cells")


def read(path: Path) -> dict[str, Any]:
    """A notebook as it is stored."""
    return json.loads(path.read_text())


def source(cell: dict[str, Any]) -> str:
    """The text of a cell, which is stored by line."""
    return "".join(cell["source"])


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """The cells that run, in order."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def printed(cell: dict[str, Any]) -> str:
    """What a cell that has run printed."""
    return "".join("".join(output["text"]) for output in cell["outputs"] if output["output_type"] == "stream")


def run(notebook: dict[str, Any]) -> None:
    """Runs the cells in order, and puts outputs and numbers into them.

    Raises:
      Exception: that of the first cell that fails, with its number in a note; `CalledProcessError` for a program.
    """
    import matplotlib as mpl

    mpl.use("agg")
    names = {"__name__": "__main__", "_shell": _shell}
    with _beside_examples() as folder:
        for number, cell in enumerate(code_cells(notebook), 1):
            text = io.StringIO()
            try:
                with contextlib.redirect_stdout(text):
                    value = _executed(source(cell), names)
            except BaseException as error:
                error.add_note(f"cell {number}:\n{source(cell)}\n{text.getvalue()}")
                raise
            cell["execution_count"] = number
            cell["outputs"] = list(_outputs(text.getvalue().replace(f"{folder}{os.sep}", ""), value, number))


@contextlib.contextmanager
def _beside_examples() -> Iterator[Path]:
    """An empty folder, where ../examples is docs/examples, and tables have one width."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root).resolve() / "notebooks"
        folder.mkdir()
        (folder.parent / "examples").symlink_to(Path(__file__).resolve().parent.parent / "examples")
        width = os.environ.get("COLUMNS")
        os.environ["COLUMNS"] = WIDTH
        try:
            with contextlib.chdir(folder):
                yield folder
        finally:
            if width is None:
                del os.environ["COLUMNS"]
            else:
                os.environ["COLUMNS"] = width


def _executed(text: str, names: dict[str, Any]) -> Any:
    """The value of the last line, if it is an expression."""
    tree = ast.parse(re.sub(r"^!(.*)$", lambda line: f"_shell({line[1]!r})", text, flags=re.MULTILINE))
    last = tree.body[-1] if tree.body else None
    if not isinstance(last, ast.Expr):
        exec(compile(tree, "cell", "exec"), names)
        return None
    tree.body.pop()
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)


def _shell(line: str) -> None:
    program, *words = shlex.split(line)
    if program == "cimm":
        from cimm_jax.commands.cli import main as cimm

        status = cimm(words)
        if status:
            raise subprocess.CalledProcessError(status, line)
        return
    first = sys.executable if program == "python" else program
    print(subprocess.run([first, *words], check=True, capture_output=True, text=True).stdout, end="")


def _outputs(text: str, value: Any, number: int) -> Iterator[dict[str, Any]]:
    from matplotlib.figure import Figure

    if text:
        yield {"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)}
    if isinstance(value, Figure):
        content = io.BytesIO()
        value.savefig(content, format="png", dpi=80, metadata={"Software": None})
        alt = ", ".join(axes.get_title() for axes in value.axes if axes.get_title())
        shown = {"image/png": base64.b64encode(content.getvalue()).decode(), "text/plain": [alt]}
        yield {"data": shown, "execution_count": number, "metadata": {}, "output_type": "execute_result"}
    elif value is not None:
        shown = {"text/plain": repr(value).splitlines(keepends=True)}
        yield {"data": shown, "execution_count": number, "metadata": {}, "output_type": "execute_result"}


if __name__ == "__main__":
    main(sys.argv[1:])
