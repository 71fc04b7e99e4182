"""One figure of a server's /metrics."""

import httpx2 as httpx
from prometheus_client.parser import text_string_to_metric_families


def figure(client: httpx.Client, name: str, **labels: str) -> float:
    """Return the value of one sample, summed over the labels that are not named."""
    found = [
        sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    return sum(found)
