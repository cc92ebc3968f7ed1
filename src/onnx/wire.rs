//! A look at a file's bytes before the parser sees them: that they are nested messages of the lengths that they say, and
//! that graphs within graphs end somewhere.
//!
//! The parser allocates what a length asks for and calls itself for each level, so a file must not say more than it has.
//! Protocol Buffers: a message is fields, a field a varint `number << 3 | type` and its value; type 0 is a varint, 1 eight
//! bytes, 2 a length and as many bytes, 5 four bytes.

use super::array::fault;
use crate::error::{Error, Result};

/// The messages that hold others which the parser reads.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    Sequence,
    Shape,
    /// One that holds no other.
    Leaf,
}

impl Message {
    /// What the field of this number holds, where that is a message.
    fn field(self, number: u64) -> Option<Message> {
        Some(match (self, number) {
            (Message::Model, 7) | (Message::Attribute, 6) => Message::Graph,
            (Message::Model, 8 | 14) | (Message::Tensor, 13) | (Message::Shape, 1) => Message::Leaf,
            (Message::Graph, 1) => Message::Node,
            (Message::Graph, 5) | (Message::Attribute, 5) => Message::Tensor,
            (Message::Graph, 11..=13) => Message::ValueInfo,
            (Message::Node, 5) => Message::Attribute,
            (Message::ValueInfo, 2) | (Message::Sequence, 1) => Message::Type,
            (Message::Type, 1) => Message::TensorType,
            (Message::Type, 4) => Message::Sequence,
            (Message::TensorType, 2) => Message::Shape,
            _ => return None,
        })
    }
}

/// More than any exporter nests; each level of graphs is three of messages.
const MAX_DEPTH: usize = 48;

/// Checks a whole file.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    check_message(bytes, Message::Model, 0)
}

fn check_message(mut bytes: &[u8], message: Message, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(fault(format!("messages at most {MAX_DEPTH} deep"), "deeper ones"));
    }
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        match key & 7 {
            0 => drop(varint(&mut bytes)?),
            1 => drop(take(&mut bytes, 8)?),
            5 => drop(take(&mut bytes, 4)?),
            2 => {
                let len = varint(&mut bytes)?;
                let value = take(&mut bytes, len)?;
                if let Some(inner) = message.field(key >> 3) {
                    check_message(value, inner, depth + 1)?;
                }
            }
            _ => return Err(not_onnx()),
        }
    }
    Ok(())
}

fn not_onnx() -> Error {
    fault("an ONNX file", "bytes that are no Protocol Buffers message")
}

fn varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let Some((&byte, rest)) = bytes.split_first() else { break };
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(not_onnx())
}

fn take<'a>(bytes: &mut &'a [u8], len: u64) -> Result<&'a [u8]> {
    let split = usize::try_from(len).ok().and_then(|len| bytes.split_at_checked(len));
    let (taken, rest) = split.ok_or_else(|| {
        fault("an ONNX file", format!("a field of {len} bytes where {} are left", bytes.len()))
    })?;
    *bytes = rest;
    Ok(taken)
}
