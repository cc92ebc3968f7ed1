//! Tiles that were measured: the contents of a tuning file, which take the place of a plan's own choices.
//!
//! ```json
//! {
//!   "awsnet_tuning": 1,
//!   "entries": [
//!     {"gpu": "sm_90", "multiprocessors": 132, "kernel": "conv2d_implicit_gemm", "precision": "f16",
//!      "positions": 49, "channels": 512, "reduction": 4608, "tile": "32x32", "splits": 8, "network_us": 61.4}
//!   ]
//! }
//! ```
//!
//! An entry names a GPU (architecture and multiprocessors), a kernel as `awsnet plan` shows it, the precision and the
//! shape of the problem: positions are images * height * width of the output, channels those of one branch's output,
//! and the reduction is the length of a sum with the padding that the kernel gives it; `branches` is 1 for a network of
//! one branch, and missing for one of two. Behind that stands the choice:
//! a tile as `awsnet plan` shows it and, of the tensor cores' kernels, the blocks that share a tile's reduction.
//! `network_us`, the median time of the whole network with it, is for the reader. Entries of other GPUs and shapes wait
//! for their turn; of one GPU, kernel, precision and shape there may be one.

use std::fmt::Write;

use super::select::{Problem, Tile, TiledOp, candidates};
use super::variants::Element;
use crate::error::{Error, ErrorKind, Result, quoted};
use crate::graph::target::Gpu;
use crate::model::json::{Json, Object};

const VERSION: usize = 1;

/// Tiles measured on some GPU, which take the place of those that a plan for it would choose; none by default.
///
/// `docs/tuning.md` is the format of the file that holds them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tuning {
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Entry {
    pub capability: u32,
    pub multiprocessors: usize,
    pub problem: Problem,
    pub tile: Tile,
    pub network_us: Option<f32>,
}

impl Entry {
    fn serves(&self, problem: &Problem, gpu: &Gpu) -> bool {
        let gpus = (self.capability, self.multiprocessors) == (gpu.capability, gpu.multiprocessors);
        gpus && self.problem == *problem
    }

    fn same_place(&self, other: &Entry) -> bool {
        let gpus = (self.capability, self.multiprocessors) == (other.capability, other.multiprocessors);
        gpus && self.problem == other.problem
    }

    fn parse(place: String, value: Json) -> Result<Entry> {
        let mut object = Object::new(place, value)?;
        let gpu = text(&mut object, "gpu", "an architecture, as in \"sm_90\"")?;
        let capability = gpu.strip_prefix("sm_").and_then(|digits| digits.parse().ok());
        let capability = capability
            .filter(|&capability: &u32| capability >= 80)
            .ok_or_else(|| object.error("gpu", "an architecture from \"sm_80\" on", quoted(&gpu)))?;
        let multiprocessors = object.take_integer("multiprocessors", 1, None)?;
        let kernel = text(&mut object, "kernel", "a kernel with tiles")?;
        let op = TiledOp::ALL.into_iter().find(|op| op.kernel() == kernel).ok_or_else(|| {
            let names = TiledOp::ALL.map(TiledOp::kernel).join(", ");
            object.error("kernel", format!("one of {names}"), quoted(&kernel))
        })?;
        let precision = text(&mut object, "precision", "f32, f16 or bf16")?;
        let element = Element::ALL
            .into_iter()
            .find(|element| element.name() == precision)
            .ok_or_else(|| object.error("precision", "f32, f16 or bf16", quoted(&precision)))?;
        let positions = object.take_integer("positions", 1, None)?;
        let channels = object.take_integer("channels", 1, None)?;
        let reduction = object.take_integer("reduction", 1, None)?;
        let branches = object.take_integer("branches", 1, Some(2))?;
        if branches > 2 {
            return Err(object.error("branches", "1 or 2", branches.to_string()));
        }
        let problem = Problem { op, element, branches, positions, channels, reduction };
        let tile = text(&mut object, "tile", "a tile, as in \"64x32\"")?;
        let splits = object.take_integer("splits", 1, Some(1))?;
        let tile = Tile::named(&problem, &tile, splits).map_err(|(key, expected)| {
            let found = match key {
                "tile" => quoted(&tile),
                "precision" => quoted(&precision),
                _ => splits.to_string(),
            };
            object.error(key, expected, found)
        })?;
        let network_us = object.take_f32("network_us")?;
        object.finish()?;
        Ok(Entry { capability, multiprocessors, problem, tile, network_us })
    }
}

fn text(object: &mut Object, key: &'static str, expected: &str) -> Result<String> {
    match object.take_string(key)? {
        Some(text) => Ok(text),
        None => Err(object.error(key, expected, "nothing: the key is missing")),
    }
}

impl Tuning {
    /// Reads the text of a tuning file.
    ///
    /// Errors: text that is not of the format; an entry with an unknown kernel, precision or tile, with more splits than
    /// its reduction has parts, or for what an earlier one is for.
    pub fn from_json(text: &[u8]) -> Result<Tuning> {
        Tuning::parse(text).map_err(|error| error.of_kind(ErrorKind::Input))
    }

    fn parse(text: &[u8]) -> Result<Tuning> {
        let mut object = Object::new("tuning", Json::parse("tuning", text)?)?;
        let version = object.take_integer("awsnet_tuning", 1, None)?;
        if version != VERSION {
            return Err(object.error("awsnet_tuning", VERSION.to_string(), version.to_string()));
        }
        let values = match object.require("entries", "an array of objects")? {
            Json::Array(values) => values,
            other @ (Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Object(_)) => {
                return Err(object.error("entries", "an array of objects", other.to_string()));
            }
        };
        object.finish()?;
        let mut entries = Vec::<Entry>::with_capacity(values.len());
        for (index, value) in values.into_iter().enumerate() {
            let place = format!("entry {index}");
            let entry = Entry::parse(place.clone(), value)?;
            if let Some(first) = entries.iter().position(|other| other.same_place(&entry)) {
                let expected = "one entry for each GPU, kernel, precision and shape";
                let found = format!("another for that of entry {first}");
                return Err(Error::new(ErrorKind::Input, place, expected, found));
            }
            entries.push(entry);
        }
        Ok(Tuning { entries })
    }

    /// The text of a tuning file with these entries, one a line.
    pub fn to_json(&self) -> String {
        let mut out = format!("{{\"awsnet_tuning\": {VERSION}, \"entries\": [");
        for (index, entry) in self.entries.iter().enumerate() {
            let Entry { capability, multiprocessors, problem, tile, network_us } = entry;
            let Problem { op, element, branches, positions, channels, reduction } = problem;
            out += if index == 0 { "\n  " } else { ",\n  " };
            let _ = write!(
                out,
                "{{\"gpu\": \"sm_{capability}\", \"multiprocessors\": {multiprocessors}, \"kernel\": \"{}\", \
                 \"precision\": \"{}\", \"positions\": {positions}, \"channels\": {channels}, \"reduction\": \
                 {reduction}, \"tile\": \"{}\", \"splits\": {}",
                op.kernel(),
                element.name(),
                tile.name(),
                tile.splits()
            );
            if *branches != 2 {
                let _ = write!(out, ", \"branches\": {branches}");
            }
            if let Some(us) = network_us {
                let _ = write!(out, ", \"network_us\": {us}");
            }
            out.push('}');
        }
        out + "\n]}\n"
    }

    /// Adds the entries of `newer`, which replace those for the same.
    pub fn merge(&mut self, newer: Tuning) {
        for entry in newer.entries {
            match self.entries.iter_mut().find(|old| old.same_place(&entry)) {
                Some(old) => *old = entry,
                None => self.entries.push(entry),
            }
        }
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// The tile that a plan takes: the measured one, or the first candidate; none where the GPU has room for none.
    ///
    /// Errors: a measured tile that the GPU has no room for.
    pub(super) fn choose(&self, problem: &Problem, gpu: &Gpu) -> Result<Option<Tile>> {
        Ok(match self.tile(problem, gpu)? {
            Some(tile) => Some(tile),
            None => candidates(problem, gpu).first().copied(),
        })
    }

    /// The tile for a problem on a GPU, where there is one.
    fn tile(&self, problem: &Problem, gpu: &Gpu) -> Result<Option<Tile>> {
        let Some(index) = self.entries.iter().position(|entry| entry.serves(problem, gpu)) else {
            return Ok(None);
        };
        let tile = self.entries[index].tile;
        if tile.shared_bytes(problem.branches) > gpu.shared_bytes {
            let place = format!("tuning: entry {index}: `tile`");
            let expected = format!("a tile within {} bytes of shared memory a block", gpu.shared_bytes);
            let found = format!("{} of {} bytes", tile.name(), tile.shared_bytes(problem.branches));
            return Err(Error::new(ErrorKind::Input, place, expected, found));
        }
        Ok(Some(tile.tuned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = r#"{"gpu": "sm_90", "multiprocessors": 132, "kernel": "conv2d_implicit_gemm",
        "precision": "f16", "positions": 49, "channels": 512, "reduction": 4608, "tile": "32x32", "splits": 8,
        "network_us": 61.5}"#;

    fn file(entries: &str) -> String {
        format!(r#"{{"awsnet_tuning": 1, "entries": [{entries}]}}"#)
    }

    fn error(text: &str) -> String {
        let error = Tuning::from_json(text.as_bytes()).expect_err("an invalid file");
        assert_eq!(error.kind(), ErrorKind::Input);
        error.to_string()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let direct = r#"{"gpu": "sm_80", "multiprocessors": 108, "kernel": "conv2d_direct", "precision": "f32",
            "positions": 1, "channels": 3, "reduction": 27, "tile": "4x8"}"#;
        // Of one branch it is another problem.
        let alone = ENTRY.replace("\"splits\"", "\"branches\": 1, \"splits\"");
        let text = file(&format!("{ENTRY}, {direct}, {alone}"));
        let tuning = Tuning::from_json(text.as_bytes()).expect("a tuning");
        assert_eq!(tuning.len(), 3);
        assert_eq!(Tuning::from_json(tuning.to_json().as_bytes()).expect("its own text"), tuning);
        let empty = Tuning::default();
        assert_eq!(Tuning::from_json(empty.to_json().as_bytes()).expect("its own text"), empty);
    }

    #[test]
    fn an_invalid_entry_is_named_with_what_was_expected_and_found() {
        let changed = |from: &str, to: &str| {
            assert!(ENTRY.contains(from), "{from}");
            file(&ENTRY.replace(from, to))
        };
        for (text, expected) in [
            ("[]".to_owned(), "tuning: expected a JSON object, found []"),
            (file("3"), "entry 0: expected a JSON object, found 3"),
            (file("").replace('1', "2"), "tuning: `awsnet_tuning`: expected 1, found 2"),
            (
                changed("sm_90", "sm_75"),
                "entry 0: `gpu`: expected an architecture from \"sm_80\" on, found `sm_75`",
            ),
            (
                changed("132", "0"),
                "entry 0: `multiprocessors`: expected an integer from 1 to 4294967295, found 0",
            ),
            (
                changed("conv2d_implicit_gemm", "winograd"),
                "entry 0: `kernel`: expected one of conv2d_implicit_gemm, conv2d_direct, aws_unit_dense, found \
                 `winograd`",
            ),
            (changed("f16", "f8"), "entry 0: `precision`: expected f32, f16 or bf16, found `f8`"),
            (
                changed("32x32", "32x31"),
                "entry 0: `tile`: expected 128x64, 64x64, 64x32, 32x32 or 16x64, found `32x31`",
            ),
            (
                changed("f16", "f32"),
                "entry 0: `precision`: expected f16 or bf16, which the kernel has tiles in, found `f32`",
            ),
            (
                changed("\"splits\": 8", "\"splits\": 17"),
                "entry 0: `splits`: expected from 1 to 16 blocks, each with a part of a reduction of 72 parts, found 17",
            ),
            (
                changed("4608", "128"),
                "entry 0: `splits`: expected from 1 to 2 blocks, each with a part of a reduction of 2 parts, found 8",
            ),
            (
                changed("\"splits\"", "\"branches\": 3, \"splits\""),
                "entry 0: `branches`: expected 1 or 2, found 3",
            ),
            (
                changed("splits", "split"),
                "entry 0: expected the keys gpu, multiprocessors, kernel, precision, \
                 positions, channels, reduction, branches, tile, splits, network_us, found the unknown key `split`",
            ),
            (
                file(&format!("{ENTRY}, {ENTRY}")),
                "entry 1: expected one entry for each GPU, kernel, precision and shape, found another for that of \
                 entry 0",
            ),
        ] {
            assert_eq!(error(&text), expected);
        }
        assert!(error("{").contains("valid JSON"));
    }

    #[test]
    fn a_newer_entry_replaces_the_one_for_the_same_problem() {
        let mut tuning = Tuning::from_json(file(ENTRY).as_bytes()).expect("a tuning");
        let newer = file(&ENTRY.replace("32x32", "16x64"));
        tuning.merge(Tuning::from_json(newer.as_bytes()).expect("a tuning"));
        let other = file(&ENTRY.replace("132", "114"));
        tuning.merge(Tuning::from_json(other.as_bytes()).expect("a tuning"));
        assert_eq!(tuning.len(), 2);
        assert!(tuning.to_json().contains("16x64"));
    }

    const F16: Problem = Problem {
        op: TiledOp::ImplicitGemm,
        element: Element::F16,
        branches: 2,
        positions: 100,
        channels: 64,
        reduction: 576,
    };

    #[test]
    fn a_tuning_decides_for_its_gpu_and_its_problem_only() {
        let gpu = Gpu::typical(86).expect("a known GPU");
        let last = *candidates(&F16, &gpu).last().expect("a candidate");
        let mut tuning = Tuning::default();
        let (capability, multiprocessors) = (gpu.capability, gpu.multiprocessors);
        let entry = Entry { capability, multiprocessors, problem: F16, tile: last, network_us: None };
        tuning.push(entry);
        assert_eq!(tuning.choose(&F16, &gpu).expect("a tile"), Some(last.tuned()));
        let other_shape = Problem { positions: 99, ..F16 };
        let other_gpu = Gpu { multiprocessors: multiprocessors + 1, ..gpu };
        for (problem, gpu) in [(&other_shape, &gpu), (&F16, &other_gpu)] {
            assert_eq!(
                tuning.choose(problem, gpu).expect("a tile"),
                candidates(problem, gpu).first().copied()
            );
        }
        let error = tuning.choose(&F16, &Gpu { shared_bytes: 1024, ..gpu }).expect_err("no room");
        assert!(error.place().contains("entry 0") && error.expected().contains("1024"), "{error}");
    }
}
