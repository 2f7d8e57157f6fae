"""MkDocs hook: a notebook with its outputs becomes a page beside the file, which stays to be downloaded."""

import base64
import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files


def on_files(files: Files, config: Any) -> Files:
    """Adds a page for every notebook, and a file for every picture in it."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        text, pictures = as_markdown(json.loads(Path(str(file.abs_src_path)).read_text()), Path(file.src_uri).stem)
        folder = Path(file.src_uri).parent
        files.append(File.generated(config, file.src_uri.removesuffix(".ipynb") + ".md", content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, (folder / name).as_posix(), content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to notebooks lead to their pages."""
    return re.sub(r"\]\((notebooks/\w+)\.ipynb\)", r"](\1.md)", markdown)


def as_markdown(notebook: dict[str, Any], name: str) -> tuple[str, dict[str, bytes]]:
    """The text of the page, and its pictures by file name."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        parts.append(_fenced(text, "python") if cell["cell_type"] == "code" else text)
        for output in cell.get("outputs", []):
            data = output.get("data", {"text/plain": output.get("text", [])})
            if "image/png" in data:
                picture = f"{name}-{len(pictures) + 1}.png"
                pictures[picture] = base64.b64decode(data["image/png"])
                parts.append(f"![{''.join(data['text/plain'])}]({picture})")
            else:
                parts.append(_fenced("".join(data["text/plain"]), "text"))
    return "\n\n".join([*parts, f"[This page as a notebook]({name}.ipynb)"]), pictures


def _fenced(text: str, language: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"
