//! From a node and the number of a task to the kernel that computes it, for each instruction set.
//!
//! A node's work is cut into tasks that write disjoint parts of its output, so that any thread may take any of
//! them in any order, and the bits come out the same.

use super::compiled::{Compiled, Tables};
use super::pool2d::Windows;
use super::{
    aws_gate, concat, conv2d_depthwise, conv2d_direct, conv2d_max_pool, conv2d_winograd, identity,
    image_to_blocks, pool2d, upsample2d,
};
use crate::cpu::plan::node::{CpuNode, Kernel};
use crate::cpu::run::Run;
use crate::cpu::schedule::NodeSchedule;
use crate::graph::target::Isa;

/// What is compiled for an instruction set.
pub(in crate::cpu) struct Kernels {
    pub tables: Tables,
    /// Computes one task of a node.
    ///
    /// Safety: the processor has the instruction set; the run's plan was made for it and holds the node; the schedule is
    /// that node's, for the run's images; the nodes before it are done; each of its tasks is computed once; the scratch is
    /// as long as the plan says.
    pub run_task: unsafe fn(&Run, &CpuNode, &NodeSchedule, usize, &mut [f32]),
}

/// The kernels of an instruction set; none where this build is for another kind of processor.
pub(in crate::cpu) fn kernels(isa: Isa) -> Option<&'static Kernels> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => Some(&avx512::KERNELS),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => Some(&avx2::KERNELS),
        #[cfg(not(target_arch = "x86_64"))]
        Isa::Avx512 | Isa::Avx2 => None,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => Some(&neon::KERNELS),
        #[cfg(not(target_arch = "aarch64"))]
        Isa::Neon => None,
        Isa::Portable => Some(&portable::KERNELS),
    }
}

/// Computes one task with the vectors of `S`.
///
/// # Safety
///
/// As for [`Kernels::run_task`].
#[inline(always)]
unsafe fn run_task<S: Compiled>(
    run: &Run,
    node: &CpuNode,
    schedule: &NodeSchedule,
    task: usize,
    scratch: &mut [f32],
) {
    // SAFETY: the caller's promise.
    unsafe {
        match &node.kernel {
            Kernel::Conv2d(conv) => conv2d_direct::run_task::<S>(run, node, schedule, conv, task),
            Kernel::ConvMaxPool(both) => {
                conv2d_max_pool::run_task::<S>(run, node, schedule, both, task, scratch);
            }
            Kernel::Winograd(winograd) => {
                conv2d_winograd::run_task::<S>(run, node, schedule, winograd, task, scratch);
            }
            Kernel::AwsGate { gate, logits } => aws_gate::run_task::<S>(run, node, *gate, *logits, task),
            Kernel::Concat(kernel) => concat::run_task::<S>(run, node, kernel, task),
            Kernel::ImageToBlocks => image_to_blocks::run_task(run, node, task),
            Kernel::Depthwise(_)
            | Kernel::MaxPool2d(_)
            | Kernel::AvgPool2d(_)
            | Kernel::AdaptiveAvgPool2d(_)
            | Kernel::GlobalAvgPool2d
            | Kernel::Upsample2d(_)
            | Kernel::Identity => match run.plan.values[node.output].branches {
                1 => run_block_task::<S, 1>(run, node, task),
                _ => run_block_task::<S, 2>(run, node, task),
            },
        }
    }
}

/// Computes one task of a kernel that has a block of channels of all `B` branches in registers at once.
///
/// # Safety
///
/// As for [`Kernels::run_task`].
#[inline(always)]
unsafe fn run_block_task<S: Compiled, const B: usize>(run: &Run, node: &CpuNode, task: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        match &node.kernel {
            Kernel::Depthwise(depthwise) => conv2d_depthwise::run_task::<S, B>(run, node, depthwise, task),
            Kernel::MaxPool2d(pool) => pool2d::run_max_task::<S, B>(run, node, pool, task),
            Kernel::AvgPool2d(pool) => pool2d::run_avg_task::<S, B>(run, node, &Windows::Pool(pool), task),
            Kernel::AdaptiveAvgPool2d(output) => {
                pool2d::run_avg_task::<S, B>(run, node, &Windows::Adaptive(*output), task);
            }
            Kernel::GlobalAvgPool2d => {
                pool2d::run_avg_task::<S, B>(run, node, &Windows::Adaptive([1, 1]), task);
            }
            Kernel::Upsample2d(factor) => upsample2d::run_task::<S, B>(run, node, *factor, task),
            Kernel::Identity => identity::run_task::<S, B>(run, node, task),
            Kernel::Conv2d(_)
            | Kernel::ConvMaxPool(_)
            | Kernel::Winograd(_)
            | Kernel::AwsGate { .. }
            | Kernel::Concat(_)
            | Kernel::ImageToBlocks => unreachable!("a kernel of one branch at a time"),
        }
    }
}

/// Compiles the kernels for an instruction set, with the attribute that its intrinsics need.
macro_rules! compile {
    ($module:ident, $simd:ident, $(#[$features:meta])?) => {
        mod $module {
            use crate::cpu::kernels::compiled::{
                Compiled, ConvTile, Products, ProductsKernel, Tables, TileKernel, is_compiled,
            };
            use crate::cpu::kernels::conv2d_direct::{self, BF16, F16, F32, Stored};
            use crate::cpu::kernels::dispatch::Kernels;
            use crate::cpu::kernels::epilogue::{self, TileSink};
            use crate::cpu::kernels::conv2d_winograd;
            use crate::cpu::plan::node::CpuNode;
            use crate::cpu::plan::tile::{Tile, exists};
            use crate::cpu::run::Run;
            use crate::cpu::schedule::NodeSchedule;
            use crate::cpu::simd::{Simd, $module::$simd};

            const LANES: usize = $simd::LANES;

            pub(super) static KERNELS: Kernels = Kernels {
                tables: Tables { isa: $simd::ISA, tiles: TILES, products: PRODUCTS },
                run_task,
            };

            static TILES: &[&[Option<TileKernel>]] = tiles!($simd:
                1 x 14 x 1, 1 x 7 x 1, 1 x 6 x 1, 1 x 5 x 1, 1 x 4 x 1, 1 x 3 x 1, 1 x 2 x 1, 1 x 1 x 1,
                2 x 14 x 1, 2 x 7 x 1, 2 x 6 x 1, 2 x 5 x 1, 2 x 4 x 1, 2 x 3 x 1, 2 x 2 x 1, 2 x 1 x 1,
                4 x 14 x 1, 4 x 7 x 1, 4 x 6 x 1, 4 x 5 x 1, 4 x 4 x 1, 4 x 3 x 1, 4 x 2 x 1, 4 x 1 x 1,
                1 x 14 x 2, 1 x 7 x 2, 1 x 6 x 2, 1 x 5 x 2, 1 x 4 x 2, 1 x 3 x 2, 1 x 2 x 2, 1 x 1 x 2,
                2 x 14 x 2, 2 x 7 x 2, 2 x 6 x 2, 2 x 5 x 2, 2 x 4 x 2, 2 x 3 x 2, 2 x 2 x 2, 2 x 1 x 2,
                4 x 14 x 2, 4 x 7 x 2, 4 x 6 x 2, 4 x 5 x 2, 4 x 4 x 2, 4 x 3 x 2, 4 x 2 x 2, 4 x 1 x 2
            );

            static PRODUCTS: &[Option<ProductsKernel>] = products!($simd:
                1 x 1, 2 x 1, 3 x 1, 4 x 1, 5 x 1, 6 x 1, 7 x 1, 8 x 1, 9 x 1, 10 x 1, 11 x 1, 12 x 1, 13 x 1, 14 x 1,
                1 x 2, 2 x 2, 3 x 2, 4 x 2, 5 x 2, 6 x 2, 7 x 2, 8 x 2, 9 x 2, 10 x 2, 11 x 2, 12 x 2, 13 x 2, 14 x 2
            );

            $(#[$features])?
            unsafe fn run_task(
                run: &Run,
                node: &CpuNode,
                schedule: &NodeSchedule,
                task: usize,
                scratch: &mut [f32],
            ) {
                // SAFETY: the caller's promise.
                unsafe { super::run_task::<$simd>(run, node, schedule, task, scratch) }
            }

            $(#[$features])?
            unsafe fn conv_tile<
                W: Stored,
                const ROWS: usize,
                const COLUMNS: usize,
                const BLOCKS: usize,
                const STEP: usize,
            >(
                tile: &ConvTile,
            ) {
                // SAFETY: the caller's promise.
                unsafe { conv2d_direct::tile::<$simd, W, ROWS, COLUMNS, BLOCKS, STEP>(tile) }
            }

            $(#[$features])?
            unsafe fn winograd_products<const COLUMNS: usize, const BLOCKS: usize>(products: &Products) {
                // SAFETY: the caller's promise.
                unsafe { conv2d_winograd::products::<$simd, COLUMNS, BLOCKS>(products) }
            }

            $(#[$features])?
            unsafe fn finish_tile(sink: &TileSink, sums: *const f32, sizes: [usize; 3]) {
                // SAFETY: the caller's promise.
                unsafe { epilogue::finish_tile::<$simd>(sink, sums, sizes) }
            }

            impl Compiled for $simd {
                #[inline(always)]
                unsafe fn finish_tile(sink: &TileSink, sums: *const f32, sizes: [usize; 3]) {
                    // SAFETY: the caller's promise, and the instruction set is that of the caller's own code.
                    unsafe { finish_tile(sink, sums, sizes) }
                }
            }
        }
    };
}

/// The table of tiles, a row a tile, in it an entry for each type of weights and pixel step, 0 being any; what is not
/// [compiled](is_compiled) is empty, and no function is made for it.
macro_rules! tiles {
    ($simd:ident: $($rows:literal x $columns:literal x $blocks:literal),*) => {
        &[$(tiles!(@row $simd, $rows, $columns, $blocks:
            F32 0, F32 1, F32 2, F32 LANES, F32 (2 * LANES), F16 0, F16 LANES, BF16 0, BF16 LANES)),*]
    };
    (@row $simd:ident, $rows:literal, $columns:literal, $blocks:literal: $($weights:ident $step:tt),*) => {
        &[$(tiles!(@entry $simd, $rows, $columns, $blocks, $weights, $step)),*]
    };
    (@entry $simd:ident, $rows:literal, $columns:literal, $blocks:literal, $weights:ident, $step:tt) => {{
        let tile = Tile { rows: $rows, columns: $columns, blocks: $blocks };
        match is_compiled($simd::ISA, tile, $weights::DTYPE, $step) {
            true => Some(TileKernel {
                name: concat!($rows, "x", $columns, "x", $blocks, " ", stringify!($weights), " step ", stringify!($step)),
                tile,
                weights: $weights::DTYPE,
                step: if $step == 0 { None } else { Some($step) },
                run: conv_tile::<$weights, $rows, $columns, $blocks, { $step }>,
            }),
            false => None,
        }
    }};
}

/// The table of products, an entry for so many tiles and blocks of channels; those that do not fit the registers are
/// empty.
macro_rules! products {
    ($simd:ident: $($columns:literal x $blocks:literal),*) => {
        &[$(match exists($simd::ISA, Tile { rows: 1, columns: $columns, blocks: $blocks }) {
            true => Some(ProductsKernel {
                name: concat!($columns, "x", $blocks),
                columns: $columns,
                blocks: $blocks,
                run: winograd_products::<$columns, $blocks>,
            }),
            false => None,
        }),*]
    };
}

#[cfg(target_arch = "x86_64")]
compile!(avx512, Avx512, #[target_feature(enable = "avx512f")]);
#[cfg(target_arch = "x86_64")]
compile!(avx2, Avx2, #[target_feature(enable = "avx2,fma,f16c")]);
#[cfg(target_arch = "aarch64")]
compile!(neon, Neon,);
compile!(portable, Portable,);
