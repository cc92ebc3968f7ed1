//! An ONNX file as a graph: nodes with their attributes, constants as arrays, one image in.
//!
//! Names are checked here once and for all: every node's inputs are constants, the image or outputs of earlier nodes, and
//! every operator is one of [`OPERATORS`] with no attribute that is not listed there. So whoever reads an attribute by name
//! knows that no other one changes the meaning.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path};
use std::rc::Rc;

use half::{bf16, f16};
use rten_onnx::onnx::{
    AttributeProto, DataLocation, DataType, GraphProto, ModelProto, NodeProto, TensorProto,
};

use super::array::{Array, Data, elements, fault};
use super::wire;
use crate::error::{Error, ErrorKind, Result, quoted};
use crate::file::{open_regular, read_regular};

/// The operators that are read, and their attributes.
const OPERATORS: &[(&str, &[&str])] = &[
    ("Abs", &[]),
    ("Add", &[]),
    (
        "AveragePool",
        &["auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "pads", "strides"],
    ),
    ("BatchNormalization", &["epsilon", "momentum", "spatial", "training_mode"]),
    ("Cast", &["to", "saturate", "round_mode"]),
    ("CastLike", &["saturate", "round_mode"]),
    ("Clip", &["min", "max"]),
    ("Concat", &["axis"]),
    ("Constant", &["value", "value_float", "value_floats", "value_int", "value_ints"]),
    ("ConstantOfShape", &["value"]),
    ("Conv", &["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"]),
    ("Div", &[]),
    ("Dropout", &["ratio", "seed"]),
    ("Elu", &["alpha"]),
    ("Equal", &[]),
    ("Erf", &[]),
    ("Exp", &[]),
    ("Expand", &[]),
    ("Flatten", &["axis"]),
    ("Floor", &[]),
    ("Gather", &["axis"]),
    ("Gelu", &["approximate"]),
    ("Gemm", &["alpha", "beta", "transA", "transB"]),
    ("GlobalAveragePool", &[]),
    ("GlobalMaxPool", &[]),
    ("HardSigmoid", &["alpha", "beta"]),
    ("HardSwish", &[]),
    ("Identity", &[]),
    ("LeakyRelu", &["alpha"]),
    ("Log", &[]),
    ("LogSoftmax", &["axis"]),
    ("MatMul", &[]),
    ("Max", &[]),
    ("MaxPool", &["auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "storage_order", "strides"]),
    ("Min", &[]),
    ("Mul", &[]),
    ("Neg", &[]),
    ("PRelu", &[]),
    ("Pad", &["mode", "pads", "value"]),
    ("Pow", &[]),
    ("Reciprocal", &[]),
    ("ReduceMax", &["axes", "keepdims", "noop_with_empty_axes"]),
    ("ReduceMean", &["axes", "keepdims", "noop_with_empty_axes"]),
    ("Relu", &[]),
    ("Reshape", &["allowzero"]),
    (
        "Resize",
        &[
            "antialias",
            "axes",
            "coordinate_transformation_mode",
            "cubic_coeff_a",
            "exclude_outside",
            "extrapolation_value",
            "keep_aspect_ratio_policy",
            "mode",
            "nearest_mode",
        ],
    ),
    ("Shape", &["end", "start"]),
    ("Sigmoid", &[]),
    ("Slice", &["axes", "ends", "starts"]),
    ("Softmax", &["axis"]),
    ("Softplus", &[]),
    ("Split", &["axis", "num_outputs", "split"]),
    ("Sqrt", &[]),
    ("Squeeze", &["axes"]),
    ("Sub", &[]),
    ("Sum", &[]),
    ("Swish", &["alpha"]),
    ("Tanh", &[]),
    ("Tile", &[]),
    ("Transpose", &["perm"]),
    ("Unsqueeze", &["axes"]),
    ("Upsample", &["mode", "scales"]),
    ("Where", &[]),
];

/// The oldest version of the operators that is read: before it, arrays broadcast by attributes.
const OLDEST_OPSET: i64 = 7;

/// The largest file that is read, and the largest file of its arrays.
const MAX_FILE_BYTES: u64 = 8 << 30;

/// An attribute's value.
#[derive(Clone, Debug)]
enum Attribute {
    Int(i64),
    Float(f32),
    Text(String),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Array(Rc<Array>),
}

/// An operator applied.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Its name, or where it has none its first output's.
    pub name: String,
    pub op: String,
    /// Values by name; an input that is left out is empty.
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    /// The version of the operators that its file speaks.
    pub opset: i64,
    attributes: HashMap<String, Attribute>,
}

/// A graph that computes one array from one image.
pub(super) struct Graph {
    pub nodes: Vec<Node>,
    pub constants: HashMap<String, Rc<Array>>,
    /// The image's name.
    pub input: String,
    /// Its dimensions; `None` where they are not said.
    pub input_dims: [Option<usize>; 4],
    /// Whether the image is whole numbers from 0 to 255.
    pub input_is_bytes: bool,
    pub output: String,
}

impl Node {
    /// What stands for a node where the graph's output is meant.
    pub fn output() -> Self {
        Node {
            name: "output".to_owned(),
            op: "Identity".to_owned(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            opset: OLDEST_OPSET,
            attributes: HashMap::new(),
        }
    }

    /// Where an error about this node is.
    pub fn place(&self) -> String {
        format!("node {} ({})", quoted(&self.name), self.op)
    }

    fn attribute(&self, name: &str) -> Option<&Attribute> {
        debug_assert!(
            OPERATORS.iter().any(|(op, names)| *op == self.op && names.contains(&name)),
            "{} has no {name}",
            self.op
        );
        self.attributes.get(name)
    }

    fn wrong_type(&self, name: &str, expected: &str) -> Error {
        fault(format!("{expected} as `{name}`"), "an attribute of another type")
    }

    pub fn int(&self, name: &str) -> Result<Option<i64>> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Int(value)) => Ok(Some(*value)),
            Some(_) => Err(self.wrong_type(name, "an integer")),
        }
    }

    pub fn float(&self, name: &str) -> Result<Option<f32>> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Float(value)) => Ok(Some(*value)),
            Some(_) => Err(self.wrong_type(name, "a float")),
        }
    }

    pub fn text(&self, name: &str) -> Result<Option<&str>> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Text(value)) => Ok(Some(value)),
            Some(_) => Err(self.wrong_type(name, "a string")),
        }
    }

    pub fn ints(&self, name: &str) -> Result<Option<&[i64]>> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Ints(values)) => Ok(Some(values)),
            Some(_) => Err(self.wrong_type(name, "a list of integers")),
        }
    }

    pub fn floats(&self, name: &str) -> Result<Option<&[f32]>> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Floats(values)) => Ok(Some(values)),
            Some(_) => Err(self.wrong_type(name, "a list of floats")),
        }
    }

    pub fn array(&self, name: &str) -> Result<Option<&Rc<Array>>> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Array(value)) => Ok(Some(value)),
            Some(_) => Err(self.wrong_type(name, "an array")),
        }
    }

    /// The integer, which must be one of `taken`, the first of them by default.
    pub fn int_of(&self, name: &str, taken: &[i64]) -> Result<i64> {
        let value = self.int(name)?.unwrap_or(taken[0]);
        if taken.contains(&value) {
            return Ok(value);
        }
        let taken: Vec<String> = taken.iter().map(i64::to_string).collect();
        Err(fault(format!("`{name}` {}", taken.join(" or ")), value.to_string()))
    }
}

impl Graph {
    /// Reads a file, and the files beside it that hold its arrays.
    pub fn load(path: &Path) -> Result<Self> {
        let too_long =
            |len| fault(format!("a file of at most {MAX_FILE_BYTES} bytes"), format!("{len} bytes"));
        let bytes = read_regular(path, MAX_FILE_BYTES, too_long)?;
        Graph::parse(&bytes, path.parent()).map_err(|e| e.in_file(path))
    }

    /// Reads a file's bytes; `folder` is where the files are that it names.
    fn parse(bytes: &[u8], folder: Option<&Path>) -> Result<Self> {
        wire::check(bytes)?;
        let model =
            ModelProto::parse_buf(bytes).map_err(|e| fault("an ONNX file", quoted(&e.to_string())))?;
        let is_default = |domain: Option<&str>| matches!(domain.unwrap_or(""), "" | "ai.onnx");
        let opset = model.opset_import.iter().find(|set| is_default(set.domain.as_deref()));
        let (Some(opset), Some(proto)) = (opset.and_then(|set| set.version), model.graph) else {
            return Err(fault("an ONNX file", "one without operators of ONNX or without a graph"));
        };
        if opset < OLDEST_OPSET {
            return Err(fault(format!("operators of version {OLDEST_OPSET} or newer"), opset.to_string()));
        }
        Graph::new(proto, opset, folder)
    }

    fn new(proto: GraphProto, opset: i64, folder: Option<&Path>) -> Result<Self> {
        let mut constants = HashMap::new();
        for mut tensor in proto.initializer {
            let name = tensor.name.take().unwrap_or_default();
            let array = read_tensor(tensor, folder).map_err(|e| e.at(format!("tensor {}", quoted(&name))))?;
            constants.insert(name, Rc::new(array));
        }

        // Files of early versions list their constants among the inputs.
        let is_image = |name: &str| !constants.contains_key(name);
        let mut inputs: Vec<_> =
            proto.input.into_iter().filter(|i| is_image(i.name.as_deref().unwrap_or(""))).collect();
        if inputs.len() != 1 {
            let names: Vec<String> = inputs.iter().map(|i| quoted(i.name.as_deref().unwrap_or(""))).collect();
            let found = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(fault("a graph of one input, the image", found));
        }
        let input = inputs.swap_remove(0);
        let name = input.name.unwrap_or_default();
        let place = format!("input {}", quoted(&name));
        let tensor = input.r#type.and_then(|t| t.tensor_type);
        let (element, shape) = tensor.map_or((None, None), |tensor| (tensor.elem_type, tensor.shape));
        let input_is_bytes = match element {
            Some(DataType::UINT8) => true,
            None | Some(DataType::FLOAT | DataType::FLOAT16 | DataType::DOUBLE | DataType::BFLOAT16) => false,
            Some(other) => return Err(fault("an image of floats or bytes", other.to_string()).at(place)),
        };
        let dims: Vec<Option<usize>> = shape.map_or(Vec::new(), |shape| {
            shape
                .dim
                .iter()
                .map(|d| d.dim_value.and_then(|v| usize::try_from(v).ok()).filter(|&v| v > 0))
                .collect()
        });
        let input_dims = <[Option<usize>; 4]>::try_from(dims).map_err(|dims| {
            fault("an image of four dimensions", format!("{} dimensions", dims.len())).at(place.clone())
        })?;
        if input_dims[0].is_some_and(|batch| batch != 1) {
            let found = format!("a batch of {}", input_dims[0].unwrap_or(0));
            return Err(fault("a batch of 1, or one of any size", found).at(place));
        }

        let mut known: HashSet<String> = constants.keys().cloned().chain([name.clone()]).collect();
        let mut nodes = Vec::new();
        for node in proto.node {
            let node = read_node(node, opset)?;
            if let Some(unknown) =
                node.inputs.iter().find(|input| !input.is_empty() && !known.contains(*input))
            {
                let expected = "inputs that earlier nodes give";
                return Err(fault(expected, quoted(unknown)).at(node.place()));
            }
            for output in node.outputs.iter().filter(|output| !output.is_empty()) {
                if !known.insert(output.clone()) {
                    return Err(fault("outputs of its own", format!("{}, given before", quoted(output)))
                        .at(node.place()));
                }
            }
            nodes.push(node);
        }
        let mut outputs = proto.output.into_iter().map(|output| output.name.unwrap_or_default());
        let output = match (outputs.next(), outputs.len()) {
            (Some(output), 0) => output,
            (Some(first), _) => {
                let names: Vec<String> =
                    [first].into_iter().chain(outputs).map(|name| quoted(&name)).collect();
                return Err(fault("a graph of one output, the scores", names.join(", ")));
            }
            (None, _) => return Err(fault("a graph of one output, the scores", "none")),
        };
        if !known.contains(&output) {
            return Err(fault("an output that a node gives", quoted(&output)));
        }
        let mut graph = Graph { nodes, constants, input: name, input_dims, input_is_bytes, output };
        graph.drop_unread();
        Ok(graph)
    }

    /// Leaves out the nodes that the output does not depend on.
    fn drop_unread(&mut self) {
        let mut read = HashSet::from([self.output.clone()]);
        let mut kept: Vec<Node> = Vec::new();
        for node in std::mem::take(&mut self.nodes).into_iter().rev() {
            if node.outputs.iter().any(|output| read.contains(output)) {
                read.extend(node.inputs.iter().cloned());
                kept.push(node);
            }
        }
        kept.reverse();
        self.nodes = kept;
    }

    /// Makes the output what a last softmax is applied to, or a last sigmoid where `sigmoid` says so.
    pub fn end_at_logits(&mut self, sigmoid: bool) {
        let mut name = self.output.clone();
        for node in self.nodes.iter().rev() {
            if node.outputs.first() != Some(&name) {
                continue;
            }
            let input = node.inputs.first().cloned().unwrap_or_default();
            match node.op.as_str() {
                "Cast" | "Dropout" | "Flatten" | "Identity" | "Reshape" | "Squeeze" | "Unsqueeze" => {
                    name = input
                }
                "Softmax" | "LogSoftmax" => {
                    self.output = input;
                    break;
                }
                "Sigmoid" if sigmoid => {
                    self.output = input;
                    break;
                }
                _ => break,
            }
        }
        self.drop_unread();
    }

    /// How often each value is read, the output once more than by nodes.
    pub fn readers(&self) -> HashMap<&str, usize> {
        let mut readers = HashMap::from([(self.output.as_str(), 1)]);
        for input in self.nodes.iter().flat_map(|node| &node.inputs) {
            *readers.entry(input.as_str()).or_default() += 1;
        }
        readers
    }
}

fn read_node(proto: NodeProto, opset: i64) -> Result<Node> {
    let op = proto.op_type.unwrap_or_default();
    let name = proto.name.filter(|name| !name.is_empty()).or_else(|| proto.output.first().cloned());
    let mut node = Node {
        name: name.unwrap_or_default(),
        op,
        inputs: proto.input,
        outputs: proto.output,
        opset,
        attributes: HashMap::new(),
    };
    // An operator that is not known may have any name: it is shown as one.
    let place = format!("node {} ({})", quoted(&node.name), quoted(&node.op).trim_matches('`'));
    if let Some(domain) = proto.domain.filter(|domain| !matches!(domain.as_str(), "" | "ai.onnx")) {
        return Err(fault("an operator of ONNX itself", format!("one of {}", quoted(&domain))).at(place));
    }
    let Some((_, attributes)) = OPERATORS.iter().find(|(op, _)| *op == node.op) else {
        let expected = "an operator that a model file can hold";
        return Err(fault(expected, quoted(&node.op)).at(place));
    };
    for attribute in proto.attribute {
        let name = attribute.name.clone().unwrap_or_default();
        if !attributes.contains(&name.as_str()) {
            let expected =
                if attributes.is_empty() { "no attributes".to_owned() } else { attributes.join(", ") };
            return Err(fault(expected, quoted(&name)).at(place));
        }
        let value = read_attribute(attribute).map_err(|e| e.at(place.clone()))?;
        node.attributes.insert(name, value);
    }
    Ok(node)
}

fn read_attribute(proto: AttributeProto) -> Result<Attribute> {
    // The kind of an attribute that does not say it is that of the field it has.
    Ok(if let Some(tensor) = proto.t {
        Attribute::Array(Rc::new(read_tensor(tensor, None)?))
    } else if let Some(text) = proto.s {
        Attribute::Text(text)
    } else if !proto.ints.is_empty() {
        Attribute::Ints(proto.ints)
    } else if !proto.floats.is_empty() {
        Attribute::Floats(proto.floats)
    } else if proto.g.is_some() || !proto.strings.is_empty() {
        let name = quoted(&proto.name.unwrap_or_default());
        return Err(fault("numbers, a string or an array", format!("another kind of attribute, {name}")));
    } else {
        use rten_onnx::onnx::AttributeType;
        match proto.r#type {
            Some(AttributeType::INTS) => Attribute::Ints(Vec::new()),
            Some(AttributeType::FLOATS) => Attribute::Floats(Vec::new()),
            Some(AttributeType::STRING) => Attribute::Text(String::new()),
            Some(AttributeType::FLOAT) => Attribute::Float(proto.f.unwrap_or(0.0)),
            _ => match (proto.i, proto.f) {
                (None, Some(value)) => Attribute::Float(value),
                (value, _) => Attribute::Int(value.unwrap_or(0)),
            },
        }
    })
}

/// The elements of a tensor, from the message or from the file that it names in `folder`.
fn read_tensor(tensor: TensorProto, folder: Option<&Path>) -> Result<Array> {
    let dims: Option<Vec<usize>> = tensor.dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
    let dims = dims.ok_or_else(|| fault("dimensions of at least 0", format!("{:?}", tensor.dims)))?;
    let len = elements(&dims)?;
    let kind = tensor.data_type.unwrap_or(DataType(0));
    let element_bytes = match kind {
        DataType::DOUBLE | DataType::INT64 | DataType::UINT64 => 8,
        DataType::FLOAT | DataType::INT32 | DataType::UINT32 => 4,
        DataType::FLOAT16 | DataType::BFLOAT16 | DataType::INT16 | DataType::UINT16 => 2,
        DataType::INT8 | DataType::UINT8 | DataType::BOOL => 1,
        other => return Err(fault("floats or integers", format!("elements of type {other}"))),
    };
    let raw = match (tensor.data_location, tensor.raw_data) {
        (Some(DataLocation::EXTERNAL), _) => {
            let mut entries = HashMap::new();
            for entry in tensor.external_data {
                entries.insert(entry.key.unwrap_or_default(), entry.value.unwrap_or_default());
            }
            Some(read_external(&entries, folder, len * element_bytes)?)
        }
        (_, raw) => raw.map(|raw| raw.into_inner()),
    };
    let data = match raw {
        Some(raw) if raw.len() == len * element_bytes => from_bytes(kind, &raw),
        Some(raw) => {
            let expected = format!("{} bytes for {dims:?} of {kind}", len * element_bytes);
            return Err(fault(expected, format!("{} bytes", raw.len())));
        }
        None => {
            let as_i64 = |values: Vec<i32>| values.into_iter().map(i64::from).collect();
            // Half floats lie in the integers by their bits.
            let from_bits = |values: Vec<i32>, float: fn(u16) -> f32| {
                Data::Float(values.into_iter().map(|bits| float(bits as u16)).collect())
            };
            match kind {
                DataType::FLOAT => Data::Float(tensor.float_data),
                DataType::DOUBLE => Data::Float(tensor.double_data.into_iter().map(|v| v as f32).collect()),
                DataType::INT64 => Data::Int(tensor.int64_data),
                DataType::FLOAT16 => from_bits(tensor.int32_data, |bits| f16::from_bits(bits).to_f32()),
                DataType::BFLOAT16 => from_bits(tensor.int32_data, |bits| bf16::from_bits(bits).to_f32()),
                _ => Data::Int(as_i64(tensor.int32_data)),
            }
        }
    };
    let array = Array { dims, data };
    if array.len() != len {
        return Err(fault(format!("{len} elements for {:?}", array.dims), array.len().to_string()));
    }
    Ok(array)
}

/// Little-endian elements; `kind` is one of those that `read_tensor` takes.
fn from_bytes(kind: DataType, bytes: &[u8]) -> Data {
    fn read<const N: usize, T>(bytes: &[u8], element: impl Fn([u8; N]) -> T) -> Vec<T> {
        bytes.as_chunks::<N>().0.iter().map(|chunk| element(*chunk)).collect()
    }
    match kind {
        DataType::FLOAT => Data::Float(read(bytes, f32::from_le_bytes)),
        DataType::DOUBLE => Data::Float(read(bytes, |b| f64::from_le_bytes(b) as f32)),
        DataType::FLOAT16 => Data::Float(read(bytes, |b| f16::from_le_bytes(b).to_f32())),
        DataType::BFLOAT16 => Data::Float(read(bytes, |b| bf16::from_le_bytes(b).to_f32())),
        DataType::INT64 => Data::Int(read(bytes, i64::from_le_bytes)),
        DataType::UINT64 => Data::Int(read(bytes, |b| u64::from_le_bytes(b) as i64)),
        DataType::INT32 => Data::Int(read(bytes, |b| i64::from(i32::from_le_bytes(b)))),
        DataType::UINT32 => Data::Int(read(bytes, |b| i64::from(u32::from_le_bytes(b)))),
        DataType::INT16 => Data::Int(read(bytes, |b| i64::from(i16::from_le_bytes(b)))),
        DataType::UINT16 => Data::Int(read(bytes, |b| i64::from(u16::from_le_bytes(b)))),
        DataType::INT8 => Data::Int(read(bytes, |b| i64::from(i8::from_le_bytes(b)))),
        _ => Data::Int(bytes.iter().map(|&b| i64::from(b)).collect()),
    }
}

/// The bytes of a tensor that lie in another file, which must be below the folder of the first.
fn read_external(entries: &HashMap<String, String>, folder: Option<&Path>, len: usize) -> Result<Vec<u8>> {
    let number = |key: &str, default: u64| match entries.get(key) {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| fault(format!("a number as `{key}`"), quoted(text))),
    };
    let location = entries.get("location").map_or("", String::as_str);
    let (offset, stored) = (number("offset", 0)?, number("length", len as u64)?);
    let below = !location.is_empty()
        && Path::new(location)
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let Some(folder) = folder.filter(|_| below) else {
        return Err(fault("elements in the file, or in one beside it", quoted(location)));
    };
    if stored != len as u64 {
        return Err(fault(format!("{len} bytes"), format!("{stored} bytes in {}", quoted(location))));
    }
    let path = folder.join(location);
    let (mut file, file_len) = open_regular(&path)?;
    if offset.checked_add(stored).is_none_or(|end| end > file_len) {
        let expected = format!("{stored} bytes from {offset} on");
        return Err(Error::new(ErrorKind::Model, "", expected, format!("{file_len} bytes")).in_file(&path));
    }
    let mut bytes = vec![0; len];
    let mut read = |file: &mut File| {
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut bytes)
    };
    read(&mut file).map_err(|source| Error::io(&path, "a readable file", source))?;
    Ok(bytes)
}
