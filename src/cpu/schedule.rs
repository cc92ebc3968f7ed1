//! How the nodes of a plan are cut for so many threads and images, and the functions that compute the pieces: made with
//! a session, so that a run chooses and looks up nothing. A run of another number of images is cut anew, in place.

use std::collections::BTreeSet;

use super::kernels::block_task::BlockTask;
use super::kernels::compiled::{ProductsFn, ProductsKernel, Tables, TileFn, TileKernel};
use super::plan::CpuPlan;
use super::plan::conv2d_direct::ConvKernel;
use super::plan::conv2d_max_pool::Bands;
use super::plan::conv2d_winograd::{Cut, GROUP_BLOCKS, product_columns};
use super::plan::node::{CpuNode, Kernel};
use super::plan::tile::{BLOCKS, COLUMNS, ROWS, Tile};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::target::Isa;

/// The nodes of a plan, cut.
pub(super) struct Schedule {
    threads: usize,
    /// That the cuts are for.
    images: usize,
    nodes: Vec<NodeSchedule>,
}

/// A node, cut. Whatever its kernel does not need is empty.
#[derive(Default)]
pub(super) struct NodeSchedule {
    /// How many tasks there are; they write disjoint parts of the output.
    pub tasks: usize,
    /// The direct convolution's functions in each branch that it computes.
    pub tiles: Vec<TileFns>,
    pub bands: Bands,
    pub cut: Cut,
    pub products: ProductFns,
}

/// The functions of the tiles that a convolution uses, by blocks, rows and columns.
pub(super) struct TileFns(Box<[[[TileFn; COLUMNS[0] + 1]; ROWS.len()]; BLOCKS.len()]>);

impl TileFns {
    #[inline]
    pub fn of(&self, rows: usize, columns: usize, blocks: usize) -> TileFn {
        self.0[blocks - 1][row_index(rows)][columns]
    }
}

/// Where a tile's rows, 1, 2 or 4, stand.
#[inline]
fn row_index(rows: usize) -> usize {
    rows.ilog2() as usize
}

/// The functions of Winograd's products, by blocks and columns.
pub(super) struct ProductFns([[ProductsFn; COLUMNS[0] + 1]; GROUP_BLOCKS]);

impl ProductFns {
    #[inline]
    pub fn of(&self, columns: usize, blocks: usize) -> ProductsFn {
        self.0[blocks - 1][columns]
    }
}

impl Default for ProductFns {
    fn default() -> Self {
        ProductFns([[|_| unscheduled(); COLUMNS[0] + 1]; GROUP_BLOCKS])
    }
}

/// Stands where a schedule has no function; the run fails, and does not go on.
fn unscheduled() {
    panic!("a tile that is not in the schedule");
}

impl Schedule {
    /// Cuts a plan for runs of as many images as go together.
    ///
    /// Errors: a tile that is not compiled for the plan's instruction set.
    pub fn new(plan: &CpuPlan, tables: &Tables, threads: usize) -> Result<Schedule> {
        let functions = |node: &CpuNode| -> Result<NodeSchedule> {
            let mut schedule = NodeSchedule::default();
            match &node.kernel {
                Kernel::Conv2d(conv) => schedule.tiles = tiles(conv, tables)?,
                Kernel::ConvMaxPool(both) => schedule.tiles = tiles(&both.conv, tables)?,
                Kernel::Winograd(_) => schedule.products = products(tables)?,
                Kernel::Depthwise(_)
                | Kernel::MaxPool2d(_)
                | Kernel::AvgPool2d(_)
                | Kernel::AdaptiveAvgPool2d(_)
                | Kernel::GlobalAvgPool2d
                | Kernel::Concat(_)
                | Kernel::Upsample2d(_)
                | Kernel::Identity
                | Kernel::AwsGate { .. }
                | Kernel::ImageToBlocks => {}
            }
            Ok(schedule)
        };
        let nodes = plan.nodes.iter().map(functions).collect::<Result<_>>()?;
        let mut schedule = Schedule { threads, images: 0, nodes };
        schedule.cut(plan, plan.pass);
        Ok(schedule)
    }

    /// Cuts the plan, from which the schedule was made, for so many images, if that is not so already.
    pub fn cut(&mut self, plan: &CpuPlan, images: usize) {
        if self.images == images {
            return;
        }
        self.images = images;
        for (node, schedule) in plan.nodes.iter().zip(&mut self.nodes) {
            let output = &plan.values[node.output];
            schedule.tasks = match &node.kernel {
                Kernel::Conv2d(conv) => conv.tasks(images),
                Kernel::ConvMaxPool(both) => {
                    schedule.bands = both.bands(output, images, self.threads);
                    both.conv.groups.len() * images * schedule.bands.count
                }
                Kernel::Winograd(winograd) => {
                    schedule.cut = winograd.cut(images, self.threads);
                    schedule.cut.parts[0] * schedule.cut.parts[1]
                }
                Kernel::Depthwise(_)
                | Kernel::MaxPool2d(_)
                | Kernel::AvgPool2d(_)
                | Kernel::AdaptiveAvgPool2d(_)
                | Kernel::GlobalAvgPool2d
                | Kernel::Concat(_)
                | Kernel::Upsample2d(_)
                | Kernel::Identity
                | Kernel::AwsGate { .. }
                | Kernel::ImageToBlocks => BlockTask::count(output, images),
            };
        }
    }

    /// The nodes, as those of the plan.
    pub fn nodes(&self) -> &[NodeSchedule] {
        &self.nodes
    }
}

fn not_compiled(isa: Isa, what: String) -> Error {
    Error::new(ErrorKind::Internal, "plan", format!("tiles that are compiled for {isa}"), what)
}

/// The functions of every tile that a convolution uses, of the pixel step's own where there are such.
fn tiles(conv: &ConvKernel, tables: &Tables) -> Result<Vec<TileFns>> {
    let step = conv.pixel_step();
    // A wide row has thousands of tiles, of a few widths.
    let widths: BTreeSet<usize> = conv.tiling.columns.iter().copied().collect();
    let blocks: BTreeSet<usize> = conv.groups.iter().map(|group| group.blocks).collect();
    let mut of_branches = Vec::with_capacity(conv.branches.len());
    for branch in &conv.branches {
        let find = |tile: Tile| {
            let all =
                || tables.tiles().filter(|kernel| kernel.tile == tile && kernel.weights == branch.weights);
            let kernel: Option<&TileKernel> = all()
                .find(|kernel| kernel.step == Some(step))
                .or_else(|| all().find(|kernel| kernel.step.is_none()));
            kernel
                .map(|kernel| kernel.run)
                .ok_or_else(|| not_compiled(tables.isa, format!("{tile} for {}", branch.weights)))
        };
        let nothing: TileFn = |_| unscheduled();
        let mut functions = TileFns(Box::new([[[nothing; COLUMNS[0] + 1]; ROWS.len()]; BLOCKS.len()]));
        let rows = ROWS.into_iter().filter(|&rows| rows <= conv.tiling.tile.rows);
        for rows in rows {
            for &columns in &widths {
                for &blocks in &blocks {
                    let tile = Tile { rows, columns, blocks };
                    functions.0[blocks - 1][row_index(rows)][columns] = find(tile)?;
                }
            }
        }
        of_branches.push(functions);
    }
    Ok(of_branches)
}

/// The functions of all products that fit the registers.
fn products(tables: &Tables) -> Result<ProductFns> {
    let mut functions = ProductFns::default();
    for blocks in 1..=GROUP_BLOCKS {
        for columns in 1..=product_columns(tables.isa, blocks) {
            let wanted = |kernel: &&ProductsKernel| (kernel.columns, kernel.blocks) == (columns, blocks);
            let kernel = tables.products().find(wanted);
            let missing = || not_compiled(tables.isa, format!("products of {columns}x{blocks}"));
            functions.0[blocks - 1][columns] = kernel.ok_or_else(missing)?.run;
        }
    }
    Ok(functions)
}
