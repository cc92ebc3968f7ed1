//! A model file in candle's own operators. The number of threads is rayon's, from `RAYON_NUM_THREADS`.

use std::path::Path;

use anyhow::{Result, bail};
use awsnet::model::{AwsUnit, Source, Weights};
use awsnet::op::{Activation, Op, Padding};
use awsnet::{Branch, Model};
use candle_core::{D, Device, Tensor};

use crate::{Images, Network};

/// A layer pair's tensors: weight and bias of either branch, and A[to][from].
struct Layer {
    weights: Option<[(Tensor, Tensor); 2]>,
    aws: Option<[[Tensor; 2]; 2]>,
}

pub fn load(path: &Path) -> Result<Network> {
    let model = Model::load(path)?;
    let mut layers = Vec::new();
    for layer in model.layers() {
        let weights = match layer.op().has_weight() {
            false => None,
            true => Some(pair(|b| weights(layer.weights(b).expect("a weighted operator"), layer.op()))?),
        };
        let aws = layer.aws().map(|unit| coefficients(unit, layer.output_shape().channels)).transpose()?;
        layers.push(Layer { weights, aws });
    }
    let heads = pair(|branch| weights(model.head(branch).weights(), &Op::Linear))?;
    Ok(Box::new(move |images| run(&model, &layers, &heads, images)))
}

fn pair<T>(of: impl Fn(Branch) -> Result<T>) -> Result<[T; 2]> {
    Ok([of(Branch::Emotion)?, of(Branch::Au)?])
}

/// Weight and bias, batch norm folded, in the layout that candle's operators take.
fn weights(weights: &Weights, op: &Op) -> Result<(Tensor, Tensor)> {
    let dims = weights.weight().dims();
    let weight = Tensor::from_vec(weights.folded(), dims, &Device::Cpu)?;
    let bias = Tensor::new(weights.bias(), &Device::Cpu)?;
    Ok(match op {
        Op::Linear => (weight.t()?.contiguous()?, bias),
        _ => (weight, bias.reshape((1, dims[0], 1, 1))?),
    })
}

fn coefficients(unit: &AwsUnit, channels: usize) -> Result<[[Tensor; 2]; 2]> {
    let (a, width) = match unit {
        AwsUnit::Layer(a) => (a, 1),
        AwsUnit::Channel(a) => (a, channels),
        other => bail!("no AWS-Unit of kind {:?} is written for candle", other.kind()),
    };
    let of = |to: usize, from: usize| -> Result<Tensor> {
        let values = &a[(2 * to + from) * width..][..width];
        Ok(Tensor::from_slice(values, (1, width, 1, 1), &Device::Cpu)?)
    };
    Ok([[of(0, 0)?, of(0, 1)?], [of(1, 0)?, of(1, 1)?]])
}

fn run(
    model: &Model,
    layers: &[Layer],
    heads: &[(Tensor, Tensor); 2],
    images: &Images,
) -> Result<[Vec<f32>; 4]> {
    let image = Tensor::from_slice(&images.data, &images.shape, &Device::Cpu)?;
    let mut values: Vec<[Tensor; 2]> = Vec::with_capacity(layers.len());
    let of = |source: Source, values: &[[Tensor; 2]], branch: usize| match source {
        Source::Image => Ok(image.clone()),
        Source::Layer(index) => Ok(values[index][branch].clone()),
        other => bail!("no {other:?} is written for candle"),
    };
    for (stated, layer) in model.layers().iter().zip(layers) {
        let u = pair(|branch| {
            let b = branch as usize;
            let weights = layer.weights.as_ref().map(|pair| &pair[b]);
            let mut z = operator(stated.op(), &of(stated.input(), &values, b)?, weights)?;
            if let Some(residual) = stated.residual() {
                z = (z + &values[residual][b])?;
            }
            Ok(match stated.activation() {
                Activation::None => z,
                Activation::Relu => z.relu()?,
                Activation::LeakyRelu { negative_slope } => {
                    candle_nn::ops::leaky_relu(&z, f64::from(negative_slope))?
                }
                Activation::Silu => z.silu()?,
                other => bail!("no {other:?} is written for candle"),
            })
        })?;
        values.push(match &layer.aws {
            None => u,
            Some(a) => pair(|to| {
                let [own, other] = [0, 1].map(|from| u[from].broadcast_mul(&a[to as usize][from]));
                Ok((own? + other?)?)
            })?,
        });
    }
    let logits = pair(|branch| {
        let x = of(model.head(branch).input(), &values, branch as usize)?;
        operator(&Op::Linear, &x, Some(&heads[branch as usize]))
    })?;
    let flat = |tensor: &Tensor| -> Result<Vec<f32>> { Ok(tensor.flatten_all()?.to_vec1()?) };
    let [emotion, au] = logits.map(|logits| logits.flatten_from(1));
    let (emotion, au) = (emotion?, au?);
    let (softmax, sigmoid) = (candle_nn::ops::softmax(&emotion, D::Minus1)?, candle_nn::ops::sigmoid(&au)?);
    Ok([flat(&emotion)?, flat(&softmax)?, flat(&au)?, flat(&sigmoid)?])
}

fn operator(op: &Op, x: &Tensor, weights: Option<&(Tensor, Tensor)>) -> Result<Tensor> {
    Ok(match (op, weights) {
        (Op::Conv2d(conv), Some((weight, bias))) => {
            let (stride, dilation) = (square(conv.stride)?, square(conv.dilation)?);
            x.conv2d(weight, even(conv.padding)?, stride, dilation, conv.groups)?.broadcast_add(bias)?
        }
        (Op::Linear, Some((weight, bias))) => {
            let rows = x.flatten_from(1)?.matmul(weight)?.broadcast_add(bias)?;
            rows.unsqueeze(2)?.unsqueeze(3)?
        }
        (Op::MaxPool2d(pool), _) => {
            // candle's pools do not pad; the smallest number of f32 never wins a maximum.
            let p = pool.padding;
            let x = surround(&surround(x, 2, p.top, p.bottom)?, 3, p.left, p.right)?;
            x.max_pool2d_with_stride(tuple(pool.kernel), tuple(pool.stride))?
        }
        (Op::AvgPool2d(pool), _) => {
            let p = pool.padding;
            let x = x.pad_with_zeros(2, p.top, p.bottom)?.pad_with_zeros(3, p.left, p.right)?;
            x.avg_pool2d_with_stride(tuple(pool.kernel), tuple(pool.stride))?
        }
        (Op::GlobalAvgPool2d, _) => x.mean_keepdim(3)?.mean_keepdim(2)?,
        (Op::Identity, _) => x.clone(),
        (op, None) => bail!("{op} without weights"),
        (op, Some(_)) => bail!("no {op} is written for candle"),
    })
}

fn surround(x: &Tensor, dim: usize, before: usize, after: usize) -> Result<Tensor> {
    let border = |len: usize| {
        let mut dims = x.dims().to_vec();
        dims[dim] = len;
        Tensor::full(f32::MIN, dims, &Device::Cpu)
    };
    Ok(match (before, after) {
        (0, 0) => x.clone(),
        _ => Tensor::cat(&[border(before)?, x.clone(), border(after)?], dim)?,
    })
}

fn tuple([height, width]: [usize; 2]) -> (usize, usize) {
    (height, width)
}

fn square([height, width]: [usize; 2]) -> Result<usize> {
    match height == width {
        true => Ok(height),
        false => bail!("candle's convolution has one step for both axes, not {height}x{width}"),
    }
}

fn even(p: Padding) -> Result<usize> {
    match [p.left, p.bottom, p.right] == [p.top; 3] {
        true => Ok(p.top),
        false => bail!("candle's convolution has one padding for all sides, not {p:?}"),
    }
}
