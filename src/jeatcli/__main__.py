"""`python -m jeatcli` is `jeat`; `torchrun` starts its processes by it."""

from .cli import main
from .runtime import launch


def run() -> None:
    """Run the command, and end as one of several processes ends."""
    try:
        main(prog_name="jeat")
    except SystemExit as done:
        if launch.several():
            launch.leave(done.code)
        raise


if __name__ == "__main__":
    run()
