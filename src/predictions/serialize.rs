//! Predictions as values of serde's data model, in the form in which `awsnet predict --json` has them:
//!
//! ```json
//! {"emotion": {"label": "happiness", "scores": {"neutral": 0.02, "happiness": 0.93}},
//!  "au": {"active": ["AU12"], "scores": {"AU6": 0.31, "AU12": 0.99}}}
//! ```
//!
//! The scores are probabilities, in the model's order.

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::{OwnedPrediction, Prediction};
use crate::tensor::Branch;

impl Serialize for Prediction<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Prediction", 2)?;
        fields.serialize_field("emotion", &Emotion(self))?;
        fields.serialize_field("au", &Au(self))?;
        fields.end()
    }
}

impl Serialize for OwnedPrediction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.view().serialize(serializer)
    }
}

struct Emotion<'a>(&'a Prediction<'a>);

impl Serialize for Emotion<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Emotion", 2)?;
        fields.serialize_field("label", self.0.emotion().label)?;
        fields.serialize_field("scores", &Scores(self.0, Branch::Emotion))?;
        fields.end()
    }
}

struct Au<'a>(&'a Prediction<'a>);

impl Serialize for Au<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let active: Vec<&str> = self.0.active().map(|au| au.label).collect();
        let mut fields = serializer.serialize_struct("Au", 2)?;
        fields.serialize_field("active", &active)?;
        fields.serialize_field("scores", &Scores(self.0, Branch::Au))?;
        fields.end()
    }
}

struct Scores<'a>(&'a Prediction<'a>, Branch);

impl Serialize for Scores<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.scores(self.1).map(|score| (score.label, score.probability)))
    }
}
