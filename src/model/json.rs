//! JSON that somebody else wrote: a tree that keeps the order of keys and refuses a key used twice, and a reader
//! of objects that refuses the keys nobody asked for.

use std::cell::Cell;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::error::{Error, ErrorKind, Result, escaped, quoted};

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// The most values that a text may hold: ten for each of 50 000 tensors. A value takes up to forty times its text in memory,
/// so a limit of bytes alone would not bound that.
const MOST_VALUES: usize = 500_000;

impl Json {
    /// Parses UTF-8 text of at most [`MOST_VALUES`] values; `place` names it in the error.
    pub(crate) fn parse(place: &str, text: &[u8]) -> Result<Json> {
        let left = Cell::new(MOST_VALUES);
        let mut parser = serde_json::Deserializer::from_slice(text);
        let parsed =
            Value { left: &left }.deserialize(&mut parser).and_then(|json| parser.end().map(|()| json));
        parsed.map_err(|e| {
            let expected = "valid JSON in UTF-8, no key twice";
            Error::new(ErrorKind::Model, place, expected, escaped(&e.to_string()))
        })
    }
}

impl Json {
    /// Whether it is shown in a few characters, also beside others.
    fn is_short(&self) -> bool {
        match self {
            Json::String(text) => text.len() <= 20,
            Json::Array(_) => false,
            _ => true,
        }
    }
}

/// The value as a message shows it: short.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Json::Null => f.write_str("null"),
            Json::Bool(v) => write!(f, "{v}"),
            Json::Number(v) => write!(f, "{v}"),
            Json::String(v) => write!(f, "\"{}\"", escaped(v)),
            Json::Array(v) if v.len() <= 4 && v.iter().all(Json::is_short) => {
                f.write_str("[")?;
                for (i, element) in v.iter().enumerate() {
                    write!(f, "{}{element}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
            Json::Array(v) => write!(f, "an array of {}", v.len()),
            Json::Object(_) => f.write_str("an object"),
        }
    }
}

/// A value to come, and how many may.
#[derive(Clone, Copy)]
struct Value<'a> {
    left: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        struct JsonVisitor<'a>(Value<'a>);

        impl<'de> Visitor<'de> for JsonVisitor<'_> {
            type Value = Json;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }
            fn visit_unit<E: de::Error>(self) -> Result<Json, E> {
                Ok(Json::Null)
            }
            fn visit_bool<E: de::Error>(self, v: bool) -> Result<Json, E> {
                Ok(Json::Bool(v))
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Json, E> {
                Ok(Json::Number(v.into()))
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<Json, E> {
                Ok(Json::Number(v.into()))
            }
            fn visit_f64<E: de::Error>(self, v: f64) -> Result<Json, E> {
                serde_json::Number::from_f64(v)
                    .map(Json::Number)
                    .ok_or_else(|| E::custom("a number that is not finite"))
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Json, E> {
                Ok(Json::String(v.to_owned()))
            }
            fn visit_string<E: de::Error>(self, v: String) -> Result<Json, E> {
                Ok(Json::String(v))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = seq.next_element_seed(self.0)? {
                    elements.push(element);
                }
                Ok(Json::Array(elements))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
                let mut members: Vec<(String, Json)> = Vec::new();
                let mut seen = std::collections::HashSet::new();
                while let Some(key) = map.next_key::<String>()? {
                    let value = map.next_value_seed(self.0)?;
                    if !seen.insert(key.clone()) {
                        return Err(de::Error::custom(format!("the key {} twice", quoted(&key))));
                    }
                    members.push((key, value));
                }
                Ok(Json::Object(members))
            }
        }

        let left = self.left.get().checked_sub(1);
        self.left.set(left.ok_or_else(|| de::Error::custom(format!("more than {MOST_VALUES} values")))?);
        deserializer.deserialize_any(JsonVisitor(self))
    }
}

/// An object being read: every key is taken once, and [`finish`](Self::finish) refuses what is left over.
pub(crate) struct Object {
    place: String,
    members: Vec<(String, Json)>,
    known: Vec<&'static str>,
}

impl Object {
    /// `value` as an object; `place` names it in errors.
    pub(crate) fn new(place: impl Into<String>, value: Json) -> Result<Self> {
        let place = place.into();
        match value {
            Json::Object(members) => Ok(Object { place, members, known: Vec::new() }),
            other => Err(Error::new(ErrorKind::Model, place, "a JSON object", other.to_string())),
        }
    }

    pub(crate) fn set_place(&mut self, place: String) {
        self.place = place;
    }

    /// An error about `key`.
    pub(crate) fn error(&self, key: &str, expected: impl Into<String>, found: impl Into<String>) -> Error {
        Error::new(ErrorKind::Model, format!("{}: `{key}`", self.place), expected, found)
    }

    /// The value of `key`, where there is one.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<Json> {
        self.known.push(key);
        let index = self.members.iter().position(|(k, _)| k == key)?;
        Some(self.members.remove(index).1)
    }

    /// Whether the value of `key` is there, and null.
    pub(crate) fn is_null(&self, key: &str) -> bool {
        self.members.iter().any(|(k, value)| k == key && *value == Json::Null)
    }

    /// The value of `key`, which must be there; `expected` says what it should be.
    pub(crate) fn require(&mut self, key: &'static str, expected: &str) -> Result<Json> {
        self.take(key).ok_or_else(|| self.error(key, expected, "nothing: the key is missing"))
    }

    /// The string under `key`, where there is one.
    pub(crate) fn take_string(&mut self, key: &'static str) -> Result<Option<String>> {
        match self.take(key) {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.error(key, "a string", other.to_string())),
        }
    }

    /// The truth value under `key`, where there is one.
    pub(crate) fn take_bool(&mut self, key: &'static str) -> Result<Option<bool>> {
        match self.take(key) {
            None => Ok(None),
            Some(Json::Bool(value)) => Ok(Some(value)),
            Some(other) => Err(self.error(key, "true or false", other.to_string())),
        }
    }

    /// The finite number under `key`, where there is one.
    pub(crate) fn take_f32(&mut self, key: &'static str) -> Result<Option<f32>> {
        match self.take(key) {
            None => Ok(None),
            Some(value) => match as_f32(&value) {
                Some(number) => Ok(Some(number)),
                None => Err(self.error(key, "a finite number", value.to_string())),
            },
        }
    }

    /// The integer of at least `min` under `key`, or `default`.
    pub(crate) fn take_integer(
        &mut self,
        key: &'static str,
        min: u32,
        default: Option<usize>,
    ) -> Result<usize> {
        let expected = format!("an integer from {min} to {}", u32::MAX);
        let value = match (self.take(key), default) {
            (Some(value), _) => value,
            (None, Some(default)) => return Ok(default),
            (None, None) => return Err(self.error(key, expected, "nothing: the key is missing")),
        };
        as_integer(&value, min).ok_or_else(|| self.error(key, expected, value.to_string()))
    }

    /// One or more integers of at least `min` under `key`; an integer alone stands for `[n]`.
    ///
    /// `lengths` are the lengths that an array may have.
    pub(crate) fn take_integers(
        &mut self,
        key: &'static str,
        min: u32,
        lengths: &[usize],
    ) -> Result<Option<Vec<usize>>> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let integers = match &value {
            Json::Array(elements) if lengths.contains(&elements.len()) => {
                elements.iter().map(|v| as_integer(v, min)).collect::<Option<Vec<_>>>()
            }
            Json::Array(_) => None,
            scalar => as_integer(scalar, min).map(|v| vec![v]),
        };
        integers.map(Some).ok_or_else(|| {
            let lengths = lengths.iter().map(|n| format!("{n}")).collect::<Vec<_>>().join(" or ");
            self.error(
                key,
                format!("an integer from {min} to {} or an array of {lengths} of them", u32::MAX),
                value.to_string(),
            )
        })
    }

    /// The array under `key`, where there is one, each element converted by `convert`.
    pub(crate) fn take_array<T>(
        &mut self,
        key: &'static str,
        element: &str,
        convert: impl Fn(&Json) -> Option<T>,
    ) -> Result<Option<Vec<T>>> {
        let Some(value) = self.take(key) else { return Ok(None) };
        self.array(key, &value, element, convert).map(Some)
    }

    /// A value that stood under `key` as an array, each element converted by `convert`.
    pub(crate) fn array<T>(
        &self,
        key: &str,
        value: &Json,
        element: &str,
        convert: impl Fn(&Json) -> Option<T>,
    ) -> Result<Vec<T>> {
        let Json::Array(elements) = value else {
            return Err(self.error(key, format!("an array, each {element}"), value.to_string()));
        };
        let convert_one = |(index, v)| convert(v).ok_or((index, v));
        match elements.iter().enumerate().map(convert_one).collect::<Result<Vec<T>, (usize, &Json)>>() {
            Ok(converted) => Ok(converted),
            Err((index, bad)) => Err(self.error(key, format!("{element} at index {index}"), bad.to_string())),
        }
    }

    /// Refuses a key that nobody has asked for.
    pub(crate) fn finish(self) -> Result<()> {
        match self.members.first() {
            None => Ok(()),
            Some((key, _)) => Err(Error::new(
                ErrorKind::Model,
                self.place,
                format!("the keys {}", self.known.join(", ")),
                format!("the unknown key {}", quoted(key)),
            )),
        }
    }
}

/// A string.
pub(crate) fn as_string(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        _ => None,
    }
}

/// A number that is finite as an `f32`.
pub(crate) fn as_f32(value: &Json) -> Option<f32> {
    match value {
        Json::Number(number) => number.as_f64().map(|v| v as f32).filter(|v| v.is_finite()),
        _ => None,
    }
}

/// An integer from `min` on; one written as `3.0` is none.
fn as_integer(value: &Json, min: u32) -> Option<usize> {
    match value {
        Json::Number(number) => {
            let integer = u32::try_from(number.as_u64()?).ok()?;
            (integer >= min).then_some(integer as usize)
        }
        _ => None,
    }
}
