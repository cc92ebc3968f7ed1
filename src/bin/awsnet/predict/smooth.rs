//! `--smooth FACTOR`: each face's scores, smoothed over the frames of a video.

use std::collections::HashMap;
use std::path::Path;

use awsnet::{OwnedPrediction, Prediction};

use super::track::MEMORY;
use super::write::{Numbered, Place};
use crate::failure::Failure;

/// The smoothed scores of the faces that may come again.
pub struct Smoother<'a> {
    factor: f32,
    /// The video and the frame that are smoothed now.
    at: Option<(&'a Path, u64)>,
    /// Frames with faces, of this video.
    frames: u64,
    /// By the number of the face, its scores and the frame that it was seen in last.
    known: HashMap<u64, (OwnedPrediction, u64)>,
}

impl<'a> Smoother<'a> {
    pub fn new(factor: f32) -> Self {
        Smoother { factor, at: None, frames: 0, known: HashMap::new() }
    }

    /// The smoothed scores of a face of a video; none for a picture's.
    pub fn next(
        &mut self,
        place: Place<'a>,
        face: Option<Numbered>,
        prediction: &Prediction,
    ) -> Result<Option<Prediction<'_>>, Failure> {
        let (Some((number, _)), Some(face)) = (place.frame, face) else { return Ok(None) };
        let at = (&*place.file.path, number);
        if self.at != Some(at) {
            if self.at.is_none_or(|(path, _)| path != at.0) {
                (self.frames, self.known) = (0, HashMap::new());
            }
            self.at = Some(at);
            self.frames += 1;
            // Not more are counted here than in the tracker, which has forgotten them too.
            self.known.retain(|_, (_, seen)| *seen + MEMORY >= self.frames);
        }
        let frames = self.frames;
        let known = self.known.entry(face.id);
        let (scores, seen) = match known {
            std::collections::hash_map::Entry::Occupied(known) => {
                let known = known.into_mut();
                known.0.smooth(prediction, self.factor)?;
                known
            }
            std::collections::hash_map::Entry::Vacant(new) => new.insert((prediction.into_owned(), frames)),
        };
        *seen = frames;
        Ok(Some(scores.view()))
    }
}
