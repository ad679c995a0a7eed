"""The entry point: what an owner types, and what is said where a package of the worker is damaged.

Python alone at first: with a library that a virus scanner has taken, or a file that a power failure has left empty,
nothing else may be importable, `doctor` included.
"""

import sys

#: Packages that are named.
SHOWN = 3


def main() -> None:
    """Run the command; an error that nobody foresaw is told by its cause if that is a damaged package."""
    try:
        from worker.commands.program import main as program  # noqa: PLC0415 - what is damaged shows here

        program()
    except Exception:
        if not (said := _damage()):
            raise
        sys.stderr.write(f"horde-bridge: {said}\n")
        sys.exit(1)


def _damage() -> str:
    """Which packages are damaged, and what to do; empty if none is."""
    from worker.as_typed import as_typed  # noqa: PLC0415 - for this case alone
    from worker.engine.install.layout import ROOT, is_checkout  # noqa: PLC0415 - the same
    from worker.engine.install.verify import damaged_packages  # noqa: PLC0415 - the same
    from worker.units import listed  # noqa: PLC0415 - the same

    if not (damaged := damaged_packages()):
        return ""
    repair = "run update-runtime --repair" if is_checkout(ROOT) else "install the worker's package anew"
    return (
        f"Packages of the worker are damaged: {listed(damaged, SHOWN, separator='; ')}. A virus scanner (exempt the "
        f"folder) or a power failure may have done it; {as_typed(repair)}."
    )


if __name__ == "__main__":
    main()
