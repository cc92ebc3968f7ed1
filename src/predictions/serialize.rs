//! Predictions as values of serde's data model, in the form in which `awsnet predict --json` has them, a key a head:
//!
//! ```json
//! {"emotion": {"label": "happiness", "scores": {"neutral": 0.02, "happiness": 0.93}},
//!  "au": {"active": ["AU12"], "scores": {"AU6": 0.31, "AU12": 0.99}},
//!  "mood": {"values": {"valence": 0.4, "arousal": -0.1}},
//!  "anchors": {"values": [0.5, -1.25]}}
//! ```
//!
//! Heads of classes have a label, those of units what is active, those of values the numbers, by name where they have names.
//! Scores are probabilities, in the model's order.

use serde::ser::{Serialize, SerializeMap, SerializeStruct, Serializer};

use super::{HeadPrediction, OwnedPrediction, Prediction};
use crate::model::HeadKind;

impl Serialize for Prediction<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_map(Some(self.heads().len()))?;
        for head in self.heads() {
            fields.serialize_entry(head.name, &head)?;
        }
        fields.end()
    }
}

impl Serialize for OwnedPrediction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.view().serialize(serializer)
    }
}

impl Serialize for HeadPrediction<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.kind {
            HeadKind::Classes => {
                let mut fields = serializer.serialize_struct("Classes", 2)?;
                fields.serialize_field("label", self.winner().map_or("", |winner| winner.label))?;
                fields.serialize_field("scores", &Named(self))?;
                fields.end()
            }
            HeadKind::Units => {
                let active: Vec<&str> = self.active().map(|unit| unit.label).collect();
                let mut fields = serializer.serialize_struct("Units", 2)?;
                fields.serialize_field("active", &active)?;
                fields.serialize_field("scores", &Named(self))?;
                fields.end()
            }
            HeadKind::Values => {
                let mut fields = serializer.serialize_struct("Values", 1)?;
                match self.labels.is_empty() {
                    true => fields.serialize_field("values", self.logits)?,
                    false => fields.serialize_field("values", &Named(self))?,
                }
                fields.end()
            }
        }
    }
}

struct Named<'a>(&'a HeadPrediction<'a>);

impl Serialize for Named<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.scores().map(|score| (score.label, score.probability)))
    }
}
