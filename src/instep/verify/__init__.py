"""Are two of them the same function? If not, where and why: the proof, value by value."""

from instep.verify.inputs import InputSet, Picture, make_inputs
from instep.verify.lossy import Figures
from instep.verify.noise import LIMITS, Limits
from instep.verify.reference import GraphReference, Reference
from instep.verify.subject import GraphSubject, Subject
from instep.verify.verdict import Diagnosis, Row, Verdict
from instep.verify.verify import judge, verify

__all__ = [
    "LIMITS", "Diagnosis", "Figures", "GraphReference", "GraphSubject", "InputSet", "Limits", "Picture", "Reference",
    "Row", "Subject", "Verdict", "judge", "make_inputs", "verify",
]  # fmt: skip
