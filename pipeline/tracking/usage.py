"""What a process and its machine use while a stage runs, under the names that MLflow's page of system metrics shows.

MLflow's own monitor needs a run that is there before the stage ends, and loses what a dead server does not take.
"""

import threading
import time

import psutil


def watch(rows: list[dict[str, float]], seconds: float) -> None:
    """Append a sample to `rows` every so many seconds, from a thread that ends with the process.

    A row has its `time` in milliseconds since 1970, percentages of all cores, and megabytes of 2**20 bytes.
    """
    process = psutil.Process()
    psutil.cpu_percent(), process.cpu_percent()  # the first answers are over no time at all

    def sample() -> None:
        while True:
            time.sleep(seconds)
            memory = psutil.virtual_memory()
            rows.append({
                "time": int(time.time() * 1000),
                "cpu_utilization_percentage": psutil.cpu_percent(),
                "process_cpu_percentage": process.cpu_percent() / psutil.cpu_count(),
                "process_memory_megabytes": process.memory_info().rss / 2**20,
                "system_memory_usage_megabytes": memory.used / 2**20,
                "system_memory_usage_percentage": memory.percent,
            })  # fmt: skip

    threading.Thread(target=sample, daemon=True).start()
