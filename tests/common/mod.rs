//! Model files for tests, written from the format's contract alone: nothing here comes from the crate under test.
//!
//! A [`Network`] takes layers as the manifest states them, one by one, and adds the tensors that each of them needs;
//! a [`ModelFile`] is the result, in parts that a test may break before they become bytes.

#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;

use half::{bf16, f16};
use serde_json::{Map, Value, json};

/// splitmix64: the same numbers from the same seed on every machine.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Rng(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `n` - 1.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// True in so many of 100 cases.
    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    /// From `low` to `high`.
    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * ((self.next() >> 40) as f32 / (1 << 24) as f32)
    }

    /// An integer from -`most` to `most`.
    pub fn integer(&mut self, most: usize) -> f32 {
        self.below(2 * most + 1) as f32 - most as f32
    }
}

/// A tensor as it is stored; the fields need not fit one another.
#[derive(Clone)]
pub struct StoredTensor {
    pub name: String,
    pub dtype: String,
    pub dims: Vec<u64>,
    pub data: Vec<u8>,
}

impl StoredTensor {
    pub fn f32(name: &str, dims: &[usize], values: &[f32]) -> Self {
        let mut tensor = StoredTensor {
            name: name.into(),
            dtype: String::new(),
            dims: dims.iter().map(|&dim| dim as u64).collect(),
            data: Vec::new(),
        };
        tensor.set("F32", values);
        tensor
    }

    /// The values in the type they are stored in.
    pub fn values(&self) -> Vec<f32> {
        let two = |b: &[u8]| u16::from_le_bytes([b[0], b[1]]);
        match self.dtype.as_str() {
            "F32" => {
                self.data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
            }
            "F16" => self.data.chunks_exact(2).map(|b| f16::from_bits(two(b)).to_f32()).collect(),
            "BF16" => self.data.chunks_exact(2).map(|b| bf16::from_bits(two(b)).to_f32()).collect(),
            other => panic!("values of type {other}"),
        }
    }

    /// Stores values, rounded to `dtype`.
    pub fn set(&mut self, dtype: &str, values: &[f32]) {
        self.dtype = dtype.into();
        self.data = match dtype {
            "F32" => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            "F16" => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
            "BF16" => values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect(),
            other => panic!("values of type {other}"),
        };
    }

    pub fn convert(&mut self, dtype: &str) {
        let values = self.values();
        self.set(dtype, &values);
    }
}

/// A model file in parts.
#[derive(Clone)]
pub struct ModelFile {
    pub manifest: Value,
    /// In the order in which they are stored.
    pub tensors: Vec<StoredTensor>,
}

impl ModelFile {
    /// The header as JSON; tensors lie one behind the other.
    pub fn header(&self) -> Value {
        let mut header = Map::new();
        header.insert("__metadata__".into(), json!({"format": "pt", "awsnet": self.manifest.to_string()}));
        let mut begin = 0;
        for tensor in &self.tensors {
            let end = begin + tensor.data.len();
            let entry = json!({"dtype": tensor.dtype, "shape": tensor.dims, "data_offsets": [begin, end]});
            header.insert(tensor.name.clone(), entry);
            begin = end;
        }
        Value::Object(header)
    }

    /// The tensors' bytes.
    pub fn data(&self) -> Vec<u8> {
        self.tensors.iter().flat_map(|tensor| tensor.data.iter().copied()).collect()
    }

    pub fn bytes(&self) -> Vec<u8> {
        container(self.header().to_string().as_bytes(), &self.data())
    }

    pub fn tensor(&mut self, name: &str) -> &mut StoredTensor {
        self.tensors
            .iter_mut()
            .find(|tensor| tensor.name == name)
            .unwrap_or_else(|| panic!("no tensor {name}"))
    }

    pub fn model(&self) -> awsnet::Model {
        awsnet::Model::from_bytes(&self.bytes()).unwrap_or_else(|e| panic!("{e}\n{}", self.manifest))
    }
}

/// The container: the header's length, the header, the data.
pub fn container(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

/// Which numbers a network's tensors hold.
#[derive(Clone, Copy, PartialEq)]
pub enum Numbers {
    /// Such that maps keep about the magnitude of the image.
    Real,
    /// Small integers; batch norms are exact.
    Integer,
}

/// A shape: channels, height, width.
pub type Chw = [usize; 3];

/// A network under construction.
pub struct Network {
    pub rng: Rng,
    numbers: Numbers,
    branches: Vec<String>,
    file: ModelFile,
    /// The shape of every source so far, `image` included.
    pub shapes: BTreeMap<String, Chw>,
}

impl Network {
    pub fn new(seed: u64, numbers: Numbers, image: Chw) -> Self {
        let [channels, height, width] = image;
        let input = json!({"channels": channels, "height": height, "width": width,
                           "mean": vec![0.5; channels], "std": vec![0.25; channels]});
        let manifest = json!({"version": 1, "name": format!("seed {seed}"), "input": input, "layers": []});
        let file = ModelFile { manifest, tensors: Vec::new() };
        let branches = vec!["emotion".to_owned(), "au".to_owned()];
        let shapes = BTreeMap::from([("image".to_owned(), image)]);
        Network { rng: Rng::new(seed), numbers, branches, file, shapes }
    }

    /// A network of version 2 with these branches.
    pub fn version_2(seed: u64, image: Chw, branches: &[&str]) -> Self {
        let mut network = Network::new(seed, Numbers::Real, image);
        network.branches = branches.iter().map(|&name| name.to_owned()).collect();
        network.file.manifest["version"] = json!(2);
        network.file.manifest["branches"] = json!(branches);
        network
    }

    /// The names of the layers so far.
    pub fn layers(&self) -> Vec<String> {
        let layers = self.file.manifest["layers"].as_array().expect("an array");
        layers.iter().map(|layer| layer["name"].as_str().expect("a name").to_owned()).collect()
    }

    /// What a layer entry reads.
    pub fn input_of(&self, entry: &Value) -> String {
        let before = || self.layers().last().cloned().unwrap_or("image".into());
        entry["input"].as_str().map_or_else(before, str::to_owned)
    }

    /// Adds a layer as the manifest states it, with its tensors; the number of output channels is the weight's.
    pub fn layer(&mut self, entry: Value, out_channels: usize) {
        let name = entry["name"].as_str().expect("a name").to_owned();
        let input = self.shapes[&self.input_of(&entry)];
        let output = match entry["inputs"].as_array() {
            Some(inputs) => {
                let channels = |name: &Value| self.shapes[name.as_str().expect("a name")][0];
                let [_, height, width] = self.shapes[inputs[0].as_str().expect("a name")];
                [inputs.iter().map(channels).sum(), height, width]
            }
            None => {
                output_shape(&entry, input, out_channels).unwrap_or_else(|| panic!("{entry} of {input:?}"))
            }
        };
        let weight = match entry["op"].as_str() {
            Some("conv2d") => {
                let ([kh, kw], groups) =
                    (pair(&entry, "kernel", 1), entry["groups"].as_u64().unwrap_or(1) as usize);
                Some(vec![out_channels, input[0] / groups, kh, kw])
            }
            Some("linear") => Some(vec![out_channels, input.iter().product()]),
            Some("max_pool2d" | "avg_pool2d" | "global_avg_pool2d" | "identity") => None,
            Some("adaptive_avg_pool2d" | "concat" | "upsample2d") => None,
            other => panic!("{other:?}: has the operator a weight? Network::layer of tests/common must know"),
        };
        let c = output[0];
        for branch in self.branches.clone() {
            if let Some(dims) = &weight {
                self.weight_and_bias(&format!("{branch}.{name}"), dims);
            }
            if let Some(norm) = entry["batch_norm"].as_str() {
                self.batch_norm(&format!("{branch}.{norm}"), c);
            }
            if let Some(prelu) = entry["prelu"].as_str() {
                let slopes = if self.rng.percent(70) { c } else { 1 };
                self.tensor(&format!("{branch}.{prelu}.weight"), &[slopes], 4);
            }
        }
        match entry["aws"].as_str() {
            Some("layer") => self.tensor(&format!("aws.{name}.weight"), &[2, 2], 2),
            Some("channel") => self.tensor(&format!("aws.{name}.weight"), &[2, 2, c], 2),
            Some("dense") => self.tensor(&format!("aws.{name}.weight"), &[2, 2, c, c], 2 * c),
            Some("gate") => {
                let r = 1 + self.rng.below(c + 3);
                self.tensor(&format!("aws.{name}.squeeze.weight"), &[r, 2 * c], 2 * c);
                self.tensor(&format!("aws.{name}.squeeze.bias"), &[r], 1);
                self.tensor(&format!("aws.{name}.excite.weight"), &[2, 2, c, r], r);
                self.tensor(&format!("aws.{name}.excite.bias"), &[2, 2, c], 1);
            }
            _ => {}
        }
        self.shapes.insert(name, output);
        self.file.manifest["layers"].as_array_mut().expect("an array").push(entry);
    }

    /// Adds both heads, each a source and its number of labels, and gives the file.
    pub fn heads(mut self, emotion: (&str, usize), au: (&str, usize)) -> ModelFile {
        let labels = |n: usize, letter: char| (0..n).map(|i| format!("{letter}{i}")).collect::<Vec<_>>();
        let thresholds: Vec<f32> = (0..au.1).map(|i| 0.3 + 0.1 * (i % 5) as f32).collect();
        self.file.manifest["heads"] = json!({
            "emotion": {"input": emotion.0, "labels": labels(emotion.1, 'E')},
            "au": {"input": au.0, "labels": labels(au.1, 'A'), "thresholds": thresholds},
        });
        for (branch, (input, labels)) in [("emotion", emotion), ("au", au)] {
            let features = self.shapes[input].iter().product();
            self.weight_and_bias(&format!("{branch}.fc"), &[labels, features]);
        }
        self.file
    }

    /// Adds heads as the manifest of version 2 states them, each with the number of its rows where it has a tensor, and gives
    /// the file.
    pub fn heads_of(mut self, heads: &[(&str, Value, usize)]) -> ModelFile {
        let mut stated = Map::new();
        for (name, entry, rows) in heads {
            if !entry["tensor"].is_null() {
                let branch = entry["branch"].as_str().unwrap_or(name);
                let prefix = format!("{branch}.{}", entry["tensor"].as_str().expect("a prefix"));
                let features = self.shapes[entry["input"].as_str().expect("a layer")].iter().product();
                self.weight_and_bias(&prefix, &[*rows, features]);
            }
            stated.insert((*name).to_owned(), entry.clone());
        }
        self.file.manifest["heads"] = Value::Object(stated);
        self.file
    }

    fn weight_and_bias(&mut self, prefix: &str, dims: &[usize]) {
        self.tensor(&format!("{prefix}.weight"), dims, dims[1..].iter().product());
        if self.rng.percent(70) {
            self.tensor(&format!("{prefix}.bias"), &dims[..1], 1);
        }
    }

    fn batch_norm(&mut self, prefix: &str, channels: usize) {
        for suffix in ["weight", "bias", "running_mean"] {
            self.tensor(&format!("{prefix}.{suffix}"), &[channels], 1);
        }
        let variance: Vec<f32> = (0..channels)
            .map(|_| match self.numbers {
                Numbers::Real => self.rng.between(0.5, 2.0),
                Numbers::Integer => 1.0,
            })
            .collect();
        self.file.tensors.push(StoredTensor::f32(&format!("{prefix}.running_var"), &[channels], &variance));
    }

    /// A tensor whose rows of `fan_in` numbers are multiplied with maps.
    fn tensor(&mut self, name: &str, dims: &[usize], fan_in: usize) {
        let len: usize = dims.iter().product();
        let most = (3.0 / fan_in as f32).sqrt().min(1.0);
        let mut values = Vec::with_capacity(len);
        for _ in 0..len {
            values.push(match self.numbers {
                Numbers::Real => self.rng.between(-most, most),
                // Mostly 0 where many are summed, so that sums stay small.
                Numbers::Integer if fan_in > 40 && !self.rng.percent(4000 / fan_in) => 0.0,
                Numbers::Integer => self.rng.integer(2),
            });
        }
        let mut tensor = StoredTensor::f32(name, dims, &values);
        if self.rng.percent(20) {
            let dtype = self.rng.pick(&["F16", "BF16"]);
            tensor.convert(dtype);
        }
        self.file.tensors.push(tensor);
    }
}

/// An integer or [h, w].
fn pair(entry: &Value, key: &str, default: usize) -> [usize; 2] {
    match &entry[key] {
        Value::Null => [default; 2],
        Value::Array(pair) => [0, 1].map(|i| pair[i].as_u64().expect("an integer") as usize),
        scalar => [scalar.as_u64().expect("an integer") as usize; 2],
    }
}

/// The shape a layer gives, if its window fits its input.
pub fn output_shape(entry: &Value, [channels, height, width]: Chw, out_channels: usize) -> Option<Chw> {
    let kernel = pair(entry, "kernel", 1);
    let dilation = pair(entry, "dilation", 1);
    let padding: [usize; 4] = match &entry["padding"] {
        Value::Array(sides) if sides.len() == 4 => {
            [0, 1, 2, 3].map(|i| sides[i].as_u64().expect("an integer") as usize)
        }
        _ => {
            let [h, w] = pair(entry, "padding", 0);
            [h, w, h, w]
        }
    };
    let ceil_mode = entry["ceil_mode"] == true;
    let window = |stride: [usize; 2]| {
        let extent = |size: usize, axis: usize| {
            let padded = size + padding[axis] + padding[axis + 2];
            let room = padded.checked_sub(dilation[axis] * (kernel[axis] - 1) + 1)?;
            if !ceil_mode {
                return Some(room / stride[axis] + 1);
            }
            // As PyTorch has it: the last window begins in the map or in the padding before it.
            let windows = room.div_ceil(stride[axis]) + 1;
            Some(windows - usize::from((windows - 1) * stride[axis] >= size + padding[axis]))
        };
        Some([extent(height, 0)?, extent(width, 1)?])
    };
    match entry["op"].as_str()? {
        "conv2d" => window(pair(entry, "stride", 1)).map(|[h, w]| [out_channels, h, w]),
        "max_pool2d" | "avg_pool2d" => {
            let stride = if entry["stride"].is_null() { kernel } else { pair(entry, "stride", 1) };
            window(stride).map(|[h, w]| [channels, h, w])
        }
        "linear" => Some([out_channels, 1, 1]),
        "global_avg_pool2d" => Some([channels, 1, 1]),
        "adaptive_avg_pool2d" => {
            let [h, w] = pair(entry, "output", 1);
            Some([channels, h, w])
        }
        "upsample2d" => {
            let [h, w] = pair(entry, "factor", 1);
            Some([channels, height * h, width * w])
        }
        "identity" => Some([channels, height, width]),
        other => panic!("{other}: which shape does it give? output_shape of tests/common must know"),
    }
}
