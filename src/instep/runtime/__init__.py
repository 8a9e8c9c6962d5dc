"""Runs a file on a real engine in a child process and hands back its values. Imports no runtime itself."""

from instep.runtime.bench import BenchResult, bench
from instep.runtime.engines import COMPILERS, ENGINES, FRAMEWORKS, available, engine_of, suffix_of
from instep.runtime.info import OpInfo, TensorInfo, TFLiteError, TFLiteInfo, tflite_info
from instep.runtime.litert import Job, RunResult, run, run_jobs, run_many
from instep.runtime.messages import Refusal, without_operator
from instep.runtime.vela import Placed, Placement, place, place_many

__all__ = [
    "COMPILERS", "ENGINES", "FRAMEWORKS", "BenchResult", "Job", "OpInfo", "Placed", "Placement", "Refusal", "RunResult",
    "TFLiteError", "TFLiteInfo", "TensorInfo", "available", "bench", "engine_of", "place", "place_many",
    "run", "run_jobs", "run_many", "suffix_of", "tflite_info", "without_operator",
]  # fmt: skip
