"""What a process and its machine use while a stage runs, under the names that MLflow's page of system metrics shows."""

import threading
import time

import psutil

MEGABYTE = 2**20


def watch(rows: list[dict[str, float]], seconds: float) -> None:
    """Append a sample to `rows` every so many seconds, from a thread that ends with the process.

    A row has its `time` in milliseconds since 1970, percentages of all cores, and megabytes of 2**20 bytes.
    """
    process = psutil.Process()
    psutil.cpu_percent()  # the first answer is over no time at all
    process.cpu_percent()

    def sample() -> None:
        while True:
            time.sleep(seconds)
            memory = psutil.virtual_memory()
            rows.append({
                "time": int(time.time() * 1000),
                "cpu_utilization_percentage": psutil.cpu_percent(),
                "process_cpu_percentage": process.cpu_percent() / psutil.cpu_count(),
                "process_memory_megabytes": process.memory_info().rss / MEGABYTE,
                "system_memory_usage_megabytes": memory.used / MEGABYTE,
                "system_memory_usage_percentage": memory.percent,
            })  # fmt: skip

    threading.Thread(target=sample, daemon=True).start()
