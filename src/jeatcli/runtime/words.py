"""Numbers of things in words: `1 image`, `2,000 images`."""


def counted(number: int, thing: str) -> str:
    """Write how many things there are, in the singular if it is one."""
    ending = "es" if thing.endswith("s") else "s"
    return f"{number:,} {thing}{'' if number == 1 else ending}"
