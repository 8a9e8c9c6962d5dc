"""One loaded file on one engine, inside the child process: the interpreter's engines and the compiled model's."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from instep.runtime.engines import FRAMEWORKS
from instep.runtime.info import TFLiteInfo, tflite_info

__all__ = ["GpuSession", "InterpreterSession", "Readable", "Session", "open_session"]


@dataclass(frozen=True)
class Readable:
    """A tensor whose value can be read after a run."""

    name: str
    key: int
    scale: float = 0.0
    zero_point: int = 0


class Session(Protocol):
    """A file, compiled and ready. ``resident``: all of it runs on the accelerator (None: there is none).

    ``placed``: how many operators the delegate took and left, where the runtime tells.
    """

    resident: bool | None
    placed: tuple[int, int] | None
    outputs: list[Readable]
    kept: list[Readable]

    def give(self, arrays: Sequence[np.ndarray]) -> None:
        """Set the inputs. ValueError when they do not fit."""
        ...

    def invoke(self) -> None: ...

    def read(self, tensor: Readable) -> np.ndarray: ...


def open_session(path: str, engine: str, threads: int = 1, keep_all: bool = False) -> Session:
    """Load ``path``; a file that the engine refuses raises RuntimeError or ValueError."""
    if engine in ("xnnpack", "builtin"):
        return InterpreterSession(path, engine, threads, keep_all)
    if engine in FRAMEWORKS:
        from instep.runtime.frameworks import ModuleSession

        return ModuleSession(path, engine, keep_all)
    return GpuSession(path, half=engine.endswith("fp16"))


def _check(given: Sequence[np.ndarray], wanted: Sequence[tuple[str, Sequence[int]]]) -> None:
    if len(given) != len(wanted):
        raise ValueError(f"the file has {len(wanted)} inputs, {len(given)} were given")
    for (name, shape), array in zip(wanted, given, strict=True):
        if list(shape) != list(array.shape):
            raise ValueError(f"input '{name}' is {list(shape)}, got {list(array.shape)}")


class InterpreterSession:
    """TFLite's interpreter, with XNNPACK or without any delegate."""

    resident: bool | None = None
    placed: tuple[int, int] | None = None

    def __init__(self, path: str, engine: str, threads: int, keep_all: bool) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        resolver = {
            "xnnpack": OpResolverType.AUTO,
            "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        }[engine]
        self.open = functools.partial(
            Interpreter,
            model_path=path,
            num_threads=threads,
            experimental_op_resolver_type=resolver,
            experimental_preserve_all_tensors=keep_all,
        )
        self.interpreter = self.open()
        self.interpreter.allocate_tensors()
        names = {op["op_name"] for op in self.interpreter._get_ops_details()}
        self.used, self.resources = False, bool(names & {"CALL_ONCE", "VAR_HANDLE"})
        self.outputs = [self._readable(d) for d in self.interpreter.get_output_details()]
        self.kept = self._kept() if keep_all else []
        if engine == "xnnpack":
            self.placed = _delegated(self.interpreter._get_ops_details())

    @staticmethod
    def _readable(detail: dict[str, Any]) -> Readable:
        scale, zero = detail["quantization"]
        return Readable(detail["name"], detail["index"], float(scale), int(zero))

    def _kept(self) -> list[Readable]:
        """The tensors that operators make, and the inputs."""
        made = {int(i) for op in self.interpreter._get_ops_details() for i in op["outputs"] if i >= 0}
        made |= {d["index"] for d in self.interpreter.get_input_details()}
        return [self._readable(d) for d in self.interpreter.get_tensor_details() if d["index"] in made]

    def give(self, arrays: Sequence[np.ndarray]) -> None:
        self.forget()
        details = self.interpreter.get_input_details()
        _check(arrays, [(d["name"], d["shape"].tolist()) for d in details])
        for detail, array in zip(details, arrays, strict=True):
            self.interpreter.set_tensor(detail["index"], array.astype(detail["dtype"], copy=False))

    def forget(self) -> None:
        """Each set of inputs meets a fresh network: no state that the run before has left."""
        if self.resources and self.used:
            # variables outlive a reset of the state tensors
            self.interpreter = self.open()
            self.interpreter.allocate_tensors()
        else:
            self.interpreter.reset_all_variables()

    def invoke(self) -> None:
        self.used = True
        self.interpreter.invoke()

    def read(self, tensor: Readable) -> np.ndarray:
        return self.interpreter.get_tensor(tensor.key)


def _delegated(ops: Sequence[dict[str, Any]]) -> tuple[int, int]:
    """(taken, left): the operators that the DELEGATE nodes, which follow the file's own, stand for."""
    makers = {int(i): n for n, op in enumerate(ops) if op["op_name"] != "DELEGATE" for i in op["outputs"] if i >= 0}
    taken: set[int] = set()
    for part in (op for op in ops if op["op_name"] == "DELEGATE"):
        borders, open_ends = {int(i) for i in part["inputs"]}, [int(i) for i in part["outputs"]]
        while open_ends:
            maker = makers.get(open_ends.pop())
            if maker is not None and maker not in taken:
                taken.add(maker)
                open_ends += [int(i) for i in ops[maker]["inputs"] if i >= 0 and int(i) not in borders]
    return len(taken), sum(op["op_name"] != "DELEGATE" for op in ops) - len(taken)


#: How LiteRT says that a read has waited for the device in vain (kLiteRtStatusErrorTimeoutExpired).
_GAVE_UP = "code=7,"


@functools.cache
def _gpu_environment() -> Any:
    """One for all files of a child: the device is opened once, and kernels that two files share compile once."""
    from ai_edge_litert import compiled_model

    return compiled_model._create_default_environment()


class GpuSession:
    """LiteRT's compiled model on its GPU accelerator alone: a file that is not accepted whole is refused."""

    def __init__(self, path: str, *, half: bool) -> None:
        from ai_edge_litert.compiled_model import CompiledModel
        from ai_edge_litert.hardware_accelerator import HardwareAccelerator
        from ai_edge_litert.options import GpuOptions, Options

        self.info: TFLiteInfo = tflite_info(path)
        self.placed: tuple[int, int] | None = None
        options = Options(hardware_accelerators=HardwareAccelerator.GPU, gpu_options=GpuOptions(enforce_f32=not half))
        self.model = CompiledModel.from_file(path, options=options, environment=_gpu_environment())
        self.resident: bool | None = self.model.is_fully_accelerated()
        self.inputs = self.model.create_input_buffers(0)
        self.results = self.model.create_output_buffers(0)
        signature = self.model.get_signature_by_index(0)
        details = self.model.get_input_tensor_details(signature["key"])
        self.input_order = _order(signature["inputs"], details, self.info.inputs)
        details = self.model.get_output_tensor_details(signature["key"])
        self.result_order = _order(signature["outputs"], details, self.info.outputs)
        self.outputs = [self._readable(i, place) for place, i in enumerate(self.info.outputs)]
        sizes = [int(np.prod(buffer.get_tensor_details()["shape"], dtype=np.int64)) for buffer in self.results]
        self.smallest = sizes.index(min(sizes))
        self.spare: list[Any] = []
        self.kept: list[Readable] = []
        self.values: list[np.ndarray] = []

    def _readable(self, index: int, place: int) -> Readable:
        tensor = self.info.tensors[index]
        per_tensor = len(tensor.scale) == 1
        scale = tensor.scale[0] if per_tensor else 0.0
        zero = tensor.zero_point[0] if per_tensor and tensor.zero_point else 0
        return Readable(tensor.name, self.result_order[place], scale, zero)

    def give(self, arrays: Sequence[np.ndarray]) -> None:
        tensors = [self.info.tensors[i] for i in self.info.inputs]
        _check(arrays, [(t.name, t.shape) for t in tensors])
        for place, tensor, array in zip(self.input_order, tensors, arrays, strict=True):
            self.inputs[place].write(np.ascontiguousarray(array, tensor.dtype))

    def invoke(self) -> None:
        # the device works on while `run_by_index` returns: only a read waits for it
        self.model.run_by_index(0, self.inputs, self.results)
        self._wait()
        self.values = [_value(buffer) for buffer in self.results]

    def _wait(self) -> None:
        """Until the device has done all that was asked of it: how long that may take, the parent process says.

        A read gives up after 120 s and leaves its buffer locked for good, so a spare one waits in the results' place:
        what is asked of the device is done in order.
        """
        while True:
            spare = self.spare or self.model.create_output_buffers(0)
            self.spare = []
            try:
                _value(spare[self.smallest])
            except RuntimeError as error:
                if _GAVE_UP not in str(error):
                    raise
                continue
            self.spare = spare
            return

    def read(self, tensor: Readable) -> np.ndarray:
        return self.values[tensor.key]


def _value(buffer: Any) -> np.ndarray:
    detail = buffer.get_tensor_details()
    shape = tuple(detail["shape"])
    return buffer.read(int(np.prod(shape, dtype=np.int64)), np.dtype(detail["dtype"])).reshape(shape)


def _order(names: Sequence[str], details: dict[str, Any], wanted: Sequence[int]) -> list[int]:
    """For each tensor of the subgraph's list ``wanted`` the place of its buffer in the signature's ``names``."""
    left: dict[int, list[int]] = {}
    for place, name in enumerate(names):
        left.setdefault(details[name]["index"], []).append(place)
    if sorted(i for i, places in left.items() for _ in places) != sorted(wanted):
        return list(range(len(wanted)))
    return [left[index].pop(0) for index in wanted]


def timed(session: Session) -> float:
    """Invoke once; the seconds that it took."""
    start = time.perf_counter()
    session.invoke()
    return time.perf_counter() - start
