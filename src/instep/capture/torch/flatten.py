"""ExportedProgram → Program: sub-graphs inlined, in-place operators made pure, views kept true to their memory."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import GraphModule, Node

from instep.capture.base import CaptureError
from instep.capture.torch.masked import Picked, Sameness, full_shape, is_each, is_pick, mask_shape
from instep.capture.torch.memory import Memory, Slot, filling, functional, shares
from instep.capture.torch.order import in_order
from instep.capture.torch.places import place_of
from instep.capture.torch.program import FREE, INPUT, PARAM, Program, Step, refuse_random, steps_in
from instep.capture.torch.sizes import DATA_DEPENDENT, Unknown, known_shape, leaves, settled

__all__ = ["flatten"]

aten = torch.ops.aten
_SKIPPED = ("_assert_tensor_metadata", "_assert_scalar", "_assert_async", "sym_constrain_range", "_guards_fn")


def flatten(exported: Any) -> Program:
    """Flatten a torch.export ExportedProgram. Raises CaptureError for what cannot be made pure."""
    return _Flattener(exported).run()


class _Flattener:
    def __init__(self, exported: Any) -> None:
        self.exported = exported
        self.steps: list[Step] = []
        self.inputs: list[Step] = []
        self.names: set[str] = set()
        self.notes: list[str] = []
        self.tied: dict[Any, Step] = {}
        self.sameness = Sameness()
        self.constants = Program([], [], [])
        self.memory = Memory(self._emit)

    def run(self) -> Program:
        exported = self.exported
        signature = exported.graph_signature
        specs = {s.arg.name: s for s in signature.input_specs}
        env: dict[Node, Any] = {}
        module: GraphModule = exported.graph_module
        for node in module.graph.nodes:
            if node.op == "placeholder":
                step = self._placeholder(node, specs[node.name])
                env[node] = Slot(step) if step is not None else None
        results = self._walk(module, env)
        outputs: list[tuple[str, Step]] = []
        names = self._output_names()
        k = 0
        for spec, slot in zip(signature.output_specs, results, strict=True):
            if spec.kind.name != "USER_OUTPUT":
                if spec.kind.name == "BUFFER_MUTATION":
                    self.notes.append(f"the network changes its buffer '{spec.target}'; the first call is captured")
                elif spec.kind.name == "USER_INPUT_MUTATION":
                    self.notes.append(f"the network changes its input '{spec.target}' in place; this is not kept")
                continue
            name = names[k] if k < len(names) else f"output_{k}"
            k += 1
            if isinstance(slot, Slot):
                outputs.append((name, self.memory.read(slot)))
            elif isinstance(slot, Picked):
                raise CaptureError(DATA_DEPENDENT.format(place=f"output '{name}', from {slot.mask.place},"))
            else:
                self.notes.append(f"output '{name}' is the constant {slot!r}, not a tensor; left out")
        if not outputs:
            raise CaptureError("the network returns no tensor; return the tensors to convert from forward()")
        return Program(self.steps, self.inputs, outputs, self.notes)

    # -- inputs and outputs --------------------------------------------------------------------------------------
    def _placeholder(self, node: Node, spec: Any) -> Step | None:
        kind = spec.kind.name
        val = node.meta.get("val")
        if kind == "USER_INPUT":
            if not isinstance(val, torch.Tensor):
                return None
            if any(not isinstance(d, int) for d in val.shape):
                raise CaptureError(f"input '{node.name}' has the dynamic shape {list(val.shape)}; give a fixed shape")
            if val.dtype == torch.float64:
                what = f"input '{node.name}' is float64, and files hold float32"
                raise CaptureError(f"{what}; call .float() on the network and on what it is given")
            step = Step("input", self._unique(node.name), val=val, depends=INPUT)
            self.inputs.append(step)
            return step
        if kind not in ("PARAMETER", "BUFFER", "CONSTANT_TENSOR"):
            raise CaptureError(f"the exported program takes a {kind.lower()} '{node.name}', which is not supported")
        target = spec.target
        exported = self.exported
        tensor = exported.state_dict.get(target) if kind != "CONSTANT_TENSOR" else None
        if tensor is None:
            tensor = exported.constants[target]
        tensor = tensor.detach()
        # whole parameters that share memory are one value
        key = (tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype) if tensor.numel() else None
        if key is not None and key in self.tied and kind == "PARAMETER":
            return self.tied[key]
        trained = kind == "PARAMETER" or (kind == "BUFFER" and spec.persistent is not False)
        depends = PARAM if trained and tensor.is_floating_point() else FREE
        step = Step("weight", self._unique(target), val=val, depends=depends, tensor=tensor)
        if key is not None and kind == "PARAMETER":
            self.tied[key] = step
        return step

    def _output_names(self) -> list[str]:
        from torch.utils import _pytree as pytree

        spec = self.exported.call_spec.out_spec
        if spec is None:
            return []
        count = spec.num_leaves
        try:
            tree = pytree.tree_unflatten(list(range(count)), spec)
            leaves, _ = pytree.tree_flatten_with_path(tree)
        except Exception:
            return [f"output_{i}" for i in range(count)]
        names: list[str] = []
        for i, (path, _) in enumerate(leaves):
            parts = [str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", "")))) for k in path]
            named = [p for p in parts if p and not p.isdigit()]
            name = "_".join(p for p in parts if p) if named else (f"output_{'_'.join(parts)}" if parts else "output_0")
            name = re.sub(r"[^0-9A-Za-z_.]", "_", name)
            while name in names:
                name += f"_{i}"
            names.append(name)
        return names

    # -- nodes ---------------------------------------------------------------------------------------------------
    def _walk(self, module: GraphModule, env: dict[Node, Any]) -> Sequence[Any]:
        result: Any = ()
        for node in module.graph.nodes:
            if node.op == "call_function":
                env[node] = self._call(module, node, env)
            elif node.op == "get_attr":
                attribute = operator.attrgetter(str(node.target))(module)
                if isinstance(attribute, torch.Tensor):
                    step = Step("weight", self._unique(str(node.target)), val=attribute, tensor=attribute.detach())
                    env[node] = Slot(step)
                else:
                    env[node] = attribute
            elif node.op == "output":
                result = self._resolve(node.args[0], env)
            elif node.op == "call_module" and "_guards" in str(node.target):
                continue
            elif node.op != "placeholder":
                raise CaptureError(f"the exported program has a {node.op} '{node.target}', which is not supported")
        return result if isinstance(result, (list, tuple)) else (result,)

    def _resolve(self, arg: Any, env: dict[Node, Any]) -> Any:
        """``arg`` with fx nodes replaced by what they hold (slots, lists of slots, sub-modules, numbers)."""
        if isinstance(arg, Node):
            return env[arg]
        if isinstance(arg, (list, tuple)):
            return (
                [self._resolve(a, env) for a in arg]
                if isinstance(arg, list)
                else tuple(self._resolve(a, env) for a in arg)
            )
        if isinstance(arg, dict):
            return {k: self._resolve(v, env) for k, v in arg.items()}
        if isinstance(arg, slice):
            raise CaptureError("a slice of symbolic values is not supported; use fixed sizes")
        return arg

    def _steps(self, arg: Any) -> Any:
        """Slots → their current steps."""
        if isinstance(arg, Slot):
            return self.memory.read(arg)
        if isinstance(arg, Picked):
            return arg.all
        if type(arg) in (list, tuple):
            return type(arg)(self._steps(a) for a in arg)
        if isinstance(arg, dict):
            return {k: self._steps(v) for k, v in arg.items()}
        return arg

    def _call(self, module: GraphModule, node: Node, env: dict[Node, Any]) -> Any:
        target: Any = node.target
        if target is operator.getitem:
            held = env[node.args[0]]  # type: ignore[index]
            if isinstance(held, (list, tuple)):
                return held[node.args[1]]  # type: ignore[index]
            return self._item(node, held)
        name = str(target)
        if any(s in name for s in _SKIPPED):
            return None
        args = self._resolve(node.args, env)
        kwargs = self._resolve(node.kwargs, env)
        scope, origin = place_of(node)
        if isinstance(target, torch._ops.HigherOrderOperator):
            return self._higher_order(name, args, kwargs, scope, origin)
        at = Step("call", node.name, val=node.meta.get("val"), scope=scope, origin=origin)
        if not isinstance(target, torch._ops.OpOverload):
            if getattr(target, "__module__", "").startswith("torch._functorch."):
                raise CaptureError(
                    f"{at.place} belongs to a transform of torch.func (torch.vmap, say), which is not captured; "
                    "call the function on the batch itself"
                )
            known = all(isinstance(a, (bool, int, float)) for a in args)
            return target(*args, **kwargs) if known and not kwargs else Unknown(at.place)
        if target is aten.sym_size.int and isinstance(args[0], Slot) and known_shape(args[0].step.val):
            return args[0].step.val.shape[args[1]]
        if target is aten.item.default and isinstance(args[0], Slot) and args[0].step.depends == INPUT:
            return Unknown(at.place)
        picked = [a for a in (*args, *kwargs.values()) if isinstance(a, Picked)]
        if picked or is_pick(target, args, at.val):
            return self._masked(target, args, kwargs, picked, at)
        val = at.val if known_shape(at.val) else self._settled(target, args, kwargs)
        unknown = next((a.place for a in leaves((args, kwargs)) if isinstance(a, Unknown)), None)
        if (val is None and at.val is not None) or unknown is not None:
            raise CaptureError(DATA_DEPENDENT.format(place=unknown or at.place))
        if target._schema.is_mutable:
            return self._mutate(target, args, kwargs, node.name, val, scope, origin)
        step = self._emit(target, self._steps(args), self._steps(kwargs), node.name, val, scope, origin)
        return self._slot(step, target, args, kwargs)

    def _slot(self, step: Step, target: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        first = args[0] if args else None
        if isinstance(first, Slot) and isinstance(step.val, torch.Tensor) and shares(step.val, first.step.val):
            return Slot(step, first, (target, self._steps(tuple(args[1:])), self._steps(kwargs)))
        slot = Slot(step)
        if isinstance(first, Slot) and isinstance(step.val, (list, tuple)):
            slot.parent = first  # a list of views: its items find their memory through it
        return slot

    def _item(self, node: Node, held: Slot) -> Slot:
        index: Any = node.args[1]
        scope, origin = place_of(node)
        val = node.meta.get("val")
        val = val if known_shape(val) else held.step.val[index]
        step = self._emit(operator.getitem, (self.memory.read(held), index), {}, node.name, val, scope, origin)
        parent = held.parent
        if parent is None or not isinstance(val, torch.Tensor) or not shares(val, parent.step.val):
            return Slot(step)
        made = held.step
        name = str(made.target)
        if "unbind" in name:
            axis = made.args[1] if len(made.args) > 1 else made.kwargs.get("dim", 0)
            return Slot(step, parent, (aten.select.int, (axis, index), {}))
        if "chunk" in name or "split" in name:
            axis = made.args[2] if len(made.args) > 2 else made.kwargs.get("dim", 0)
            start = sum(v.shape[axis] for v in made.val[:index])
            return Slot(step, parent, (aten.slice.Tensor, (axis, start, start + val.shape[axis]), {}))
        return Slot(step, parent, (None, (), {}))

    def _emit(self, target: Any, args: Any, kwargs: Any, name: str, val: Any, scope: str, origin: str) -> Step:
        args = in_order(target, args)
        depends = max((s.depends for s in steps_in((args, kwargs))), default=FREE)
        step = Step("call", self._unique(name), target, tuple(args), dict(kwargs), val, scope, origin, depends)
        self.steps.append(step)
        return step

    def _higher_order(self, name: str, args: Any, kwargs: Any, scope: str, origin: str) -> Any:
        position = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}.get(name)
        if position is None:
            if name in ("cond", "while_loop", "scan", "map_impl"):
                raise CaptureError(
                    f"'{scope}' ({origin}) branches or loops on data ({name}); "
                    "make the decision before the network is captured"
                )
            raise CaptureError(f"'{scope}' ({origin}) uses the operator {name}, which is not supported")
        if name == "wrap_with_autocast" and args[2]:
            where = f"{place} " if (place := origin or scope) else "the network "
            raise CaptureError(f"{where}enables autocast inside forward(); capture it without autocast")
        inner: GraphModule = args[position]
        placeholders = [n for n in inner.graph.nodes if n.op == "placeholder"]
        env = dict(zip(placeholders, args[position + 1 :], strict=True))
        return list(self._walk(inner, env))

    def _settled(self, target: Any, args: Any, kwargs: Any) -> Any:
        """What the result is like where its size follows from constants (a fixed bool mask), else None."""
        try:
            return settled(target, self._steps(args), self._steps(kwargs), self.constants)
        except Exception:
            return None  # PyTorch cannot say: the caller refuses the step

    # -- masks ---------------------------------------------------------------------------------------------------
    def _masked(self, target: Any, args: Any, kwargs: Any, picked: list[Picked], at: Step) -> Any:
        """``x[mask]``, an element-wise operator on such values, or ``y[mask] = value`` (see ``masked``)."""
        if not picked:
            return Picked(self.memory.read(args[0]), tuple(None if i is None else self.memory.read(i) for i in args[1]))
        if target is aten.sym_size.int:
            return Unknown(at.place)
        pure = functional(target) if target._schema.is_mutable else None
        if str(pure or target).startswith("aten.index_put.") and args[2] is picked[0] and True not in args[3:]:
            step = self._put(args[0], args[1], picked[0], at)
            if pure is None:
                return Slot(step)
            self.memory.write(args[0], step)
            return args[0]
        others = [s.val for s in steps_in(self._steps([a for a in args if not isinstance(a, Picked)]))]
        shape = full_shape(picked, others) if is_each(target, pure) else None
        if shape is None or not all(self._same(picked[0].indices, p.indices) for p in picked):
            raise CaptureError(DATA_DEPENDENT.format(place=at.place))
        val = torch.empty(shape, dtype=at.val.dtype, device="meta")
        step = self._emit(pure or target, self._steps(args), self._steps(kwargs), at.name, val, at.scope, at.origin)
        if pure is not None and isinstance(args[0], Picked):
            step.cast = args[0].all.val.dtype
            args[0].all = step
            return args[0]
        return Picked(step, picked[0].indices)

    def _put(self, slot: Slot, indices: Sequence[Any], picked: Picked, at: Step) -> Step:
        """``slot`` with what ``picked`` holds where its mask is true; both must go by the same mask."""
        own = [None if i is None else self.memory.read(i) for i in indices]
        if len(own) != len(picked.indices) or not self._same(own, picked.indices):
            raise CaptureError(DATA_DEPENDENT.format(place=at.place))
        old = self.memory.read(slot)
        shape = mask_shape(picked, old.val.dim())
        flags = torch.empty(shape, dtype=torch.bool, device="meta")
        place = at.scope, at.origin
        mask = self._emit(aten.reshape.default, (picked.mask, shape), {}, f"{at.name}_mask", flags, *place)
        step = self._emit(aten.where.self, (mask, picked.all, old), {}, at.name, old.val, *place)
        step.cast = old.val.dtype
        return step

    def _same(self, a: Sequence[Step | None], b: Sequence[Step | None]) -> bool:
        return self.sameness.same(a, b, self.steps)

    # -- writes in place ----------------------------------------------------------------------------------------------
    def _mutate(self, target: Any, args: Any, kwargs: Any, name: str, val: Any, scope: str, origin: str) -> Any:
        pure, written = functional(target), args[:1]
        if pure is None and (filled := filling(target)) is not None:
            pure, written = filled[0], [kwargs[name] for name in filled[1]]
            kwargs = {k: v for k, v in kwargs.items() if k not in filled[1]}
        if pure is None or not all(isinstance(slot, Slot) for slot in written):
            refuse_random(Step("call", name, target, scope=scope, origin=origin))
            raise CaptureError(
                f"'{scope}' ({origin}) changes a tensor in place with {target}, which has no pure form; "
                "use the out-of-place operator"
            )
        if str(target) in ("aten.detach_.default", "aten.requires_grad_.default"):
            return args[0]
        held = [self._overwritten(slot) for slot in written]
        step = self._emit(pure, self._steps(args), self._steps(kwargs), name, val, scope, origin)
        steps = [step]
        if len(written) > 1:
            steps = [self._emit(operator.getitem, (step, i), {}, name, v, scope, origin) for i, v in enumerate(val)]
        for slot, old, new in zip(written, held, steps, strict=True):
            if isinstance(old, torch.Tensor):
                new.cast = old.dtype
                if new.val is None:
                    new.val = old
            self.memory.write(slot, new)
        return written[0] if len(written) == 1 else list(written)

    def _overwritten(self, slot: Slot) -> Any:
        """What ``slot`` holds before it is written to; a note where that is a weight or an input."""
        old = self.memory.read(slot)
        root = slot
        while root.parent is not None and root.view is not None:
            root = root.parent
        if root.step.kind in ("weight", "input"):
            held = "buffer" if root.step.kind == "weight" else "input"
            self.notes.append(f"the network changes its {held} '{root.step.name}' in place; the first call is captured")
        return old.val

    def _unique(self, name: str) -> str:
        unique, i = name, 1
        while unique in self.names:
            unique, i = f"{name}_{i}", i + 1
        self.names.add(unique)
        return unique
