"""Runs a file on a real engine in a child process and hands back its values. Imports no runtime itself."""

from instep.runtime.info import OpInfo, TensorInfo, TFLiteError, TFLiteInfo, tflite_info
from instep.runtime.litert import ENGINES, BenchResult, Job, RunResult, bench, run, run_jobs, run_many

__all__ = [
    "ENGINES", "BenchResult", "Job", "OpInfo", "RunResult", "TFLiteError", "TFLiteInfo", "TensorInfo", "bench", "run",
    "run_jobs", "run_many", "tflite_info",
]  # fmt: skip
