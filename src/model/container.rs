//! The safetensors container: a header that says which tensor lies where, checked before anything is believed.
//!
//! Layout: 8 bytes, the header's length N, little-endian; N bytes of JSON; the tensors' bytes without gaps.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use safetensors::Dtype;
use serde::Deserialize;
use serde::de::IntoDeserializer;

use super::foreign;
use super::json::{Json, Object, as_string};
use crate::error::{Error, ErrorKind, Result, quoted};
use crate::tensor::{DType, Tensor};

/// The longest header that is read: 300 bytes for each of 50 000 tensors.
const MAX_HEADER_BYTES: u64 = 16 << 20;

/// Where a tensor lies and what it is.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub dims: Vec<usize>,
    dtype: Dtype,
    len: usize,
    /// First byte and the one behind the last, counted from the end of the header.
    range: (u64, u64),
    claimed: Option<Claimed>,
}

/// The handle of a tensor that was claimed, by which [`Tensors`] finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Claimed(usize);

/// The tensors that were claimed, with their names.
pub(crate) struct Tensors(HashMap<Claimed, (String, Arc<Tensor>)>);

impl Tensors {
    fn named(&self, claimed: Claimed) -> Result<&(String, Arc<Tensor>)> {
        let expected = "the handle of a tensor of this file";
        self.0.get(&claimed).ok_or_else(|| Error::new(ErrorKind::Internal, "", expected, "another"))
    }

    pub(crate) fn get(&self, claimed: Claimed) -> Result<&Arc<Tensor>> {
        Ok(&self.named(claimed)?.1)
    }

    /// The place of an error about a tensor.
    pub(crate) fn place(&self, claimed: Claimed) -> Result<String> {
        Ok(tensor_place(&self.named(claimed)?.0))
    }
}

/// A safetensors file whose header has been read and checked.
pub(crate) struct TensorFile<R> {
    reader: R,
    data_start: u64,
    file_len: u64,
    entries: HashMap<String, Entry>,
    /// How many of them are claimed.
    claimed: usize,
    /// The value of the key `awsnet` of `__metadata__`.
    manifest: Option<String>,
}

fn error(place: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::new(ErrorKind::Model, place, expected, found)
}

/// Dimensions as a message shows them: short.
pub(crate) fn shown_dims(dims: &[usize]) -> String {
    match dims.len() {
        0..=8 => format!("{dims:?}"),
        rank => format!("{rank} dimensions"),
    }
}

/// The place of an error about a tensor.
pub(crate) fn tensor_place(name: &str) -> String {
    format!("tensor {}", quoted(name))
}

impl<R: Read + Seek> TensorFile<R> {
    /// Reads and checks the header of a file of `file_len` bytes.
    pub(crate) fn open(mut reader: R, file_len: u64) -> Result<Self> {
        let mut start = [0; foreign::START];
        let start = &mut start[..file_len.min(foreign::START as u64) as usize];
        read_exactly(&mut reader, start)?;
        reader.seek(SeekFrom::Start(8)).map_err(read_error)?;
        if let Some(kind) = foreign::kind(start) {
            return Err(error("", "a safetensors file with a manifest", kind));
        }
        let Some(length) = start.first_chunk::<8>() else {
            let expected = "a safetensors file, which begins with the 8 bytes of its header's length";
            return Err(error("", expected, format!("{file_len} bytes")));
        };
        let header_len = u64::from_le_bytes(*length);
        let most = MAX_HEADER_BYTES.min(file_len - 8);
        if header_len > most {
            return Err(error(
                "header",
                format!("a length of at most {most} bytes"),
                format!("{header_len}"),
            ));
        }
        let mut header = vec![0; header_len as usize];
        read_exactly(&mut reader, &mut header)?;

        let Json::Object(members) = Json::parse("header", &header)? else {
            return Err(error("header", "a JSON object", "another JSON value"));
        };
        let mut manifest = None;
        let mut entries = HashMap::new();
        for (name, value) in members {
            if name == "__metadata__" {
                manifest = read_metadata(value)?;
            } else {
                let entry = read_entry(&name, value)?;
                entries.insert(name, entry);
            }
        }
        let file = TensorFile { reader, data_start: 8 + header_len, file_len, entries, claimed: 0, manifest };
        file.check_ranges()?;
        Ok(file)
    }

    /// The tensors' bytes follow one another without gap or overlap and end with the file.
    fn check_ranges(&self) -> Result<()> {
        let mut by_range: Vec<_> = self.entries.iter().map(|(name, entry)| (entry.range, name)).collect();
        by_range.sort();
        let mut end = 0;
        for (range, name) in by_range {
            if range.0 != end {
                let expected = format!("data that begin where the tensor before ends, at byte {end}");
                return Err(error(tensor_place(name), expected, format!("byte {}", range.0)));
            }
            end = range.1;
        }
        let data_len = self.file_len - self.data_start;
        if end != data_len {
            return Err(error(
                "",
                format!("{end} bytes of tensors behind the header"),
                format!("{data_len} bytes"),
            ));
        }
        Ok(())
    }

    /// The manifest's JSON text.
    pub(crate) fn manifest(&self) -> Result<&str> {
        self.manifest.as_deref().ok_or_else(|| {
            error("header: `__metadata__`", "the key `awsnet` with the manifest", "no such key")
        })
    }

    /// The dimensions of a tensor that must be there; `shape` says which are expected.
    pub(crate) fn dims(&self, name: &str, shape: &str) -> Result<&[usize]> {
        match self.entries.get(name) {
            Some(entry) => Ok(&entry.dims),
            None => Err(error(tensor_place(name), format!("a tensor of shape {shape}"), "none of this name")),
        }
    }

    /// Whether the file has a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Marks a tensor as used, which must be there with these dimensions and in a type that can be read. It may be used
    /// more than once.
    pub(crate) fn claim(&mut self, name: &str, dims: &[usize]) -> Result<Claimed> {
        let place = || tensor_place(name);
        let Some(entry) = self.entries.get_mut(name) else {
            return Err(error(place(), format!("a tensor of shape {dims:?}"), "none of this name"));
        };
        if entry.dims != dims {
            return Err(error(place(), format!("shape {dims:?}"), shown_dims(&entry.dims)));
        }
        if dtype(entry.dtype).is_none() {
            return Err(error(place(), "elements of type F32, F16 or BF16", entry.dtype.to_string()));
        }
        Ok(*entry.claimed.get_or_insert_with(|| {
            self.claimed += 1;
            Claimed(self.claimed - 1)
        }))
    }

    /// Marks a tensor as known and not needed, if it is there.
    pub(crate) fn ignore(&mut self, name: &str) {
        self.entries.remove(name);
    }

    /// Refuses tensors that nothing has claimed, then reads the others in the order in which they lie.
    pub(crate) fn read_all(mut self) -> Result<Tensors> {
        let unclaimed =
            self.entries.iter().filter(|(_, entry)| entry.claimed.is_none()).map(|(name, _)| name).min();
        if let Some(name) = unclaimed {
            return Err(error(tensor_place(name), "tensors that the manifest uses", "one that nothing uses"));
        }
        crate::memory::require(self.file_len - self.data_start, "", "weights")?;
        let mut entries: Vec<_> = self.entries.drain().collect();
        entries.sort_by_key(|(_, entry)| entry.range);
        let mut tensors = HashMap::with_capacity(entries.len());
        for (name, entry) in entries {
            // All are claimed, and `claim` has accepted the type.
            let (Some(claimed), Some(dtype)) = (entry.claimed, dtype(entry.dtype)) else { continue };
            let start = self.data_start + entry.range.0;
            self.reader.seek(SeekFrom::Start(start)).map_err(read_error)?;
            let reader = &mut self.reader;
            let tensor = Tensor::read(&entry.dims, dtype, entry.len, |bytes| read_exactly(reader, bytes))
                .map_err(|e| e.at(tensor_place(&name)))?;
            if let Some((index, value)) = tensor.first_not_finite() {
                let found = format!("{value} at index {index}");
                return Err(error(tensor_place(&name), "finite numbers", found));
            }
            tensors.insert(claimed, (name, Arc::new(tensor)));
        }
        self.reader.seek(SeekFrom::Start(self.file_len)).map_err(read_error)?;
        if self.reader.read(&mut [0]).map_err(read_error)? != 0 {
            return Err(changed(self.file_len));
        }
        Ok(Tensors(tensors))
    }
}

fn changed(file_len: u64) -> Error {
    let expected = format!("a file that keeps its {file_len} bytes while it is read");
    Error::new(ErrorKind::File, "", expected, "another length")
}

fn read_error(source: std::io::Error) -> Error {
    Error::new(ErrorKind::File, "", "a readable file", source.to_string())
}

fn read_exactly(reader: &mut impl Read, bytes: &mut [u8]) -> Result<()> {
    reader.read_exact(bytes).map_err(|source| match source.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            Error::new(ErrorKind::File, "", "a file that keeps its length while it is read", "an early end")
        }
        _ => read_error(source),
    })
}

fn dtype(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        _ => None,
    }
}

/// The manifest's text from the value of `__metadata__`, a map of strings.
fn read_metadata(value: Json) -> Result<Option<String>> {
    let place = "header: `__metadata__`";
    let Json::Object(members) = value else {
        return Err(error(place, "an object of strings", value.to_string()));
    };
    let mut manifest = None;
    for (key, value) in members {
        let Json::String(text) = value else {
            return Err(error(format!("{place}: {}", quoted(&key)), "a string", value.to_string()));
        };
        if key == "awsnet" {
            manifest = Some(text);
        }
    }
    Ok(manifest)
}

fn read_entry(name: &str, value: Json) -> Result<Entry> {
    let mut object = Object::new(tensor_place(name), value)?;
    let dtype_name = object.require("dtype", "an element type")?;
    let dtype = as_string(&dtype_name)
        .and_then(|text| {
            let deserializer: serde::de::value::StringDeserializer<serde::de::value::Error> =
                text.into_deserializer();
            Dtype::deserialize(deserializer).ok()
        })
        .ok_or_else(|| {
            object.error("dtype", "an element type of safetensors, such as F32", dtype_name.to_string())
        })?;
    let as_usize = |v: &Json| match v {
        Json::Number(number) => number.as_u64().and_then(|n| usize::try_from(n).ok()),
        _ => None,
    };
    let dims = object
        .take_array("shape", "an integer of at least 0", as_usize)?
        .ok_or_else(|| object.error("shape", "an array", "nothing: the key is missing"))?;
    let offsets = object
        .take_array("data_offsets", "an integer of at least 0", as_usize)?
        .ok_or_else(|| object.error("data_offsets", "an array", "nothing: the key is missing"))?;
    let &[start, end] = &offsets[..] else {
        return Err(object.error("data_offsets", "[begin, end]", format!("{} numbers", offsets.len())));
    };
    if end < start {
        return Err(object.error("data_offsets", "[begin, end] in order", format!("[{start}, {end}]")));
    }
    object.finish()?;

    let place = || tensor_place(name);
    let len = dims.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim));
    let bytes = len.and_then(|len| len.checked_mul(dtype.bitsize())).map(|bits| bits.div_ceil(8));
    let (Some(len), Some(bytes)) = (len, bytes) else {
        return Err(error(
            place(),
            "a shape whose size in bytes fits the address space",
            format!("{} dimensions of a larger product", dims.len()),
        ));
    };
    if bytes != end - start {
        let expected = format!("{bytes} bytes of data for its shape and type {dtype}");
        return Err(error(place(), expected, format!("{}", end - start)));
    }
    Ok(Entry { dims, dtype, len, range: (start as u64, end as u64), claimed: None })
}
