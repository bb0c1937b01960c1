"""Parses the text of a program that XLA has compiled, to list its kernels and their bytes."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.gpu.kernels import Kernel, Message

# Instructions that start no kernel and only name a value.
NAMES = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast"}
# Instructions that run other computations; a CUDA graph appears as a call.
CONTROL = {"while", "conditional", "call"}

# Exchanges between devices; asynchronous ones are two instructions, `-start` and `-done`.
MESSAGES = {"all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute"}

# Instructions that read only a part of their first operand.
PARTS = {"slice", "dynamic-slice", "gather"}

# Bits of a type; the names of other types contain the number: f32, u8, s64, f8e4m3fn.
_BITS = {"pred": 8, "bf16": 16}
_KINDS_OF_TARGETS = {
    "__cudnn$convForward": "convolution",
    "__cudnn$convBiasActivationForward": "convolution",
    "__cudnn$convBackwardInput": "convolution, gradient of its input",
    "__cudnn$convBackwardFilter": "convolution, gradient of its kernel",
    "__cublas$lt$matmul": "matrix product",
    "__cublas$gemm": "matrix product",
}
# Kinds by opcode. The kind of a fusion is that of the first of these opcodes that it contains.
_KINDS_OF_OPCODES = {
    "convolution": "convolution",
    "dot": "matrix product",
    "reduce": "sum or maximum",
    "transpose": "transposition",
    "gather": "gather",
    "concatenate": "concatenation",
}


class Instruction(NamedTuple):
    """One instruction of a computation.

    Attributes:
      name: its name, unique in the module.
      opcode: its operation.
      bytes: bytes of its result.
      operands: names of its operands; for a parameter, its number.
      rest: text of its attributes.
    """

    name: str
    opcode: str
    bytes: int
    operands: tuple[str, ...]
    rest: str

    def attribute(self, name: str) -> str | None:
        """The value of the attribute `name=value` without % and quotes, or None."""
        found = re.search(rf'\b{name}=[%"]?([^\s,"}}]+)', self.rest)
        return found and found[1]


class Program:
    """The computations of a compiled module.

    Args:
      text: the result of `compiled.as_text()`.

    Attributes:
      computations: instructions of each computation, in order, by its name.
      entry: name of the entry computation.
    """

    def __init__(self, text: str) -> None:
        self.computations: dict[str, list[Instruction]] = {}
        self.entry = ""
        name = ""
        for line in text.splitlines():
            if (begins := re.match(r"(ENTRY )?%?([\w.-]+) .*\{$", line)) is not None:
                name = begins[2]
                self.computations[name] = []
                self.entry = name if begins[1] else self.entry
            elif name and (instruction := _instruction(line)) is not None:
                self.computations[name].append(instruction)
        self._sizes = {i.name: i.bytes for found in self.computations.values() for i in found}

    def loops(self) -> list[str]:
        """The bodies of the loops that the entry computation runs."""
        return [i.attribute("body") or "" for i in self._run(self.entry) if i.opcode == "while"]

    def kernels(self, computation: str) -> list[Kernel]:
        """The kernels that one run of a computation starts, without its loops and messages."""
        return [self._kernel(i) for i in self._run(computation) if _is_kernel(i)]

    def messages(self, computation: str) -> list[Message]:
        """The exchanges between devices in one run of a computation, without its loops."""
        found = []
        beside: dict[str, list[Kernel]] = {}  # of messages that have started, by name
        for i in self._run(computation):
            kind = i.opcode.removesuffix("-start").removesuffix("-done")
            if kind not in MESSAGES:
                for kernels in beside.values():
                    kernels += [self._kernel(i)] * _is_kernel(i)
            elif i.opcode.endswith("-start"):
                beside[i.name] = []
            else:
                found.append(Message(kind, i.bytes, tuple(beside.pop(i.operands[0], ()))))
        return found

    def _kernel(self, i: Instruction) -> Kernel:
        return Kernel(self._kind(i), i.bytes + self._read(i), i.attribute("op_name") or "")

    def kinds(self) -> dict[str, Kernel]:
        """Kind and operation of each instruction that a run of the program executes, by name."""
        run = [i for name in (self.entry, *self.loops()) for i in self._run(name)]
        return {
            i.name: Kernel(self._kind(i), 0, self._comes_from(i))
            for i in run
            if i.opcode not in NAMES | CONTROL
        }

    def _read(self, instruction: Instruction) -> int:
        """Bytes read from the operands; only the parts read, where an operand is sliced."""
        sizes = [self._sizes.get(operand, 0) for operand in instruction.operands]
        if instruction.opcode in PARTS:
            sizes[0] = min(sizes[0], instruction.bytes)
        if instruction.opcode == "fusion":
            inside = self.computations.get(instruction.attribute("calls") or "", [])
            for parameter in inside:
                if parameter.opcode == "parameter":
                    place = int(parameter.operands[0])
                    sizes[place] = min(sizes[place], self._used(parameter, inside))
        return sum(sizes)

    def _used(self, whole: Instruction, inside: list[Instruction]) -> int:
        """Bytes of the parameter `whole` that the computation of a fusion reads."""
        total = 0
        for user in (i for i in inside if whole.name in i.operands):
            if user.opcode == "bitcast":
                total += self._used(user, inside)
            elif user.opcode in PARTS and whole.name not in user.operands[1:]:
                total += user.bytes
            else:
                return whole.bytes
        return total

    def number(self) -> int:
        """Number of kernels and messages of the program; the body of each loop counts once."""
        each = (self.entry, *self.loops())
        return sum(len(self.kernels(name)) + len(self.messages(name)) for name in each)

    def _run(self, computation: str) -> Iterator[Instruction]:
        """The instructions of a computation and of those that it calls."""
        for instruction in self.computations.get(computation, ()):
            yield instruction
            if instruction.opcode == "call":
                yield from self._run(instruction.attribute("to_apply") or "")

    def _kind(self, instruction: Instruction) -> str:
        if instruction.opcode == "custom-call":
            target = instruction.attribute("custom_call_target") or ""
            return _KINDS_OF_TARGETS.get(target, target)
        if instruction.opcode != "fusion":
            return _KINDS_OF_OPCODES.get(instruction.opcode, instruction.opcode)
        inside = self._opcodes(instruction.attribute("calls") or "")
        return next(
            (kind for opcode, kind in _KINDS_OF_OPCODES.items() if opcode in inside),
            "element by element",
        )

    def _comes_from(self, instruction: Instruction) -> str:
        """The traced operation of an instruction; for a fusion without one, its first operation."""
        inside = self.computations.get(instruction.attribute("calls") or "", [])
        names = (i.attribute("op_name") for i in (instruction, *inside))
        return next(filter(None, names), "")

    def _opcodes(self, computation: str) -> set[str]:
        found: set[str] = set()
        for instruction in self.computations.get(computation, ()):
            found.add(instruction.opcode)
            if inner := instruction.attribute("calls"):
                found |= self._opcodes(inner)
        return found


def _instruction(line: str) -> Instruction | None:
    begins = re.match(r"\s+(?:ROOT )?%?([\w.-]+) = ", line)
    if begins is None:
        return None
    shape, rest = _shape(line[begins.end() :])
    opcode, arguments = rest.lstrip().split("(", 1)
    inside = _closing(arguments)
    pattern = r"\d+" if opcode == "parameter" else r"%([\w.-]+)"
    operands = tuple(re.findall(pattern, arguments[:inside]))
    return Instruction(begins[1], opcode, _bytes(shape), operands, arguments[inside + 1 :])


def _is_kernel(i: Instruction) -> bool:
    is_message = i.opcode.removesuffix("-start") in MESSAGES
    return not is_message and i.opcode not in NAMES | CONTROL and not i.opcode.endswith("-done")


def _shape(text: str) -> tuple[str, str]:
    """Splits the text of an instruction into (shape, rest)."""
    end = 2 + _closing(text[1:]) if text.startswith("(") else text.index(" ")
    return text[:end], text[end:]


def _closing(text: str) -> int:
    """Position of the parenthesis that closes the one opened before `text`."""
    depth = 1
    for place, letter in enumerate(text):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if depth == 0:
            return place
    raise ValueError(f"unbalanced parentheses: {text[:80]}")


def _bytes(shape: str) -> int:
    total = 0
    # Long tuples contain comments that count their members: /*index=5*/.
    for dtype, sizes in re.findall(r"([a-z]\w*)\[([\d,]*)\]", re.sub(r"/\*.*?\*/", "", shape)):
        bits = _BITS.get(dtype) or int(re.match(r"[a-z]+(\d*)", dtype)[1] or 0)
        count = 1
        for size in filter(None, sizes.split(",")):
            count *= int(size)
        total += bits // 8 * count
    return total
