//! From a node and the number of a task to the kernel that computes it.
//!
//! A node's work is cut into tasks that write disjoint parts of its output, so that any thread may take any of
//! them in any order, and the bits come out the same.

use super::run::Run;
use super::simd::Simd;
use super::{
    aws_gate, conv2d_depthwise, conv2d_direct, conv2d_max_pool, conv2d_winograd, epilogue, identity,
    image_to_blocks, pool2d,
};
use crate::plan::{CpuNode, Kernel};
use crate::tensor::DType;

/// What an instruction set's file offers.
pub(super) struct Kernels {
    /// Computes one task of a node.
    ///
    /// Safety: the processor has the instruction set; the run's plan was made for it and holds the node; the nodes
    /// before it are done; each task below [`task_count`] is computed once; the scratch is as long as the plan says.
    pub run_task: unsafe fn(&Run, &CpuNode, usize, &mut [f32]),
}

/// An instruction set with its convolution tiles compiled.
pub(super) trait Compiled: Simd {
    /// The tile kernel for weights of this type and these sizes, where the table of tiles has them; see [`conv2d_direct`].
    fn conv_tile(
        weights: DType,
        rows: usize,
        columns: usize,
        blocks: usize,
        pixel_step: usize,
    ) -> Option<conv2d_direct::TileFn>;

    /// The kernel that sums products of Winograd's algorithm: so many of its tiles, and blocks of channels.
    fn products(columns: usize, blocks: usize) -> Option<conv2d_winograd::ProductsFn>;

    /// [`epilogue::finish_tile`], compiled once.
    unsafe fn finish_tile(sink: &epilogue::TileSink, sums: *const f32, sizes: [usize; 3]);
}

/// How many tasks a node has in a run.
pub(super) fn task_count(run: &Run, node: &CpuNode) -> usize {
    let (output, images) = (&run.plan.values[node.output], run.images);
    match &node.kernel {
        Kernel::Conv2d(conv) => conv2d_direct::task_count(conv, images),
        Kernel::ConvMaxPool(both) => conv2d_max_pool::task_count(run, node, both),
        Kernel::Winograd(winograd) => conv2d_winograd::task_count(run, winograd),
        Kernel::Depthwise(_) => conv2d_depthwise::task_count(output, images),
        Kernel::MaxPool2d(_) | Kernel::AvgPool2d(_) | Kernel::GlobalAvgPool2d => {
            pool2d::task_count(output, images)
        }
        Kernel::Identity => identity::task_count(output, images),
        Kernel::AwsGate { .. } => aws_gate::task_count(output, images),
        Kernel::ImageToBlocks => image_to_blocks::task_count(output, images),
    }
}

/// Computes one task with the vectors of `S`.
///
/// # Safety
///
/// As for [`Kernels::run_task`].
#[inline(always)]
pub(super) unsafe fn run_task<S: Compiled>(run: &Run, node: &CpuNode, task: usize, scratch: &mut [f32]) {
    unsafe {
        match &node.kernel {
            Kernel::Conv2d(conv) => conv2d_direct::run_task::<S>(run, node, conv, task),
            Kernel::ConvMaxPool(both) => conv2d_max_pool::run_task::<S>(run, node, both, task, scratch),
            Kernel::Winograd(winograd) => conv2d_winograd::run_task::<S>(run, node, winograd, task, scratch),
            Kernel::Depthwise(depthwise) => conv2d_depthwise::run_task::<S>(run, node, depthwise, task),
            Kernel::MaxPool2d(pool) => pool2d::run_max_task::<S>(run, node, pool, task),
            Kernel::AvgPool2d(pool) => pool2d::run_avg_task::<S>(run, node, pool, task),
            Kernel::GlobalAvgPool2d => pool2d::run_global_avg_task::<S>(run, node, task),
            Kernel::Identity => identity::run_task::<S>(run, node, task),
            Kernel::AwsGate { gate, logits } => aws_gate::run_task::<S>(run, node, *gate, *logits, task),
            Kernel::ImageToBlocks => image_to_blocks::run_task(run, node, task),
        }
    }
}

/// Compiles the kernels for an instruction set, with the attribute that its intrinsics need.
macro_rules! entry_points {
    ($isa:expr, $simd:ty, $(#[$features:meta])?) => {
        pub(in crate::cpu) static KERNELS: $crate::cpu::kernels::Kernels = $crate::cpu::kernels::Kernels { run_task };

        $(#[$features])?
        unsafe fn run_task(
            run: &$crate::cpu::run::Run,
            node: &$crate::plan::CpuNode,
            task: usize,
            scratch: &mut [f32],
        ) {
            unsafe { $crate::cpu::kernels::run_task::<$simd>(run, node, task, scratch) }
        }

        $(#[$features])?
        unsafe fn conv_tile<
            W: $crate::cpu::conv2d_direct::Stored,
            const ROWS: usize,
            const COLUMNS: usize,
            const BLOCKS: usize,
            const STEP: usize,
        >(
            tile: &$crate::cpu::conv2d_direct::ConvTile,
        ) {
            unsafe { $crate::cpu::conv2d_direct::tile::<$simd, W, ROWS, COLUMNS, BLOCKS, STEP>(tile) }
        }

        $(#[$features])?
        unsafe fn products<const COLUMNS: usize, const BLOCKS: usize>(
            products: &$crate::cpu::conv2d_winograd::Products,
        ) {
            unsafe { $crate::cpu::conv2d_winograd::products::<$simd, COLUMNS, BLOCKS>(products) }
        }

        $(#[$features])?
        unsafe fn finish_tile(sink: &$crate::cpu::epilogue::TileSink, sums: *const f32, sizes: [usize; 3]) {
            unsafe { $crate::cpu::epilogue::finish_tile::<$simd>(sink, sums, sizes) }
        }

        impl $crate::cpu::kernels::Compiled for $simd {
            #[inline(always)]
            unsafe fn finish_tile(sink: &$crate::cpu::epilogue::TileSink, sums: *const f32, sizes: [usize; 3]) {
                unsafe { finish_tile(sink, sums, sizes) }
            }

            fn products(columns: usize, blocks: usize) -> Option<$crate::cpu::conv2d_winograd::ProductsFn> {
                $crate::cpu::kernels::products_table!($isa, columns, blocks, 1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
                $crate::cpu::kernels::products_table!($isa, columns, blocks, 2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
                None
            }

            fn conv_tile(
                weights: $crate::tensor::DType,
                rows: usize,
                columns: usize,
                blocks: usize,
                pixel_step: usize,
            ) -> Option<$crate::cpu::conv2d_direct::TileFn> {
                const LANES: usize = <$simd as $crate::cpu::simd::Simd>::LANES;
                let wanted = (weights, rows, columns, blocks, pixel_step);
                $crate::cpu::kernels::tile_table!($isa, LANES, wanted, 1, 1: 14 7 6 5 4 3 2 1);
                $crate::cpu::kernels::tile_table!($isa, LANES, wanted, 2, 1: 14 7 6 5 4 3 2 1);
                $crate::cpu::kernels::tile_table!($isa, LANES, wanted, 4, 1: 14 7 6 5 4 3 2 1);
                $crate::cpu::kernels::tile_table!($isa, LANES, wanted, 1, 2: 14 7 6 5 4 3 2 1);
                $crate::cpu::kernels::tile_table!($isa, LANES, wanted, 2, 2: 14 7 6 5 4 3 2 1);
                $crate::cpu::kernels::tile_table!($isa, LANES, wanted, 4, 2: 14 7 6 5 4 3 2 1);
                None
            }
        }
    };
}
pub(super) use entry_points;

/// Returns the tile of so many rows and blocks whose columns are wanted, if it is in the table of tiles; those that
/// are not are not compiled.
macro_rules! tile_table {
    ($isa:expr, $lanes:ident, $wanted:ident, $r:literal, $n:literal: $($c:literal)*) => {
        $(if const {
            let tile = $crate::plan::tile::Tile { rows: $r, columns: $c, blocks: $n };
            $crate::plan::tile::exists($isa, tile)
        } {
            use $crate::cpu::conv2d_direct::{BF16, F16, F32};
            use $crate::tensor::DType;
            let (weights, rows, columns, blocks, pixel_step) = $wanted;
            if (rows, columns, blocks) == ($r, $c, $n) {
                return match (weights, pixel_step) {
                    (DType::F16, $lanes) => Some(conv_tile::<F16, $r, $c, $n, $lanes>),
                    (DType::F16, _) => Some(conv_tile::<F16, $r, $c, $n, 0>),
                    (DType::BF16, $lanes) => Some(conv_tile::<BF16, $r, $c, $n, $lanes>),
                    (DType::BF16, _) => Some(conv_tile::<BF16, $r, $c, $n, 0>),
                    (DType::F32, 1) => Some(conv_tile::<F32, $r, $c, $n, 1>),
                    (DType::F32, 2) => Some(conv_tile::<F32, $r, $c, $n, 2>),
                    (DType::F32, $lanes) => Some(conv_tile::<F32, $r, $c, $n, $lanes>),
                    (DType::F32, step) if step == 2 * $lanes => {
                        Some(conv_tile::<F32, $r, $c, $n, { 2 * $lanes }>)
                    }
                    (DType::F32, _) => Some(conv_tile::<F32, $r, $c, $n, 0>),
                };
            }
        })*
    };
}
pub(super) use tile_table;

/// Returns the products of so many blocks whose columns are wanted, if they fit the registers.
macro_rules! products_table {
    ($isa:expr, $columns:ident, $blocks:ident, $n:literal: $($c:literal)*) => {
        $(if const {
            let tile = $crate::plan::tile::Tile { rows: 1, columns: $c, blocks: $n };
            $crate::plan::tile::exists($isa, tile)
        } && ($columns, $blocks) == ($c, $n) {
            return Some(products::<$c, $n>);
        })*
    };
}
pub(super) use products_table;
