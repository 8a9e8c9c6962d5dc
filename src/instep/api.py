"""The verbs, the types of what they return, and the errors that are theirs, by name."""

from instep.debug.bisection import Bisection
from instep.debug.stages import Stages
from instep.report.results import Bench, Conversion, Port, Verification
from instep.verbs.aim import TargetError
from instep.verbs.capture import capture
from instep.verbs.common import InstepError, Progress
from instep.verbs.convert import convert
from instep.verbs.debug import Cut, bisect, cut, stages
from instep.verbs.export import build, export, port
from instep.verbs.probe import Probe, probe
from instep.verbs.show import bench, show
from instep.verbs.targets import Check, check, legalize
from instep.verbs.text import dump, parse
from instep.verbs.verify import verify

__all__ = [
    "Bench", "Bisection", "Check", "Conversion", "Cut", "InstepError", "Port", "Probe", "Progress", "Stages",
    "TargetError", "Verification", "bench", "bisect", "build", "capture", "check", "convert", "cut", "dump", "export",
    "legalize", "parse", "port", "probe", "show", "stages", "verify",
]  # fmt: skip
