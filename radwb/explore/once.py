"""A cell that is run again lets go of the widgets that it made before."""

from weakref import ref

_made = {}  # cell -> (the run, weak references to its widgets)


def replace_former(widget: object) -> None:
    """Close what an earlier run of this notebook cell made.

    Else each run would leave a widget behind, which the notebook's list of outputs
    holds. Where no cell is known (a script, a console) nothing is closed.
    """
    cell, run = _running()
    if cell is None:
        return
    former_run, former = _made.get(cell, (run, []))
    if former_run != run:
        for made in former:
            old = made()
            if old is not None:
                old.close()
        former = []
    _made[cell] = run, [*former, ref(widget)]


def _running():
    """The notebook's name of the cell that runs, and of this run; None outside."""
    from IPython import get_ipython  # where there is a widget, it's loaded already

    shell = get_ipython()
    request = getattr(shell, "parent_header", None) or {}
    cell = request.get("metadata", {}).get("cellId")
    return cell, request.get("header", {}).get("msg_id")
