"""One row of the bench: calls timed in turn, and the ratio of their medians."""

import statistics
import time


def timed(calls: dict, repeats: int) -> dict[str, list[float]]:
    """Seconds of each call, interleaved so that a busy moment hits all of them; one
    warm-up each.
    """
    seconds = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def row(
    name: str,
    unit: str,
    amount: float,
    seconds: dict,
    *,
    bound: float,
    of: str,
    equal: str,
) -> dict:
    """Rates are amount / median seconds; spread is (slowest - fastest) / median of
    ours.
    """
    ours = seconds["ours"]
    rate = {who: amount / statistics.median(s) for who, s in seconds.items()}
    ratio = rate["ours"] / rate["peer"] if "peer" in rate else None
    reached = ratio if of == "ratio" else rate["ours"]
    spread = (max(ours) - min(ours)) / statistics.median(ours)
    return {
        "row": name,
        "unit": unit,
        "ours": rate["ours"],
        "peer": rate.get("peer"),
        "ratio": ratio,
        "bound": bound,
        "of": of,
        "met": bool(reached >= bound),
        "spread": spread,
        "equal": equal,
    }
