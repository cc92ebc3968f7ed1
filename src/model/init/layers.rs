//! The layers of each architecture, named as torchvision names its modules.

use super::Architecture;
use crate::op::{Activation, Conv2d, Op, Padding, Pool2d};
use crate::tensor::Shape;

/// A layer pair; windows are square, paddings the same on all sides.
pub(super) struct Layer {
    pub name: String,
    pub op: Op,
    /// Named only where it is not the layer before.
    pub input: Option<String>,
    /// Of a concatenation.
    pub inputs: Vec<String>,
    pub input_shape: Shape,
    pub output_shape: Shape,
    pub batch_norm: Option<String>,
    pub scale: Option<String>,
    pub residual: Option<String>,
    pub activation: Activation,
    pub aws: bool,
}

impl Layer {
    fn batch_norm(&mut self, prefix: impl Into<String>) -> &mut Self {
        self.batch_norm = Some(prefix.into());
        self
    }

    fn residual(&mut self, layer: &str) -> &mut Self {
        self.residual = Some(layer.to_owned());
        self
    }

    fn scale(&mut self, layer: &str) -> &mut Self {
        self.scale = Some(layer.to_owned());
        self
    }

    fn activation(&mut self, activation: Activation) -> &mut Self {
        self.activation = activation;
        self
    }

    fn relu(&mut self) -> &mut Self {
        self.activation(Activation::Relu)
    }

    /// Whether version 1 of the model file cannot say it.
    pub fn is_of_version_2(&self) -> bool {
        let old = matches!(self.activation, Activation::None | Activation::Relu);
        let norm_alone = self.op == Op::Identity && self.batch_norm.is_some();
        !old || norm_alone || self.scale.is_some() || self.op == Op::Concat
    }

    fn aws(&mut self) -> &mut Self {
        self.aws = true;
        self
    }
}

/// The layers in order; both heads read the last.
pub(super) struct Network {
    pub layers: Vec<Layer>,
    /// The prefix of the heads' tensors.
    pub head: &'static str,
    image: Shape,
}

pub(super) fn network(architecture: Architecture, size: usize) -> Network {
    let mut network = Network { layers: Vec::new(), head: "fc", image: Shape::new(3, size, size) };
    match architecture {
        Architecture::ResNet18 => {
            network.resnet_stem();
            network.residual_layers(Block::Basic, &[(64, 2), (128, 2), (256, 2), (512, 2)]);
        }
        Architecture::ResNet50 => {
            network.resnet_stem();
            network.residual_layers(Block::Bottleneck, &[(64, 3), (128, 4), (256, 6), (512, 3)]);
        }
        Architecture::Tiny => {
            network.push("conv1", conv(3, 2), 8).batch_norm("bn1").relu().aws();
            network.residual_layers(Block::Basic, &[(8, 1), (16, 1)]);
        }
        Architecture::Vgg11 => network.vgg11(),
        Architecture::MobileNet => network.mobilenet_v2(),
        Architecture::MobileNetV3Small => network.mobilenet_v3_small(),
        Architecture::EfficientNetB0 => network.efficientnet_b0(),
        Architecture::DenseNet121 => network.densenet121(),
    }
    network
}

/// A convolution that keeps the map's extent, or halves it at a stride of 2.
fn conv(kernel: usize, stride: usize) -> Op {
    grouped_conv(kernel, stride, 1)
}

fn grouped_conv(kernel: usize, stride: usize, groups: usize) -> Op {
    Op::Conv2d(Conv2d {
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: Padding::uniform(kernel / 2),
        dilation: [1; 2],
        groups,
    })
}

fn pool(kernel: usize, stride: usize, padding: usize) -> Pool2d {
    Pool2d {
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: Padding::uniform(padding),
        ceil_mode: false,
        count_include_pad: true,
    }
}

fn max_pool(kernel: usize, stride: usize, padding: usize) -> Op {
    Op::MaxPool2d(pool(kernel, stride, padding))
}

/// The residual blocks of ResNets.
#[derive(Clone, Copy)]
enum Block {
    /// Two 3x3 convolutions.
    Basic,
    /// A 1x1 convolution, a 3x3 one, and a 1x1 one to four times the channels.
    Bottleneck,
}

impl Network {
    /// The name of the last layer.
    pub fn last(&self) -> &str {
        self.layers.last().map_or("image", |layer| &layer.name)
    }

    /// The shape that a layer gives, the last one if none of this name is there.
    fn shape(&self, name: &str) -> Shape {
        let named = self.layers.iter().find(|layer| layer.name == name);
        named.map_or(self.image, |layer| layer.output_shape)
    }

    /// Adds a layer that reads the one before it; an operator without weights ignores `out_channels`.
    fn push(&mut self, name: impl Into<String>, op: Op, out_channels: usize) -> &mut Layer {
        let input = self.last().to_owned();
        self.push_from(&input, name, op, out_channels)
    }

    fn push_from(&mut self, input: &str, name: impl Into<String>, op: Op, out_channels: usize) -> &mut Layer {
        let input_shape = self.shape(input);
        let input = (input != self.last()).then(|| input.to_owned());
        self.add(name.into(), op, input, &[input_shape], out_channels)
    }

    /// Adds a concatenation of these layers.
    fn concat(&mut self, name: impl Into<String>, inputs: &[String]) -> &mut Layer {
        let shapes: Vec<Shape> = inputs.iter().map(|input| self.shape(input)).collect();
        let layer = self.add(name.into(), Op::Concat, None, &shapes, 0);
        layer.inputs = inputs.to_vec();
        layer
    }

    fn add(
        &mut self,
        name: String,
        op: Op,
        input: Option<String>,
        inputs: &[Shape],
        out_channels: usize,
    ) -> &mut Layer {
        let output_shape =
            op.output_shape(&name, inputs, out_channels).expect("sizes are checked before: no map is empty");
        let layer = Layer {
            name,
            op,
            input,
            inputs: Vec::new(),
            input_shape: inputs[0],
            output_shape,
            batch_norm: None,
            scale: None,
            residual: None,
            activation: Activation::None,
            aws: false,
        };
        self.layers.push(layer);
        self.layers.last_mut().expect("just pushed")
    }

    fn resnet_stem(&mut self) {
        self.push("conv1", conv(7, 2), 64).batch_norm("bn1").relu().aws();
        self.push("maxpool", max_pool(3, 2, 1), 0);
    }

    /// The layers `layer1` to `layerN`, each of a width and a number of blocks, and the pooling behind them.
    fn residual_layers(&mut self, block: Block, layers: &[(usize, usize)]) {
        for (index, &(width, blocks)) in layers.iter().enumerate() {
            for number in 0..blocks {
                let stride = if index > 0 && number == 0 { 2 } else { 1 };
                self.residual_block(&format!("layer{}.{number}", index + 1), block, width, stride);
            }
        }
        self.push("avgpool", Op::GlobalAvgPool2d, 0);
    }

    fn residual_block(&mut self, name: &str, block: Block, width: usize, stride: usize) {
        let (convs, out_channels) = match block {
            Block::Basic => (vec![conv(3, stride), conv(3, 1)], width),
            Block::Bottleneck => (vec![conv(1, 1), conv(3, stride), conv(1, 1)], 4 * width),
        };
        let input = self.last().to_owned();
        let mut shortcut = input.clone();
        if stride != 1 || self.shape(&input).channels != out_channels {
            shortcut = format!("{name}.downsample.0");
            self.push(&shortcut, conv(1, stride), out_channels).batch_norm(format!("{name}.downsample.1"));
        }
        let mut reads = input;
        for (index, op) in convs.iter().enumerate() {
            let last = index + 1 == convs.len();
            let conv = format!("{name}.conv{}", index + 1);
            let channels = if last { out_channels } else { width };
            let layer = self.push_from(&reads, &conv, *op, channels);
            layer.batch_norm(format!("{name}.bn{}", index + 1)).relu();
            if last {
                layer.residual(&shortcut).aws();
            }
            reads = conv;
        }
    }

    fn vgg11(&mut self) {
        // The index of a module in torchvision's `features`, and the channels of a convolution or 0 for a pooling.
        const FEATURES: [(usize, usize); 13] = [
            (0, 64),
            (2, 0),
            (3, 128),
            (5, 0),
            (6, 256),
            (8, 256),
            (10, 0),
            (11, 512),
            (13, 512),
            (15, 0),
            (16, 512),
            (18, 512),
            (20, 0),
        ];
        for (index, channels) in FEATURES {
            let name = format!("features.{index}");
            match channels {
                0 => self.push(name, max_pool(2, 2, 0), 0),
                channels => self.push(name, conv(3, 1), channels).relu().aws(),
            };
        }
        self.push("classifier.0", Op::Linear, 4096).relu();
        self.push("classifier.3", Op::Linear, 4096).relu();
        self.head = "classifier.6";
    }

    fn mobilenet_v2(&mut self) {
        // How often the channels are multiplied inside a block, the channels it gives, blocks, stride of the first.
        const BLOCKS: [(usize, usize, usize, usize); 7] = [
            (1, 16, 1, 1),
            (6, 24, 2, 2),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        ];
        self.push("features.0.0", conv(3, 2), 32).batch_norm("features.0.1").relu().aws();
        let mut index = 1;
        for (expansion, channels, blocks, stride) in BLOCKS {
            for number in 0..blocks {
                let stride = if number == 0 { stride } else { 1 };
                self.inverted_residual(&format!("features.{index}.conv"), expansion, channels, stride);
                index += 1;
            }
        }
        self.push("features.18.0", conv(1, 1), 1280).batch_norm("features.18.1").relu();
        self.push("avgpool", Op::GlobalAvgPool2d, 0);
        self.head = "classifier.1";
    }

    /// A 1x1 convolution to more channels, a depthwise one, a 1x1 one to fewer, and the input added where it fits.
    fn inverted_residual(&mut self, name: &str, expansion: usize, channels: usize, stride: usize) {
        let input = self.last().to_owned();
        let input_channels = self.shape(&input).channels;
        let width = expansion * input_channels;
        let mut module = 0;
        if expansion != 1 {
            self.push(format!("{name}.0.0"), conv(1, 1), width).batch_norm(format!("{name}.0.1")).relu();
            module = 1;
        }
        let depthwise = grouped_conv(3, stride, width);
        self.push(format!("{name}.{module}.0"), depthwise, width)
            .batch_norm(format!("{name}.{module}.1"))
            .relu();
        let projection = self.push(format!("{name}.{}", module + 1), conv(1, 1), channels);
        projection.batch_norm(format!("{name}.{}", module + 2)).aws();
        if stride == 1 && input_channels == channels {
            projection.residual(&input);
        }
    }

    fn mobilenet_v3_small(&mut self) {
        use Activation::{HardSwish, Relu};
        // Kernel, channels inside a block, channels it gives, squeeze-and-excitation, activation, stride.
        const BLOCKS: [(usize, usize, usize, bool, Activation, usize); 11] = [
            (3, 16, 16, true, Relu, 2),
            (3, 72, 24, false, Relu, 2),
            (3, 88, 24, false, Relu, 1),
            (5, 96, 40, true, HardSwish, 2),
            (5, 240, 40, true, HardSwish, 1),
            (5, 240, 40, true, HardSwish, 1),
            (5, 120, 48, true, HardSwish, 1),
            (5, 144, 48, true, HardSwish, 1),
            (5, 288, 96, true, HardSwish, 2),
            (5, 576, 96, true, HardSwish, 1),
            (5, 576, 96, true, HardSwish, 1),
        ];
        let stem = self.push("features.0.0", conv(3, 2), 16);
        stem.batch_norm("features.0.1").activation(HardSwish).aws();
        for (index, (kernel, width, channels, squeezes, activation, stride)) in BLOCKS.into_iter().enumerate()
        {
            let name = format!("features.{}.block", index + 1);
            // A fourth of the channels, to a multiple of 8 that is not much less.
            let squeezed = squeezes.then(|| {
                let nearest = ((width / 4 + 4) / 8 * 8).max(8);
                if nearest * 10 < width / 4 * 9 { nearest + 8 } else { nearest }
            });
            let gate = [Relu, Activation::HardSigmoid];
            let block = MobileBlock { kernel, stride, width, channels, squeezed, activation, gate };
            self.mobile_block(&name, block);
        }
        self.push("features.12.0", conv(1, 1), 576).batch_norm("features.12.1").activation(HardSwish);
        self.push("avgpool", Op::GlobalAvgPool2d, 0);
        self.push("classifier.0", Op::Linear, 1024).activation(HardSwish);
        self.head = "classifier.3";
    }

    fn efficientnet_b0(&mut self) {
        // How often the channels are multiplied inside a block, kernel, stride of the first, channels it gives, blocks.
        const STAGES: [(usize, usize, usize, usize, usize); 7] = [
            (1, 3, 1, 16, 1),
            (6, 3, 2, 24, 2),
            (6, 5, 2, 40, 2),
            (6, 3, 2, 80, 3),
            (6, 5, 1, 112, 3),
            (6, 5, 2, 192, 4),
            (6, 3, 1, 320, 1),
        ];
        let activation = Activation::Silu;
        let stem = self.push("features.0.0", conv(3, 2), 32);
        stem.batch_norm("features.0.1").activation(activation).aws();
        for (stage, (expansion, kernel, stride, channels, blocks)) in STAGES.into_iter().enumerate() {
            for number in 0..blocks {
                let input_channels = self.shape(self.last()).channels;
                let block = MobileBlock {
                    kernel,
                    stride: if number == 0 { stride } else { 1 },
                    width: expansion * input_channels,
                    channels,
                    squeezed: Some(input_channels / 4),
                    activation,
                    gate: [activation, Activation::Sigmoid],
                };
                self.mobile_block(&format!("features.{}.{number}.block", stage + 1), block);
            }
        }
        self.push("features.8.0", conv(1, 1), 1280).batch_norm("features.8.1").activation(activation);
        self.push("avgpool", Op::GlobalAvgPool2d, 0);
        self.head = "classifier.1";
    }

    /// As [`inverted_residual`](Self::inverted_residual), with a factor a channel that is computed from the means of all.
    fn mobile_block(&mut self, name: &str, block: MobileBlock) {
        let MobileBlock { kernel, stride, width, channels, squeezed, activation, gate } = block;
        let input = self.last().to_owned();
        let input_channels = self.shape(&input).channels;
        let mut module = 0;
        if width != input_channels {
            let expand = self.push(format!("{name}.0.0"), conv(1, 1), width);
            expand.batch_norm(format!("{name}.0.1")).activation(activation);
            module = 1;
        }
        let depthwise = self.push(format!("{name}.{module}.0"), grouped_conv(kernel, stride, width), width);
        depthwise.batch_norm(format!("{name}.{module}.1")).activation(activation);
        module += 1;
        if let Some(squeezed) = squeezed {
            let (name, map) = (format!("{name}.{module}"), self.last().to_owned());
            self.push(format!("{name}.avgpool"), Op::GlobalAvgPool2d, 0);
            self.push(format!("{name}.fc1"), conv(1, 1), squeezed).activation(gate[0]);
            self.push(format!("{name}.fc2"), conv(1, 1), width).activation(gate[1]);
            self.push_from(&map, &name, Op::Identity, 0).scale(&format!("{name}.fc2"));
            module += 1;
        }
        let projection = self.push(format!("{name}.{module}.0"), conv(1, 1), channels);
        projection.batch_norm(format!("{name}.{module}.1")).aws();
        if stride == 1 && input_channels == channels {
            projection.residual(&input);
        }
    }

    fn densenet121(&mut self) {
        const GROWTH: usize = 32;
        const BLOCKS: [usize; 4] = [6, 12, 24, 16];
        self.push("features.conv0", conv(7, 2), 64).batch_norm("features.norm0").relu().aws();
        self.push("features.pool0", max_pool(3, 2, 1), 0);
        for (index, layers) in BLOCKS.into_iter().enumerate() {
            let block = format!("features.denseblock{}", index + 1);
            let mut maps = vec![self.last().to_owned()];
            for number in 1..=layers {
                let name = format!("{block}.denselayer{number}");
                if maps.len() > 1 {
                    self.concat(format!("{name}.concat"), &maps);
                }
                self.push(format!("{name}.norm1"), Op::Identity, 0)
                    .batch_norm(format!("{name}.norm1"))
                    .relu();
                let bottleneck = self.push(format!("{name}.conv1"), conv(1, 1), 4 * GROWTH);
                bottleneck.batch_norm(format!("{name}.norm2")).relu();
                // Torchvision's has no batch norm behind it; a bias stands for its shift.
                self.push(format!("{name}.conv2"), conv(3, 1), GROWTH);
                maps.push(format!("{name}.conv2"));
            }
            self.concat(format!("{block}.concat"), &maps);
            let last = index + 1 == BLOCKS.len();
            let norm = match last {
                true => "features.norm5".to_owned(),
                false => format!("features.transition{}.norm", index + 1),
            };
            self.push(norm.clone(), Op::Identity, 0).batch_norm(norm).relu();
            if !last {
                let transition = format!("features.transition{}", index + 1);
                let channels = self.shape(self.last()).channels / 2;
                self.push(format!("{transition}.conv"), conv(1, 1), channels).aws();
                self.push(format!("{transition}.pool"), Op::AvgPool2d(pool(2, 2, 0)), 0);
            }
        }
        self.push("avgpool", Op::GlobalAvgPool2d, 0);
        self.head = "classifier";
    }
}

/// A block of the later mobile networks.
struct MobileBlock {
    kernel: usize,
    stride: usize,
    /// Channels inside it, and those it gives.
    width: usize,
    channels: usize,
    /// Channels between the two small convolutions of its squeeze-and-excitation, where it has one.
    squeezed: Option<usize>,
    activation: Activation,
    /// Of those two convolutions.
    gate: [Activation; 2],
}
