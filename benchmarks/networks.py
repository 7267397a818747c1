"""The simulated networks, with the figures that Chrome's own tools give them.

DevTools delays every request by the latency and lets all of them together have the
throughput. It knows no connections, so its presets take several round trips for the
latency and a little less than the nominal throughput. They are those of
``front_end/core/sdk/NetworkManager.ts`` of devtools-frontend; what Lighthouse takes for
desktops is in its ``core/config/constants.js`` (``desktopDense4G``).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Network:
    """Latency in milliseconds for each request, throughput in bytes per second."""

    name: str
    title: str
    source: str
    latency: float
    download: float
    upload: float

    def describe(self) -> str:
        megabits = self.download * 8 / 1e6
        return (
            f"{self.latency:g} ms for each request, {megabits:.3g} Mbit/s "
            f"({self.source})"
        )

    def conditions(self) -> dict[str, float | bool]:
        """What ``Network.emulateNetworkConditions`` takes."""
        return {
            "offline": False,
            "latency": self.latency,
            "downloadThroughput": self.download,
            "uploadThroughput": self.upload,
        }


def _bytes(kilobits: float) -> float:
    return kilobits * 1000 / 8


NETWORKS = (
    Network(
        "slow-4g",
        "slow 4G",
        "DevTools, Slow 4G: 1.6 Mbit/s and 150 ms",
        latency=150 * 3.75,
        download=_bytes(1600 * 0.9),
        upload=_bytes(750 * 0.9),
    ),
    Network(
        "fast-4g",
        "fast 4G",
        "DevTools, Fast 4G: 9 Mbit/s and 60 ms",
        latency=60 * 2.75,
        download=_bytes(9000 * 0.9),
        upload=_bytes(1500 * 0.9),
    ),
    Network(
        "cable",
        "cable",
        "Lighthouse, desktop",
        latency=40,
        download=_bytes(10 * 1024),
        upload=_bytes(10 * 1024),
    ),
)
