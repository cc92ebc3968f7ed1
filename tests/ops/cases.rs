//! The table of operators: what the layers of usual networks do, at their sizes for a face of 112x112 pixels.
//!
//! A case is one layer pair, or one and the pooling of its map, computed in a network of its own:
//!
//! ```text
//! image --1x1 convolution--> source --the operator--> --1x1 convolution at one pixel--> heads
//! ```
//!
//! An operator that belongs on the image reads it as it is. The test checks every case against the reference; the
//! benchmark does so first and then times the network with the operator and [without it](OpCase::model).

use awsnet::verify::{self, NodeAgreement};
use awsnet::{Model, PlanOptions, Target};
use serde_json::{Value, json};

use crate::common::{Chw, Network, Numbers, Rng};

/// An operator on a map.
#[derive(Clone)]
pub struct OpCase {
    /// The operator's name, as in the manifest, or the AWS-Unit's.
    pub op: &'static str,
    /// What it does to which map; unique among those of its operator.
    pub what: String,
    input: Chw,
    reads_image: bool,
    layer: Value,
    /// What pools the layer's map.
    pool: Option<Value>,
    out_channels: usize,
    is_of_version_2: bool,
    /// The type of the tensors.
    dtype: &'static str,
}

impl OpCase {
    /// The network of the case, or what is left of it without the operator.
    pub fn model(&self, with_operator: bool) -> Model {
        let [channels, height, width] = self.input;
        let image = [if self.reads_image { channels } else { 1 }, height, width];
        let mut network = match self.is_of_version_2 {
            false => Network::new(1, Numbers::Real, image),
            true => Network::version_2(1, image, &["emotion", "au"]),
        };
        if !self.reads_image {
            network.layer(json!({"name": "source", "op": "conv2d", "kernel": 1}), channels);
        }
        if with_operator {
            for layer in self.operator() {
                network.layer(layer.clone(), self.out_channels);
            }
        }
        let [_, height, width] = network.shapes[&network.input_of(&json!({}))];
        let pixel = json!({"name": "pixel", "op": "conv2d", "kernel": 1, "stride": [height, width]});
        network.layer(pixel, 1);
        let head = |kind: &str| json!({"input": "pixel", "tensor": "fc", "kind": kind, "labels": ["only"]});
        let mut file = match self.is_of_version_2 {
            false => network.heads(("pixel", 1), ("pixel", 1)),
            true => network.heads_of(&[("emotion", head("classes"), 1), ("au", head("units"), 1)]),
        };
        file.tensors.iter_mut().for_each(|tensor| tensor.convert(self.dtype));
        file.model()
    }

    /// The layers that the case is about.
    pub fn operator(&self) -> impl Iterator<Item = &Value> {
        [&self.layer].into_iter().chain(&self.pool)
    }

    /// How every node of the network agrees with the reference.
    pub fn agreements(&self, target: Target) -> Vec<NodeAgreement> {
        let model = self.model(true);
        let mut rng = Rng::new(2);
        let image: Vec<f32> = (0..model.input().shape.len()).map(|_| rng.between(-2.0, 2.0)).collect();
        verify::layers(model, &PlanOptions::new().target(target), 1, &image).expect("a run")
    }
}

/// Every case.
pub fn all() -> Vec<OpCase> {
    let mut cases = Vec::new();
    let mut add = |op, what: &str, input: Chw, out_channels, layer: Value| {
        let mut named = json!({"name": "operator"});
        named.as_object_mut().expect("an object").extend(layer.as_object().expect("an object").clone());
        let [channels, height, width] = input;
        let what = format!("{what} {channels}x{height}x{width}");
        let reads_image = channels == 3;
        cases.push(OpCase {
            op,
            what,
            input,
            reads_image,
            layer: named,
            pool: None,
            out_channels,
            is_of_version_2: false,
            dtype: "F32",
        });
    };

    let mut conv = |what: &str, input: Chw, out, more: Value| {
        let mut layer = json!({"op": "conv2d", "kernel": 3, "padding": 1});
        layer.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        add("conv2d", what, input, out, layer);
    };
    conv("7x7 /2 to 64,", [3, 112, 112], 64, json!({"kernel": 7, "stride": 2, "padding": 3}));
    conv("3x3 to 64,", [3, 112, 112], 64, json!({}));
    conv("3x3,", [64, 28, 28], 64, json!({}));
    conv("3x3 /2 to 128,", [64, 28, 28], 128, json!({"stride": 2}));
    conv("3x3,", [128, 14, 14], 128, json!({}));
    conv("3x3,", [256, 7, 7], 256, json!({}));
    conv("3x3,", [512, 4, 4], 512, json!({}));
    conv("3x3 dilation 2,", [64, 28, 28], 64, json!({"padding": 2, "dilation": 2}));
    conv("3x3 groups 4,", [64, 28, 28], 64, json!({"groups": 4}));
    conv("1x1 to 256,", [64, 28, 28], 256, json!({"kernel": 1, "padding": 0}));
    conv("1x1 to 64,", [256, 28, 28], 64, json!({"kernel": 1, "padding": 0}));
    conv("1x1 /2 to 128,", [64, 28, 28], 128, json!({"kernel": 1, "padding": 0, "stride": 2}));
    conv("3x3 depthwise,", [144, 28, 28], 144, json!({"groups": 144}));
    conv("3x3 /2 depthwise,", [144, 28, 28], 144, json!({"groups": 144, "stride": 2}));
    conv("3x3 + residual, relu,", [128, 14, 14], 128, json!({"residual": "source", "activation": "relu"}));
    conv(
        "3x3 + residual, relu, aws channel,",
        [128, 14, 14],
        128,
        json!({"residual": "source", "activation": "relu", "aws": "channel"}),
    );

    let mut other = |op, what: &str, input: Chw, out, more: Value| {
        let mut layer = json!({"op": op});
        layer.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        add(op, what, input, out, layer);
    };
    other("linear", "to 512,", [512, 4, 4], 512, json!({}));
    other("max_pool2d", "3x3 /2,", [64, 56, 56], 64, json!({"kernel": 3, "stride": 2, "padding": 1}));
    other("avg_pool2d", "2x2 /2,", [64, 56, 56], 64, json!({"kernel": 2}));
    other("global_avg_pool2d", "of", [512, 14, 14], 512, json!({}));
    other(
        "identity",
        "+ residual, relu,",
        [64, 56, 56],
        64,
        json!({"residual": "source", "activation": "relu"}),
    );

    // A unit behind a convolution is fused where it can be; alone it shows what it costs by itself.
    for (aws, unit) in [("layer", "aws_layer"), ("channel", "aws_channel"), ("dense", "aws_dense")] {
        add(unit, "of", [128, 14, 14], 128, json!({"op": "identity", "residual": "source", "aws": aws}));
    }
    add("aws_gate", "of", [128, 14, 14], 128, json!({"op": "identity", "aws": "gate"}));

    // What most networks begin with, in one node.
    let stem =
        cases.iter().find(|case| case.what == "7x7 /2 to 64, 3x112x112").expect("the case above").clone();
    let mut layer = stem.layer.clone();
    layer["activation"] = json!("relu");
    layer["aws"] = json!("channel");
    let pool = json!({"name": "operator.pool", "op": "max_pool2d", "kernel": 3, "stride": 2, "padding": 1});
    let what = stem.what.replace("to 64", "to 64, relu, aws channel, max pooling 3x3 /2");
    cases.push(OpCase { what, layer, pool: Some(pool), ..stem });

    // What version 2 adds.
    let mut second = |op, what: &str, input: Chw, more: Value| {
        let [channels, height, width] = input;
        let what = format!("{what} {channels}x{height}x{width}");
        let mut layer = json!({"name": "operator"});
        layer.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let (pool, reads_image, is_of_version_2, dtype) = (None, false, true, "F32");
        cases.push(OpCase {
            op,
            what,
            input,
            reads_image,
            layer,
            pool,
            out_channels: channels,
            is_of_version_2,
            dtype,
        });
    };
    let twice = json!(["source", "source"]);
    second("concat", "of two,", [64, 28, 28], json!({"op": "concat", "inputs": twice}));
    second("upsample2d", "2,", [64, 14, 14], json!({"op": "upsample2d", "factor": 2}));
    let mean = json!({"op": "adaptive_avg_pool2d", "output": 5});
    second("adaptive_avg_pool2d", "to 5x5 of", [64, 28, 28], mean);
    let mean = json!({"op": "avg_pool2d", "kernel": 3, "stride": 2, "padding": 1, "ceil_mode": true, "count_include_pad": false});
    second("avg_pool2d", "3x3 /2, ceil mode, padding not counted,", [64, 28, 28], mean);
    let norm = json!({"op": "identity", "batch_norm": "norm", "activation": "relu"});
    second("batch_norm", "relu,", [256, 14, 14], norm);
    second("identity", "* scale,", [64, 56, 56], json!({"op": "identity", "scale": "source"}));
    for activation in
        ["relu6", "prelu", "elu", "sigmoid", "hardsigmoid", "silu", "hardswish", "tanh", "gelu", "gelu_tanh"]
    {
        let mut layer = json!({"op": "identity", "activation": activation});
        if activation == "prelu" {
            layer["prelu"] = json!("slopes");
        }
        second("identity", &format!("{activation},"), [64, 28, 28], layer);
    }

    // A convolution with narrow weights, which a small map keeps narrow.
    let small = cases.iter().find(|case| case.what == "3x3, 512x4x4").expect("the case above").clone();
    for dtype in ["F16", "BF16"] {
        cases.push(OpCase { what: format!("{}, {dtype} weights", small.what), dtype, ..small.clone() });
    }
    cases
}
