//! What a plan is made for: which backend, which instruction set, which precision, which algorithm.

use std::fmt;
use std::str::FromStr;

use super::winograd::WinogradTile;
use crate::error::{Error, ErrorKind, Result, quoted};

/// The instruction sets that the CPU backend has kernels for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// x86-64 with AVX-512F: 16 lanes.
    Avx512,
    /// x86-64 with AVX2, FMA and F16C: 8 lanes.
    Avx2,
    /// aarch64 with NEON: 8 lanes, in two registers.
    Neon,
    /// Any processor: 8 lanes, in whatever registers the compiler finds for them.
    Portable,
}

impl Isa {
    /// Every instruction set, the widest first.
    pub const ALL: &[Isa] = &[Isa::Avx512, Isa::Avx2, Isa::Neon, Isa::Portable];

    /// Where it stands in [`ALL`](Self::ALL); any processor's is the last.
    const fn position(self) -> usize {
        match self {
            Isa::Avx512 => 0,
            Isa::Avx2 => 1,
            Isa::Neon => 2,
            Isa::Portable => 3,
        }
    }

    /// The widest instruction set of the processor at hand.
    pub fn detect() -> Isa {
        Isa::ALL.iter().copied().find(|isa| isa.is_available()).unwrap_or(Isa::Portable)
    }

    /// Whether the processor at hand can run this instruction set.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => is_x86_feature_detected!("avx512f"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx512 | Isa::Avx2 => false,
            Isa::Neon => cfg!(target_arch = "aarch64"),
            Isa::Portable => true,
        }
    }

    /// f32 values in a vector, which is also the number of channels in a block of a feature map.
    pub const fn lanes(self) -> usize {
        match self {
            Isa::Avx512 => 16,
            Isa::Avx2 | Isa::Neon | Isa::Portable => 8,
        }
    }
}

// A set that is not in the list would be neither detected nor tested.
const _: () = {
    assert!(Isa::ALL.len() == Isa::Portable.position() + 1);
    let mut position = 0;
    while position < Isa::ALL.len() {
        assert!(Isa::ALL[position].position() == position);
        position += 1;
    }
};

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Isa::Avx512 => "avx512",
            Isa::Avx2 => "avx2",
            Isa::Neon => "neon",
            Isa::Portable => "portable",
        })
    }
}

/// A GPU as far as plans depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Gpu {
    /// Its number as the driver counts; `None` for one that is only planned for.
    pub ordinal: Option<usize>,
    /// Compute capability, 90 for sm_90.
    pub capability: u32,
    /// Streaming multiprocessors.
    pub multiprocessors: usize,
    /// Bytes of shared memory that a block may take where it asks for them.
    pub shared_bytes: usize,
}

impl Gpu {
    /// A typical GPU of an architecture, to plan for where there is none.
    ///
    /// Multiprocessors are those of the best known product (sm_80 A100 108, sm_86 RTX 3090 82, sm_89 RTX 4090 128,
    /// sm_90 H100 SXM 132, sm_100 B200 148, sm_120 RTX 5090 170); shared memory as the CUDA programming guide's table of
    /// compute capabilities has it. `None` for an architecture that is older than sm_80 or unknown.
    pub fn typical(capability: u32) -> Option<Gpu> {
        let (multiprocessors, shared_kib) = match capability {
            80 => (108, 163),
            86 => (82, 99),
            89 => (128, 99),
            90 => (132, 227),
            100 => (148, 227),
            120 => (170, 99),
            _ => return None,
        };
        Some(Gpu { ordinal: None, capability, multiprocessors, shared_bytes: shared_kib * 1024 })
    }
}

/// The backend that a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// Naive loops with sums in f64: the oracle.
    Reference,
    /// The CPU backend with the kernels of an instruction set.
    Cpu(Isa),
    /// The CUDA backend on a GPU.
    Cuda(Gpu),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Reference => f.write_str("reference"),
            Target::Cpu(isa) => write!(f, "cpu ({isa})"),
            Target::Cuda(gpu) => match gpu.ordinal {
                Some(ordinal) => write!(f, "cuda:{ordinal} (sm_{})", gpu.capability),
                None => write!(f, "cuda:sm_{}", gpu.capability),
            },
        }
    }
}

/// The type in which feature maps are stored and multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Precision {
    /// Single precision.
    F32,
    /// Half precision, sums in f32.
    F16,
    /// Brain floating point, sums in f32.
    BF16,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::F32 => "f32",
            Precision::F16 => "f16",
            Precision::BF16 => "bf16",
        })
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "f32" => Ok(Precision::F32),
            "f16" => Ok(Precision::F16),
            "bf16" => Ok(Precision::BF16),
            other => Err(Error::new(ErrorKind::Input, "precision", "f32, f16 or bf16", quoted(other))),
        }
    }
}

/// How to compute a convolution with a 3x3 kernel of stride 1 and dilation 1 in one group; there is one way for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Conv2dAlgorithm {
    /// What should take the least time, by a model of its cost. It knows shapes and the batch alone.
    #[default]
    Auto,
    /// A sum of products: the smallest rounding error.
    Direct,
    /// Winograd's minimal filtering, with larger rounding errors, some ten times with F4.
    Winograd(WinogradTile),
}

impl Conv2dAlgorithm {
    /// Every way, without [`Auto`](Self::Auto).
    pub const ALL: &[Conv2dAlgorithm] = &[
        Conv2dAlgorithm::Direct,
        Conv2dAlgorithm::Winograd(WinogradTile::F2),
        Conv2dAlgorithm::Winograd(WinogradTile::F4),
    ];
}

impl fmt::Display for Conv2dAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Conv2dAlgorithm::Auto => f.write_str("auto"),
            Conv2dAlgorithm::Direct => f.write_str("direct"),
            Conv2dAlgorithm::Winograd(tile) => tile.fmt(f),
        }
    }
}
