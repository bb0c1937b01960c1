"""What gpu.py's table says of the results: texts, bounds and judgements for its rows."""

from collections.abc import Callable
from typing import Any

import numpy as np

Results = dict[str, dict[str, Any]]
# Not the run's own test set: of its six patients a few voxels decide.
PRECISION = "precision unseen Dice mean foreground"
CONTINUED = "continued mean foreground"


def nothing(results: Results) -> str:
    return ""


def arrays(way: str) -> Callable[[Results], str]:
    """How many arrays of a run of resume.py differ."""
    return lambda results: "{differing} of {arrays}".format(**results[f"{way} one order"])


def _faster_than(peer: str, r: dict[str, Any]) -> str:
    """Of a result whose ratio is of ours to the peer's time."""
    low, middle, high = (1 / x for x in reversed(r["ratio"]))
    spread = f" (quartiles {low:.2f} to {high:.2f})" if low < high else ""
    return f"{middle:.2f} x {peer}{spread}"


def steps(name: str) -> Callable[[Results], str]:
    def text(results: Results) -> str:
        r = results[name]
        against = _faster_than("PyTorch", r) if "ratio" in r else "no peer"
        memory = f"{r['memory'] / 2**30:.1f} GiB"
        if "peer_memory" in r:
            memory += f", PyTorch {r['peer_memory'] / 2**30:.1f}"
        return f"{against}; {r['rate']:.0f} images/s; peak {memory}"

    return text


def _bounds(results: Results, name: str) -> tuple[float, float, float]:
    """Seconds of a step by its arithmetic, by its memory, and by its launches."""
    r, ceiling = results[name], results["ceilings"]
    return (
        r.get("least_flops", r["flops"]) / ceiling["flops"],
        r.get("least_bytes", r["bytes"]) / ceiling["bandwidth"],
        r["operations"] * ceiling["launch"],
    )


def _share(results: Results, name: str) -> float:
    """Of the roofline: the larger of arithmetic and memory, over the time taken."""
    return max(_bounds(results, name)[:2]) / results[name]["seconds"][1]


def roofline(name: str) -> Callable[[Results], str]:
    def text(results: Results) -> str:
        arithmetic, memory, launches = (1e3 * t for t in _bounds(results, name))
        return (
            f"{_share(results, name):.0%} of the roofline: arithmetic {arithmetic:.2f}, memory "
            f"{memory:.2f} of {1e3 * results[name]['seconds'][1]:.2f} ms; "
            f"{results[name]['operations']} operations: {launches:.2f} ms to launch"
        )

    return text


def faster(name: str, ratio: float, rate: float = 0.0) -> Callable[[Results], bool | None]:
    def met(results: Results) -> bool | None:
        r = results[name]
        return None if "ratio" not in r else 1 / r["ratio"][1] >= ratio and r["rate"] >= rate

    return met


def half_of_roofline(results: Results) -> bool | None:
    quick = faster("segment128", 1.1)(results)
    return quick and _share(results, "segment128") > 0.5


def _epochs(results: Results, placement: str) -> list[dict[str, Any]]:
    found = [r for n, r in results.items() if n.startswith("epoch") and n.endswith(placement)]
    if not found:
        raise KeyError(f"epoch {placement}")
    return found


def waiting(placement: str) -> Callable[[Results], str]:
    def text(results: Results) -> str:
        return "; ".join(
            f"{r['result'].split(' ', 1)[1]}: {r['waiting_share']:.2%}, {1e3 * r['step']:.1f} ms a "
            f"step ({1e3 * r['bare']:.1f} on a batch that is there)"
            for r in _epochs(results, placement)
        )

    return text


def waits_little(placement: str) -> Callable[[Results], bool | None]:
    return lambda results: all(r["waiting_share"] < 0.02 for r in _epochs(results, placement))


def whole_epochs(results: Results) -> str:
    said = [
        f"{r['result'].split(' ', 1)[1]}: {_faster_than('PyTorch', r)}"
        for r in _epochs(results, "device")
        if "ratio" in r
    ]
    return "; ".join(said) or "no peer"


def monai(results: Results) -> str:
    names = ("SSIM", "Dice", "HD95", "ASD")
    return "; ".join(f"{name} {_faster_than('MONAI', results[f'monai {name}'])}" for name in names)


def start(results: Results) -> str:
    r = results["start"]
    return r["text"] + (f"; {_faster_than('PyTorch', r)}" if "ratio" in r else "")


def cut_on_the_host(results: Results) -> str:
    found = results.get("projection host")
    return f"{found['hours']:.2f} hours if cut on the host" if found else ""


def _forms(results: Results) -> dict[str, list[float]]:
    """Time of the form in use by that of another, of each operation: quartiles."""
    found = {n.removeprefix("form "): r["ratio"] for n, r in results.items() if n[:5] == "form "}
    if not found:
        raise KeyError("forms")
    return found


def slower_forms(results: Results) -> list[str]:
    return [f"{n} {r[1]:.2f}" for n, r in _forms(results).items() if r[0] > 1]


def told_forms(results: Results) -> str:
    slower = slower_forms(results)
    return f"{len(slower)} of {len(_forms(results))}" + "".join(f"; {form}" for form in slower)


def said(name: str) -> Callable[[Results], str]:
    """What a result says of itself."""
    return lambda results: results[name]["text"]


def at_least(name: str, field: str, least: float) -> Callable[[Results], bool | None]:
    return lambda results: results[name][field] >= least


def at_most(name: str, field: str, most: float) -> Callable[[Results], bool | None]:
    return lambda results: results[name][field] <= most


def trained(results: Results) -> list[dict[str, Any]]:
    """After the last number of steps of either stage."""
    found = {n.split()[1]: r for n, r in results.items() if n.startswith("gradients")}
    if not found:
        raise KeyError("gradients")
    return list(found.values())


def gradients(results: Results) -> str:
    return "; ".join(
        f"{r['result'].split(' ', 1)[1]} steps: error {r['error']:.3f}, noise {r['noise']:.3f}, "
        f"bias {r['bias']:.3f} (chance {r['chance']:.3f})"
        for r in trained(results)
    )


def _difference(r: dict[str, Any]) -> tuple[float, float]:
    """Mean over the pairs, and twice its standard error."""
    difference = np.subtract(r["bfloat16"], r["float32"])
    if len(difference) < 2:
        return float(difference.mean()), float("nan")
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    return float(difference.mean()), 2 * float(error)


def dice(result: str) -> Callable[[Results], str]:
    def of(results: Results) -> str:
        mean, error = _difference(results[result])
        number = len(results[result]["float32"])
        return f"{mean:+.4f} (+- {error:.4f}, two standard errors; {number} pairs)"

    return of


def loses_less(result: str, than: float) -> Callable[[Results], bool | None]:
    def of(results: Results) -> bool | None:
        mean, error = _difference(results[result])
        return None if np.isnan(error) else mean - error > -than

    return of
