"""Count what is in the standard library of the Python that runs this, one durable step per file.

    sostenuto run examples/stdlib_census.py

Kill it at any moment, with Ctrl-C or `kill -9`, and run the same command again: files that were
counted are not parsed again, their counts are read from the store, and the census goes on with
the first file that is missing.

What to know when writing such a file:

* `await ...` is allowed at the top level, and `ctx` is there without an import.
* `await ctx.run(function, argument)` is a step. Its result is stored before the next line runs,
  and a resumed run is answered from the store. A step that was under way at the moment of the
  kill runs again, so a step should be something that may be done twice.
* Everything outside a step runs again on resume: it should be quick, and lead to the same steps.
* The last expression is the result of the whole execution.

Two environment variables, both optional: CENSUS_LIMIT counts the first so many files only, and
CENSUS_LOG names a file to which every step that really runs appends one line (time, process,
file), which shows what a resumed run did and did not do again.
"""

import ast
import os
import sysconfig
import time
import tokenize
import warnings
from collections import Counter
from pathlib import Path

LIBRARY = Path(sysconfig.get_path("stdlib"))
NOT_LIBRARY = {"site-packages", "dist-packages", "test"}  # test: Python's tests of itself
TABLE_ROWS = 20


def log_step(name):
    """Append one line to CENSUS_LOG, whole even if several processes write at once."""
    if path := os.environ.get("CENSUS_LOG"):
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(log, f"{time.time():.6f} {os.getpid()} {name}\n".encode())
        os.close(log)


def list_files(limit):
    """The library's Python files, relative to its root, in an order that never varies."""
    log_step("(list)")
    found = []
    for folder, folders, names in os.walk(LIBRARY):
        folders[:] = set(folders) - NOT_LIBRARY
        found += [Path(folder, name).relative_to(LIBRARY) for name in names if name[-3:] == ".py"]
    return sorted(path.as_posix() for path in found)[:limit]


def count(name):
    """Count the lines and definitions of one file."""
    log_step(name)
    counts = dict.fromkeys(("lines", "functions", "async functions", "awaits", "classes"), 0)
    try:
        with tokenize.open(LIBRARY / name) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            text = file.read()
            tree = ast.parse(text)
    except (SyntaxError, UnicodeDecodeError):
        return counts | {"files": 1, "not parsed": 1}
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef():
                counts["functions"] += 1
            case ast.AsyncFunctionDef():
                counts["async functions"] += 1
            case ast.Await():
                counts["awaits"] += 1
            case ast.ClassDef():
                counts["classes"] += 1
    return counts | {"files": 1, "lines": len(text.splitlines())}


def package_of(name):
    """The first folder of a path, or the library's single-file modules."""
    return name.split("/")[0] if "/" in name else "(modules)"


def print_table(packages, totals):
    """The largest packages by lines, the rest in one row, and the totals."""
    columns = ("files", "lines", "functions", "async functions", "awaits", "classes")
    ranked = sorted(packages.items(), key=lambda item: (-item[1]["lines"], item[0]))
    rows = ranked[:TABLE_ROWS]
    if rest := ranked[TABLE_ROWS:]:
        others = sum((counts for _, counts in rest), Counter())
        rows.append((f"({len(rest)} others)", others))
    rows.append(("total", totals))
    width = max(len(package) for package, _ in rows)
    heads = "".join(f"{column:>{len(column) + 3}}" for column in columns)
    print(f"\n{'package':<{width}}{heads}")
    for package, counts in rows:
        if package == "total":
            print("-" * (width + len(heads)))
        cells = (f"{counts[column]:>{len(column) + 3},}" for column in columns)
        print(f"{package:<{width}}" + "".join(cells))
    if totals["not parsed"]:
        print(f"\n{totals['not parsed']} files could not be read as Python.")


# The list is a step too: a resumed run goes through the very same files, even if one has been
# added to or removed from the library in between.
limit = int(os.environ.get("CENSUS_LIMIT", "0")) or None
files = await ctx.run(list_files, limit)

packages = {}
for file in files:
    packages.setdefault(package_of(file), Counter()).update(await ctx.run(count, file))

# Outside a step, so this is printed by every run that gets here.
totals = sum(packages.values(), Counter())
print_table(packages, totals)
dict(totals)
