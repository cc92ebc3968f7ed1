"""The manifest of a model file, read and checked as awsnet reads and checks it (docs/model-format.md).

`read_manifest` takes every key once and refuses what nobody asked for, so what is trained here is what was written. The
shapes that follow from a manifest are in `shapes`, for they need the widths of its layers. An error names the place,
what was expected and what was found. tests/model_file/faults.json lists the faults; both readers are tested with it.
"""

import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import numpy as np

T = TypeVar("T")
Pair = tuple[int, int]

MOST = 2**32 - 1
MOST_ELEMENTS = (2**63 - 1) // 8  # of a map
WEIGHTED = ("conv2d", "linear")
POOLS = ("max_pool2d", "avg_pool2d")
OPS = (*WEIGHTED, *POOLS, "global_avg_pool2d", "identity")
OPS_2 = ("concat", "upsample2d", "adaptive_avg_pool2d")
ACTIVATIONS = ("none", "relu", "leaky_relu", "silu")
ACTIVATIONS_2 = ("relu6", "hardswish", "hardsigmoid", "sigmoid", "tanh", "gelu", "gelu_tanh", "elu", "prelu")
UNITS = ("none", "layer", "channel", "dense", "gate")
GATES = ("softmax", "sigmoid")
KINDS = ("classes", "units", "values")
POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
# What the heads of version 1 are.
KINDS_1 = {"emotion": "classes", "au": "units"}


class ModelError(ValueError):
    """A fault of a manifest or a tensor."""

    def __init__(self, place: str, expected: str, found: str) -> None:
        super().__init__(f"{place}: expected {expected}, found {found}")
        self.place, self.expected, self.found = place, expected, found


@dataclass(frozen=True)
class Input:
    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    order: str = "rgb"


@dataclass(frozen=True)
class Layer:
    """A layer pair with its defaults filled in; what its op does not have keeps the default."""

    name: str
    op: str
    inputs: tuple[str, ...]  # one, but for concat
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)  # top, left, bottom, right
    dilation: Pair = (1, 1)
    groups: int = 1
    ceil_mode: bool = False
    count_include_pad: bool = True
    factor: Pair = (1, 1)  # of upsample2d
    output: Pair = (1, 1)  # of adaptive_avg_pool2d
    batch_norm: str | None = None
    batch_norm_eps: float = 1e-5
    scale: str | None = None
    residual: str | None = None
    activation: str = "none"
    negative_slope: float = 0.01
    prelu: str | None = None
    aws: str = "none"
    gate: str = "softmax"

    @property
    def place(self) -> str:
        return f"layer {quoted(self.name)}"


@dataclass(frozen=True)
class Head:
    name: str
    branch: str
    input: str
    tensor: str | None
    kind: str
    labels: tuple[str, ...] | None
    thresholds: tuple[float, ...]

    @property
    def place(self) -> str:
        return f"head {quoted(self.name)}"


@dataclass(frozen=True)
class Manifest:
    version: int
    name: str | None
    input: Input
    branches: tuple[str, ...]
    layers: tuple[Layer, ...]
    heads: tuple[Head, ...]


def escaped(text: str) -> str:
    """Text from outside, with control characters escaped and its middle left out where it is long."""

    def escape(c: str) -> str:
        if unicodedata.category(c) not in ("Cc", "Cs"):
            return c
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(c, f"\\u{{{ord(c):x}}}")

    if len(text) <= 120 and len(whole := "".join(map(escape, text))) <= 120:
        return whole
    head, tail = "".join(map(escape, text[:60])), "".join(map(escape, text[-60:]))
    return f"{head[:60]}...{tail[-60:]} ({len(text.encode(errors='replace'))} bytes)"


def quoted(name: str) -> str:
    return f"`{escaped(name)}`"


def shown(value: object) -> str:
    """A JSON value as a message shows it: short."""
    match value:
        case None | bool():
            return json.dumps(value)
        case str():
            return f'"{escaped(value)}"'
        case list() if len(value) <= 4 and all(not isinstance(v, list | dict) and len(str(v)) <= 20 for v in value):
            return f"[{', '.join(map(shown, value))}]"
        case list():
            return f"an array of {len(value)}"
        case dict():
            return "an object"
        case int() | float():
            return escaped(repr(value)) if abs(value) < 1e308 else "a number beyond measure"
    return f"a {type(value).__name__}, which is no JSON"


def as_string(value: object) -> str | None:
    """A string that UTF-8 can hold."""
    if not isinstance(value, str):
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value


def as_float(value: object) -> float | None:
    """A number that is finite as an f32, rounded to it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not abs(value) < 1e39:
        return None
    with np.errstate(over="ignore"):
        rounded = float(np.float32(value))
    return rounded if math.isfinite(rounded) else None


def as_integer(value: object, least: int) -> int | None:
    """An integer from `least` on; one written as 3.0 is none."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if least <= value <= MOST else None


class Object:
    """A JSON object being read: every key is taken once, and `finish` refuses what is left over."""

    def __init__(self, place: str, value: object) -> None:
        if not isinstance(value, Mapping):
            raise ModelError(place, "a JSON object", shown(value))
        self.place, self.members, self.known = place, dict(value), list[str]()

    def error(self, key: str, expected: str, found: str) -> ModelError:
        return ModelError(f"{self.place}: `{key}`", expected, found)

    def missing(self, key: str, expected: str) -> NoReturn:
        raise self.error(key, expected, "nothing: the key is missing")

    def has(self, key: str) -> bool:
        return key in self.members

    def take(self, key: str) -> Any:  # noqa: ANN401, JSON
        """The value, or None where the key is missing; see `has` for a null."""
        self.known.append(key)
        return self.members.pop(key, None)

    def convert(self, key: str, expected: str, convert: Callable[[Any], T | None], default: T | None = None) -> T:
        """The value under `key`; what `convert` makes None of is refused. Without a default it must be there."""
        if not self.has(key):
            self.known.append(key)
            if default is None:
                self.missing(key, expected)
            return default
        value = self.take(key)
        converted = convert(value)
        if converted is None:
            raise self.error(key, expected, shown(value))
        return converted

    def string(self, key: str, expected: str = "a string", default: str | None = None) -> str:
        return self.convert(key, expected, as_string, default)

    def optional_string(self, key: str) -> str | None:
        return self.string(key) if self.has(key) else self.take(key)

    def choice(self, key: str, choices: tuple[str, ...], default: str | None = None) -> str:
        expected = f"{', '.join(choices[:-1])} or {choices[-1]}"
        value = self.string(key, expected, default)
        if value not in choices:
            raise self.error(key, expected, quoted(value))
        return value

    def boolean(self, key: str, default: bool) -> bool:
        return self.convert(key, "true or false", lambda value: value if isinstance(value, bool) else None, default)

    def number(self, key: str, default: float) -> float:
        return self.convert(key, "a finite number", as_float, default)

    def integer(self, key: str, least: int, default: int | None = None) -> int:
        return self.convert(key, f"an integer from {least} to {MOST}", lambda v: as_integer(v, least), default)

    def integers(self, key: str, least: int, lengths: tuple[int, ...], alone: bool = True) -> list[int] | None:
        """One or more integers; one alone stands for [n]."""
        if not self.has(key):
            return self.take(key)
        of_them = f"array of {' or '.join(map(str, lengths))} of them"
        expected = f"{'an integer' if alone else 'integers'} from {least} to {MOST}" + (
            f" or an {of_them}" if alone else f", an {of_them}"
        )

        def convert(value: object) -> list[int] | None:
            if isinstance(value, list | tuple):
                found = [as_integer(v, least) for v in value]
                return [v for v in found if v is not None] if len(value) in lengths and None not in found else None
            one = as_integer(value, least)
            return [one] if alone and one is not None else None

        return self.convert(key, expected, convert)

    def pair(self, key: str, default: Pair | None = None) -> Pair:
        values = self.integers(key, 1, (2,))
        if values is None and default is None:
            self.missing(key, "an integer or [h, w], at least 1")
        return (values[0], values[-1]) if values else default or (1, 1)

    def padding(self) -> tuple[int, int, int, int]:
        match self.integers("padding", 0, (2, 4)):
            case [top, left, bottom, right]:
                return top, left, bottom, right
            case [height, width]:
                return height, width, height, width
            case [side]:
                return side, side, side, side
        return 0, 0, 0, 0

    def array(self, key: str, element: str, convert: Callable[[Any], T | None]) -> tuple[T, ...] | None:
        if not self.has(key):
            return self.take(key)
        values = self.take(key)
        if not isinstance(values, list | tuple):
            raise self.error(key, f"an array, each {element}", shown(values))
        converted = []
        for index, value in enumerate(values):
            one = convert(value)
            if one is None:
                raise self.error(key, f"{element} at index {index}", shown(value))
            converted.append(one)
        return tuple(converted)

    def finish(self) -> None:
        for key in self.members:
            name = key if isinstance(key, str) else repr(key)
            raise ModelError(self.place, f"the keys {', '.join(self.known)}", f"the unknown key {quoted(name)}")


def parse_json(text: str) -> Any:  # noqa: ANN401, JSON
    """A manifest's text; no key twice and no number that JSON does not have."""

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise ValueError(f"the key {quoted(key)} twice")
            found[key] = value
        return found

    def constant(name: str) -> NoReturn:
        raise ValueError(f"the number {name}")

    try:
        return json.loads(text, object_pairs_hook=members, parse_constant=constant)
    except RecursionError:
        found = "a recursion without end"
    except ValueError as error:
        found = escaped(str(error)) if text else "EOF while parsing a value"
    raise ModelError("manifest", "valid JSON in UTF-8, no key twice", found)


def read_manifest(value: object) -> Manifest:
    """The manifest of a JSON tree, of version 1 or 2, checked as far as that is possible without the widths."""
    manifest = Object("manifest", value)
    version = manifest.take("version")
    if isinstance(version, bool) or not isinstance(version, int) or version not in (1, 2):
        found = "nothing: the key is missing" if version is None else shown(version)
        raise manifest.error("version", "1 or 2, the versions this library reads", found)
    name = manifest.optional_string("name")
    branches = read_branches(manifest) if version > 1 else tuple(KINDS_1)
    image = read_input(manifest.convert("input", "an object", lambda value: value), version)
    entries = manifest.convert("layers", "an array of layers", lambda v: v if isinstance(v, list | tuple) else None)
    layers: list[Layer] = []
    names: set[str] = set()
    for index, entry in enumerate(entries):
        layer = read_layer(index, entry, layers, names, version, branches)
        if layer.name in names:
            raise ModelError(f"layer {index}: `name`", "a name of its own", f"{quoted(layer.name)}, used before")
        names.add(layer.name)
        layers.append(layer)
    heads = Object("manifest: `heads`", manifest.convert("heads", "an object", lambda value: value))
    if version == 1:
        read = [read_head(head, heads.convert(head, "an object", lambda v: v), names, 1, branches) for head in KINDS_1]
        heads.finish()
    else:
        if not heads.members:
            raise manifest.error("heads", "at least one head", "none")
        read = [read_head(head, entry, names, version, branches) for head, entry in heads.members.items()]
        read_face(manifest)
        read_about(manifest)
    manifest.finish()
    return Manifest(version, name, image, branches, tuple(layers), tuple(read))


def read_branches(manifest: Object) -> tuple[str, ...]:
    expected = "1 or 2 distinct names of letters, digits and `_`, neither `aws` nor `image`"
    if not manifest.has("branches"):
        manifest.take("branches")
        return tuple(KINDS_1)

    def name(value: object) -> str | None:
        return (
            value
            if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_]+", value) and value not in ("aws", "image")
            else None
        )

    branches = manifest.array("branches", "a name of letters, digits and `_`, neither `aws` nor `image`,", name) or ()
    if len(branches) not in (1, 2) or len(set(branches)) < len(branches):
        raise manifest.error("branches", expected, shown(list(branches)))
    return branches


def read_input(value: object, version: int) -> Input:
    image = Object("manifest: `input`", value)
    channels = image.integer("channels", 1)
    if channels not in (1, 3):
        raise image.error("channels", "1 (luma) or 3 (RGB)", str(channels))
    height, width = image.integer("height", 1), image.integer("width", 1)
    if channels * height * width > MOST_ELEMENTS:
        raise image.error("height", "an image that fits the address space", f"{channels}x{height}x{width}")

    def per_channel(key: str) -> tuple[float, ...]:
        expected = f"an array of {channels} finite numbers, one a channel"
        values = image.array(key, "a finite number", as_float)
        if values is None:
            image.missing(key, expected)
        if len(values) != channels:
            raise image.error(key, expected, f"{len(values)} numbers")
        return values

    mean, std = per_channel("mean"), per_channel("std")
    for deviation in std:
        if deviation <= 0:
            raise image.error("std", "numbers greater than 0", shown(deviation))
    if version > 1:
        check_normalisation(image, mean, std)
    order = image.choice("order", ("rgb", "bgr"), "rgb") if version > 1 else "rgb"
    if order == "bgr" and channels == 1:
        raise image.error("order", "`rgb`, for there is one channel", "`bgr`")
    image.finish()
    return Input(channels, height, width, mean, std, order)


def check_normalisation(image: Object, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """1/std and (v - mean)/std are finite in f32 for v from 0 to 1."""
    with np.errstate(all="ignore"):
        divisor, shift = np.asarray(std, np.float32), np.asarray(mean, np.float32)
        scaled = [1 / divisor, (np.float32(0) - shift) / divisor, (np.float32(1) - shift) / divisor]
    for channel in range(len(std)):
        if not all(np.isfinite(values[channel]) for values in scaled):
            expected = "1/std and (v - mean)/std that are finite in f32 for v from 0 to 1"
            raise image.error("std", expected, f"{std[channel]:g} with the mean {mean[channel]:g}")


def read_layer(
    index: int, value: object, before: list[Layer], names: set[str], version: int, branches: tuple[str, ...]
) -> Layer:
    layer = Object(f"layer {index}", value)
    allowed = "letters, digits, `_` and `.`" if version == 1 else "letters, digits, `_`, `-` and `.`"
    expected = f"a name of {allowed}, other than `image`"
    name = layer.string("name", expected)
    if name == "image" or not re.fullmatch(r"[A-Za-z0-9_.]+" if version == 1 else r"[A-Za-z0-9_.\-]+", name):
        raise layer.error("name", expected, quoted(name))
    layer.place = f"layer {quoted(name)}"

    def earlier(key: str) -> str | None:
        source = layer.optional_string(key)
        if source is not None and source not in names:
            raise layer.error(key, "the name of an earlier layer", quoted(source))
        return source

    keys: dict[str, Any] = {}
    reads: tuple[str, ...] = ()
    # The op says whether there is one input, or several.
    if version == 1 or layer.members.get("op") != "concat":
        if layer.members.get("input") == "image":
            reads = (layer.string("input"),)
        else:
            source = earlier("input")
            reads = (source or (before[-1].name if before else "image"),)
    op = layer.choice("op", OPS if version == 1 else (*OPS, *OPS_2))
    match op:
        case "conv2d":
            keys |= {"kernel": layer.pair("kernel"), "stride": layer.pair("stride", (1, 1)), "padding": layer.padding()}
            keys |= {"dilation": layer.pair("dilation", (1, 1)), "groups": layer.integer("groups", 1, 1)}
        case "max_pool2d" | "avg_pool2d":
            keys["kernel"] = layer.pair("kernel")
            keys |= {"stride": layer.pair("stride", keys["kernel"]), "padding": layer.padding()}
            (height, width), (top, left, bottom, right) = keys["kernel"], keys["padding"]
            if max(top, bottom) >= height or max(left, right) >= width:
                found = f"[{top}, {left}, {bottom}, {right}]"
                raise layer.error("padding", f"less than the kernel, {height}x{width}", found)
            if version > 1:
                keys["ceil_mode"] = layer.boolean("ceil_mode", False)
                if op == "avg_pool2d":
                    keys["count_include_pad"] = layer.boolean("count_include_pad", True)
        case "concat":
            sources = layer.array("inputs", "the name of an earlier layer", as_string)
            if sources is None:
                layer.missing("inputs", "an array of two or more earlier layers")
            for source in sources:
                if source not in names:
                    raise layer.error("inputs", "the names of earlier layers", quoted(source))
            if len(sources) < 2:
                raise layer.error("inputs", "two or more earlier layers", shown(list(sources)))
            reads = sources
        case "upsample2d":
            keys["factor"] = layer.pair("factor")
        case "adaptive_avg_pool2d":
            size = layer.integers("output", 1, (2,), alone=False)
            if size is None:
                layer.missing("output", "[h, w], at least 1")
            keys["output"] = (size[0], size[1])

    if op in WEIGHTED or version > 1:
        norm, has_eps = layer.optional_string("batch_norm"), layer.has("batch_norm_eps")
        eps = layer.number("batch_norm_eps", 1e-5)
        if norm is None and has_eps:
            raise layer.error("batch_norm_eps", "a `batch_norm` that it belongs to", "none")
        if eps < 0:
            raise layer.error("batch_norm_eps", "a number of at least 0", shown(eps))
        keys |= {"batch_norm": norm, "batch_norm_eps": eps}
    if version > 1:
        keys["scale"] = earlier("scale")
    keys["residual"] = earlier("residual")
    keys["activation"] = layer.choice(
        "activation", ACTIVATIONS if version == 1 else (*ACTIVATIONS, *ACTIVATIONS_2), "none"
    )
    if keys["activation"] == "leaky_relu":
        keys["negative_slope"] = layer.number("negative_slope", 0.01)
    if keys["activation"] == "prelu":
        keys["prelu"] = layer.string("prelu", "the prefix of the tensor of its slopes")
    keys["aws"] = layer.choice("aws", UNITS, "none")
    if keys["aws"] == "gate":
        keys["gate"] = layer.choice("gate", GATES, "softmax")
    if keys["aws"] != "none" and len(branches) == 1:
        raise layer.error("aws", "none, for there is one branch", quoted(keys["aws"]))
    layer.finish()
    return Layer(name, op, reads, **keys)


def read_head(name: str, value: object, names: set[str], version: int, branches: tuple[str, ...]) -> Head:
    if version > 1 and not re.fullmatch(r"[A-Za-z0-9_]+", name):
        raise ModelError("manifest: `heads`", "names of letters, digits and `_`", quoted(name))
    head = Object(f"head {quoted(name)}", value)
    branch = name
    if version > 1:
        expected = f"the name of a branch: {' or '.join(branches)}"
        branch = head.string("branch", expected, name)
        if branch not in branches:
            raise head.error("branch", expected, quoted(branch))
    source = head.string("input", "the name of a layer")
    if source != "image" and source not in names:
        raise head.error("input", "the name of an earlier layer", quoted(source))
    no_tensor = version > 1 and head.has("tensor") and head.members["tensor"] is None
    tensor = head.take("tensor") if no_tensor else head.string("tensor", default="fc")
    kind = KINDS_1[name] if version == 1 else head.choice("kind", KINDS)
    labels = read_labels(head, kind)
    thresholds: tuple[float, ...] = ()
    if kind == "units" and labels is not None:

        def in_range(value: object) -> float | None:
            number = as_float(value)
            return number if number is not None and 0 <= number <= 1 else None

        given = head.array("thresholds", "a number from 0 to 1", in_range)
        thresholds = (0.5,) * len(labels) if given is None else given
        if len(thresholds) != len(labels):
            raise head.error("thresholds", f"{len(labels)} numbers, one a label", str(len(thresholds)))
    head.finish()
    return Head(name, branch, source, tensor, kind, labels, thresholds)


def read_labels(head: Object, kind: str) -> tuple[str, ...] | None:
    if kind == "values" and head.members.get("labels") is None:
        head.take("labels")
        return None
    labels = head.array("labels", "a string", as_string)
    if labels is None:
        head.missing("labels", "an array of strings")
    if not labels:
        raise head.error("labels", "at least one label", "none")
    seen = set[str]()
    for label in labels:
        if not label or label in seen:
            raise head.error("labels", "labels that are distinct and not empty", quoted(label))
        seen.add(label)
    return labels


def read_face(manifest: Object) -> None:
    if not manifest.has("face"):
        manifest.take("face")
        return
    face = Object("manifest: `face`", manifest.take("face"))
    pair = "an array of two finite numbers"

    def two(value: object) -> tuple[float, float] | None:
        if not isinstance(value, list | tuple) or len(value) != 2:
            return None
        first, second = as_float(value[0]), as_float(value[1])
        return None if first is None or second is None else (first, second)

    if face.has("box") == face.has("points"):
        raise ModelError(face.place, "either `box` or `points`", "both" if face.has("box") else "neither")
    if face.has("box"):
        box = Object("manifest: `face`: `box`", face.take("box"))
        scale = box.convert("scale", "a finite number greater than 0", as_float)
        if scale <= 0:
            raise box.error("scale", "a finite number greater than 0", shown(scale))
        box.convert("shift", pair, two)
        box.finish()
    else:
        points = Object("manifest: `face`: `points`", face.take("points"))
        found = [points.convert(name, pair, two) for name in POINTS if points.has(name)]
        points.known = list(POINTS)
        points.finish()
        if len(set(found)) < 2:
            raise ModelError(points.place, f"two or more places of {', '.join(POINTS)}", str(len(set(found))))
    face.finish()


def read_about(manifest: Object) -> None:
    if manifest.has("about"):
        about = Object("manifest: `about`", manifest.take("about"))
        for key in tuple(about.members):
            about.string(key)
    else:
        manifest.take("about")
