"""Runs notebooks and keeps their outputs: `python scripts/record_notebooks.py [NOTEBOOK ...]`.

What differs from run to run only by accident (papermill's times, versions) is left out, so that a
diff shows what changed.
"""

import json
import sys
import tempfile
from pathlib import Path

from paytm_lab.reporting.notebooks import execute

ROOT = Path(__file__).resolve().parent.parent


def main(names):
    for path in [Path(n) for n in names] or sorted((ROOT / "notebooks").glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            done = json.loads(execute(path, Path(folder) / path.name).read_text(encoding="utf-8"))
        path.write_text(
            json.dumps(tidy(done), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        print(path)


def tidy(notebook):
    kept = ("kernelspec", "language_info")
    notebook["metadata"] = {k: v for k, v in notebook["metadata"].items() if k in kept}
    notebook["metadata"]["language_info"] = {"name": "python"}
    for cell in notebook["cells"]:
        tags = cell["metadata"].get("tags", [])
        folded = cell["metadata"].get("jupyter", {}).get("source_hidden", False)
        cell["metadata"] = {"tags": tags} if tags else {}
        if folded:
            cell["metadata"]["jupyter"] = {"source_hidden": True}
    return notebook


if __name__ == "__main__":
    main(sys.argv[1:])
