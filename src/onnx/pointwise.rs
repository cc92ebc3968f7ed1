//! Functions that are applied to every element of a map, known by what they compute.
//!
//! Exporters write one activation in many ways: a hardswish is an operator, or `x * hardsigmoid(x)`, or an addition, a clip, a
//! multiplication and a division in any order. So whatever nodes compute from one map and constants is gathered in a
//! [`Function`], and when a map is wanted the function is compared with each that a model file can hold, on points all over the
//! axis. What is no single one is taken apart from outside: an affine part behind one, one behind another.

use std::rc::Rc;

use super::array::fault;
use super::evaluate::{Scalar, Scalar2, gelu, gelu_tanh, sigmoid};
use crate::error::Result;

/// An activation that a model file can hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Activation {
    Relu,
    Relu6,
    LeakyRelu(f32),
    Silu,
    HardSwish,
    HardSigmoid,
    Sigmoid,
    Tanh,
    Gelu,
    GeluTanh,
    Elu,
}

impl Activation {
    /// Its name in the manifest.
    pub fn name(self) -> &'static str {
        match self {
            Activation::Relu => "relu",
            Activation::Relu6 => "relu6",
            Activation::LeakyRelu(_) => "leaky_relu",
            Activation::Silu => "silu",
            Activation::HardSwish => "hardswish",
            Activation::HardSigmoid => "hardsigmoid",
            Activation::Sigmoid => "sigmoid",
            Activation::Tanh => "tanh",
            Activation::Gelu => "gelu",
            Activation::GeluTanh => "gelu_tanh",
            Activation::Elu => "elu",
        }
    }

    /// Those without a parameter.
    const FIXED: [Activation; 10] = [
        Activation::Relu,
        Activation::Relu6,
        Activation::Silu,
        Activation::HardSwish,
        Activation::HardSigmoid,
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Elu,
    ];

    fn at(self, x: f64) -> f64 {
        match self {
            Activation::Relu => x.max(0.0),
            Activation::Relu6 => x.clamp(0.0, 6.0),
            Activation::LeakyRelu(slope) => {
                if x < 0.0 {
                    f64::from(slope) * x
                } else {
                    x
                }
            }
            Activation::Silu => x * sigmoid(x),
            Activation::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
            Activation::HardSigmoid => (x + 3.0).clamp(0.0, 6.0) / 6.0,
            Activation::Sigmoid => sigmoid(x),
            Activation::Tanh => x.tanh(),
            Activation::Gelu => gelu(x),
            Activation::GeluTanh => gelu_tanh(x),
            Activation::Elu => {
                if x < 0.0 {
                    x.exp_m1()
                } else {
                    x
                }
            }
        }
    }

    /// Whether none of its values is below 0.
    pub fn is_non_negative(self) -> bool {
        use Activation::{HardSigmoid, Relu, Relu6, Sigmoid};
        matches!(self, Relu | Relu6 | Sigmoid | HardSigmoid)
    }
}

/// A part of a function that is one step of a model file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    /// `factor` * x + `term`, one each for all channels, or one a channel.
    Affine {
        factor: Vec<f64>,
        term: Vec<f64>,
    },
    Activation(Activation),
    /// x where it is not negative, else the slope times x; one a channel.
    Prelu(Vec<f32>),
}

enum Expr {
    X,
    /// One for all channels, or one a channel.
    Constant(Vec<f64>),
    /// The name is the operator's.
    Apply(String, Scalar, Rc<Expr>),
    Clip([f64; 2], Rc<Expr>),
    Combine(String, Scalar2, Rc<Expr>, Rc<Expr>),
}

/// A function of one number, which may be another one for each channel.
#[derive(Clone)]
pub(super) struct Function {
    root: Rc<Expr>,
    /// Its size as a tree, which bounds the work of computing it.
    size: usize,
}

/// More than any activation takes to be written.
const MAX_SIZE: usize = 64;

/// Two numbers of a channel, where one may stand for all.
fn spread(values: &[f64], channel: usize) -> f64 {
    if values.len() == 1 { values[0] } else { values[channel] }
}

impl Expr {
    fn at(&self, x: f64, channel: usize) -> f64 {
        match self {
            Expr::X => x,
            Expr::Constant(values) => spread(values, channel),
            Expr::Apply(_, function, inner) => function(inner.at(x, channel)),
            Expr::Clip([least, most], inner) => inner.at(x, channel).max(*least).min(*most),
            Expr::Combine(_, function, a, b) => function(a.at(x, channel), b.at(x, channel)),
        }
    }

    /// How many channels it tells apart.
    fn channels(&self) -> usize {
        match self {
            Expr::X => 1,
            Expr::Constant(values) => values.len(),
            Expr::Apply(_, _, inner) | Expr::Clip(_, inner) => inner.channels(),
            Expr::Combine(_, _, a, b) => a.channels().max(b.channels()),
        }
    }

    /// Its factor and term, where it is written as an affine function.
    fn affine(&self) -> Option<[Vec<f64>; 2]> {
        match self {
            Expr::X => Some([vec![1.0], vec![0.0]]),
            Expr::Constant(values) => Some([vec![0.0], values.clone()]),
            Expr::Clip(..) => None,
            Expr::Apply(op, _, inner) => {
                let negated = inner.affine().filter(|_| op == "Neg")?;
                Some(negated.map(|values| values.into_iter().map(|v| -v).collect()))
            }
            Expr::Combine(op, function, a, b) => {
                let ([a, b], [c, d]) = (a.affine()?, b.affine()?);
                let zip = |x: &[f64], y: &[f64]| -> Vec<f64> {
                    (0..x.len().max(y.len())).map(|i| function(spread(x, i), spread(y, i))).collect()
                };
                let is_constant = |factor: &[f64]| factor.iter().all(|&v| v == 0.0);
                match op.as_str() {
                    "Add" | "Sub" => Some([zip(&a, &c), zip(&b, &d)]),
                    "Mul" if is_constant(&a) => Some([zip(&c, &b), zip(&d, &b)]),
                    "Mul" | "Div" if is_constant(&c) => Some([zip(&a, &d), zip(&b, &d)]),
                    _ => None,
                }
            }
        }
    }
}

/// Points on which functions are compared: close ones where activations bend, and far ones for what saturates.
fn points() -> impl Iterator<Item = f64> {
    let near = (-800..=800).map(|i| f64::from(i) / 100.0 + 0.003);
    let far = [10.0, 14.0, 20.0, 33.0, 50.0, 101.0, 1e3, 1e4, 1e6];
    near.chain(far).chain(far.map(|x| -x)).chain([0.0])
}

fn agree(a: f64, b: f64, x: f64) -> bool {
    (a - b).abs() <= 1e-6 * (1.0 + x.abs())
}

impl Function {
    /// x itself.
    pub fn identity() -> Self {
        Function { root: Rc::new(Expr::X), size: 1 }
    }

    pub fn constant(values: Vec<f64>) -> Self {
        Function { root: Rc::new(Expr::Constant(values)), size: 1 }
    }

    pub fn is_identity(&self) -> bool {
        matches!(*self.root, Expr::X)
    }

    fn new(root: Expr, size: usize) -> Result<Self> {
        if size > MAX_SIZE {
            return Err(fault("an activation that a model file can hold", "a longer computation"));
        }
        Ok(Function { root: Rc::new(root), size })
    }

    /// `function` of this one; `op` is the operator's name.
    pub fn apply(&self, op: &str, function: Scalar) -> Result<Self> {
        Function::new(Expr::Apply(op.to_owned(), function, Rc::clone(&self.root)), self.size + 1)
    }

    pub fn clip(&self, least: f64, most: f64) -> Result<Self> {
        Function::new(Expr::Clip([least, most], Rc::clone(&self.root)), self.size + 1)
    }

    /// `function` of both.
    pub fn combine(op: &str, function: Scalar2, a: &Function, b: &Function) -> Result<Self> {
        let (left, right) = (Rc::clone(&a.root), Rc::clone(&b.root));
        let bound = |values: &Expr| match values {
            Expr::Constant(values) if values.len() == 1 => Some(values[0]),
            _ => None,
        };
        match (op, bound(&left), bound(&right)) {
            ("Max", _, Some(least)) => return a.clip(least, f64::INFINITY),
            ("Max", Some(least), _) => return b.clip(least, f64::INFINITY),
            ("Min", _, Some(most)) => return a.clip(f64::NEG_INFINITY, most),
            ("Min", Some(most), _) => return b.clip(f64::NEG_INFINITY, most),
            _ => {}
        }
        Function::new(Expr::Combine(op.to_owned(), function, left, right), a.size.saturating_add(b.size) + 1)
    }

    /// What a last sigmoid is applied to, where this is one.
    pub fn of_sigmoid(&self) -> Option<Function> {
        match &*self.root {
            Expr::Apply(op, _, inner) if op == "Sigmoid" => {
                Some(Function { root: Rc::clone(inner), size: self.size - 1 })
            }
            _ => None,
        }
    }

    /// The function as parts that a model file can hold, the innermost first; `None` where it has none.
    pub fn parts(&self) -> Option<Vec<Part>> {
        parts(&self.root)
    }
}

fn parts(expr: &Expr) -> Option<Vec<Part>> {
    if let Expr::X = expr {
        return Some(Vec::new());
    }
    if let Some([factor, term]) = expr.affine() {
        let is_identity = factor.iter().all(|&v| v == 1.0) && term.iter().all(|&v| v == 0.0);
        return Some(if is_identity { Vec::new() } else { vec![Part::Affine { factor, term }] });
    }
    if let Some(part) = single(expr) {
        return Some(vec![part]);
    }
    let (inner, outer) = match expr {
        Expr::Clip(bounds, inner) => {
            let alone = single(&Expr::Clip(*bounds, Rc::new(Expr::X)));
            (inner, alone.map(|part| vec![part]).or_else(|| clip_parts(*bounds))?)
        }
        Expr::Apply(op, function, inner) if !matches!(**inner, Expr::X) => {
            let alone = Expr::Apply(op.clone(), Rc::clone(function), Rc::new(Expr::X));
            (inner, parts(&alone)?)
        }
        // An affine function of one side, where the other is a constant.
        Expr::Combine(op, function, a, b) => {
            let x = || Rc::new(Expr::X);
            let (inner, a, b) = match (&**a, &**b) {
                (Expr::Constant(_), _) => (b, Rc::clone(a), x()),
                (_, Expr::Constant(_)) => (a, x(), Rc::clone(b)),
                _ => return None,
            };
            let [factor, term] = Expr::Combine(op.clone(), *function, a, b).affine()?;
            (inner, vec![Part::Affine { factor, term }])
        }
        _ => return None,
    };
    let mut all = parts(inner)?;
    all.extend(outer);
    Some(all)
}

/// A clip by an activation that bends once or twice.
fn clip_parts([least, most]: [f64; 2]) -> Option<Vec<Part>> {
    let affine = |factor: f64, term: f64| Part::Affine { factor: vec![factor], term: vec![term] };
    match (least.is_finite(), most.is_finite()) {
        (true, true) if least < most => {
            let width = most - least;
            let unit = affine(6.0 / width, -6.0 * least / width - 3.0);
            Some(vec![unit, Part::Activation(Activation::HardSigmoid), affine(width, least)])
        }
        (true, false) => {
            Some(vec![affine(1.0, -least), Part::Activation(Activation::Relu), affine(1.0, least)])
        }
        (false, true) => {
            Some(vec![affine(-1.0, most), Part::Activation(Activation::Relu), affine(-1.0, most)])
        }
        _ => None,
    }
}

/// The one activation that the function is.
fn single(expr: &Expr) -> Option<Part> {
    let channels = expr.channels();
    let is =
        |function: &dyn Fn(f64) -> f64, channel| points().all(|x| agree(expr.at(x, channel), function(x), x));
    let slope = |channel| -> Option<f32> {
        let slope = (-expr.at(-1.0, channel)) as f32;
        is(&|x| Activation::LeakyRelu(slope).at(x), channel).then_some(slope)
    };
    if channels > 1 {
        return (0..channels).map(slope).collect::<Option<Vec<_>>>().map(Part::Prelu);
    }
    let fixed = Activation::FIXED.into_iter().find(|activation| is(&|x| activation.at(x), 0));
    fixed.or_else(|| slope(0).map(Activation::LeakyRelu)).map(Part::Activation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::evaluate::{erf, scalar2};

    fn x() -> Function {
        Function::identity()
    }

    fn number(value: f64) -> Function {
        Function::constant(vec![value])
    }

    fn two(op: &str, a: &Function, b: &Function) -> Function {
        Function::combine(op, scalar2(op).expect("an operator"), a, b).expect("a short function")
    }

    fn one(op: &str, a: &Function, function: fn(f64) -> f64) -> Function {
        a.apply(op, Rc::new(function)).expect("a short function")
    }

    fn activation(activation: Activation) -> Option<Vec<Part>> {
        Some(vec![Part::Activation(activation)])
    }

    fn affine(factor: f64, term: f64) -> Part {
        Part::Affine { factor: vec![factor], term: vec![term] }
    }

    #[test]
    fn an_activation_is_known_however_it_is_written() {
        let relu6 = |f: &Function| f.clip(0.0, 6.0).expect("a short function");
        let plus_3 = two("Add", &number(3.0), &x());
        let erf_half = one("Erf", &two("Div", &x(), &number(2f64.sqrt())), erf);
        let cube = two("Mul", &x(), &two("Mul", &x(), &x()));
        let inner = two("Add", &x(), &two("Mul", &number(0.044715), &cube));
        let tanh = one("Tanh", &two("Mul", &inner, &number(0.797_884_560_8)), f64::tanh);
        let softplus = one("Softplus", &x(), |x| x.exp().ln_1p());
        for (written, function, expected) in [
            ("clip(x, 0, 6)", relu6(&x()), activation(Activation::Relu6)),
            ("max(x, 0)", two("Max", &x(), &number(0.0)), activation(Activation::Relu)),
            (
                "x * sigmoid(x)",
                two("Mul", &one("Sigmoid", &x(), sigmoid), &x()),
                activation(Activation::Silu),
            ),
            (
                "x * relu6(x + 3) / 6",
                two("Div", &two("Mul", &x(), &relu6(&plus_3)), &number(6.0)),
                activation(Activation::HardSwish),
            ),
            (
                "x * (relu6(x + 3) / 6)",
                two("Mul", &x(), &two("Mul", &relu6(&plus_3), &number(1.0 / 6.0))),
                activation(Activation::HardSwish),
            ),
            (
                "relu6(x + 3) / 6",
                two("Div", &relu6(&plus_3), &number(6.0)),
                activation(Activation::HardSigmoid),
            ),
            (
                "x * 0.5 * (1 + erf(x / sqrt 2))",
                two("Mul", &two("Mul", &x(), &number(0.5)), &two("Add", &erf_half, &number(1.0))),
                activation(Activation::Gelu),
            ),
            (
                "0.5 * (x * (1 + tanh(..)))",
                two("Mul", &number(0.5), &two("Mul", &x(), &two("Add", &number(1.0), &tanh))),
                activation(Activation::GeluTanh),
            ),
            (
                "max(x, 0.2 x)",
                two("Max", &x(), &two("Mul", &number(0.2), &x())),
                activation(Activation::LeakyRelu(0.2)),
            ),
            ("x + x", two("Add", &x(), &x()), Some(vec![affine(2.0, 0.0)])),
            ("x * 1", two("Mul", &x(), &number(1.0)), Some(vec![])),
            (
                "sigmoid(2 x + 1)",
                one("Sigmoid", &two("Add", &two("Mul", &x(), &number(2.0)), &number(1.0)), sigmoid),
                Some(vec![affine(2.0, 1.0), Part::Activation(Activation::Sigmoid)]),
            ),
            (
                "2 tanh(x)",
                two("Mul", &one("Tanh", &x(), f64::tanh), &number(2.0)),
                Some(vec![Part::Activation(Activation::Tanh), affine(2.0, 0.0)]),
            ),
            (
                "clip(x, -1, 1)",
                x().clip(-1.0, 1.0).expect("a short function"),
                Some(vec![affine(3.0, 0.0), Part::Activation(Activation::HardSigmoid), affine(2.0, -1.0)]),
            ),
            (
                "relu6(x + 3)",
                relu6(&plus_3),
                Some(vec![affine(1.0, 3.0), Part::Activation(Activation::Relu6)]),
            ),
            ("x * tanh(softplus(x))", two("Mul", &x(), &one("Tanh", &softplus, f64::tanh)), None),
            ("x * x", two("Mul", &x(), &x()), None),
            ("clip(x, -100, 100) * x", two("Mul", &x().clip(-100.0, 100.0).expect("short"), &x()), None),
        ] {
            assert_eq!(function.parts(), expected, "{written}");
        }
    }

    #[test]
    fn what_differs_by_channel_is_affine_or_a_slope() {
        let channels = Function::constant(vec![0.1, 0.2, 0.3]);
        let scaled = two("Sub", &two("Mul", &x(), &channels), &number(1.0));
        let expected = Part::Affine { factor: vec![0.1, 0.2, 0.3], term: vec![-1.0; 1] };
        assert_eq!(scaled.parts(), Some(vec![expected]));
        // relu(x) - slope * relu(-x), as Keras computes a PReLU.
        let relu = |f: &Function| one("Relu", f, |x| x.max(0.0));
        let negative = two("Mul", &channels, &relu(&one("Neg", &x(), |x| -x)));
        let prelu = two("Sub", &relu(&x()), &negative);
        assert_eq!(prelu.parts(), Some(vec![Part::Prelu(vec![0.1, 0.2, 0.3])]));
    }

    #[test]
    fn a_long_computation_is_refused() {
        let mut function = x();
        let result = (0..100).try_for_each(|_| {
            function = Function::combine("Mul", |a, b| a * b, &function, &function)?;
            Ok::<(), crate::Error>(())
        });
        assert_eq!(result.expect_err("a long one").found(), "a longer computation");
    }
}
