"""The modules of `JEAT_PLUGINS`, which add rows to the tables from outside the package."""

import importlib
import os
import sys
from pathlib import Path

from ..errors import JeatError, UsageProblem


def load_plugins() -> None:
    """Import them, from the working directory too; refuse those that are not there or fail."""
    for name in map(str.strip, os.environ.get("JEAT_PLUGINS", "").split(",")):
        if not name:
            continue
        path = Path(name).expanduser().absolute()
        file = path.suffix == ".py"
        # At the end, so that no file that lies there takes the place of an installed package.
        sys.path.append(str(path.parent if file else Path.cwd()))
        try:
            module = importlib.import_module(path.stem if file else name)
        except JeatError:
            raise
        except (Exception, SystemExit) as problem:  # a script may end the program
            why = f"{type(problem).__name__}: {problem}"
            raise UsageProblem(
                f"`{name}` of `JEAT_PLUGINS` cannot be imported: {why}",
                "name modules that Python finds, or FILE.py, separated by commas",
            ) from problem
        if file and Path(module.__file__ or "").resolve() != path.resolve():
            raise UsageProblem(
                f"`{name}` of `JEAT_PLUGINS` is not what Python imports as `{path.stem}`",
                "rename the file: another module has its name",
            )
