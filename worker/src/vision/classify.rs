//! What is on the photo: a product category, and the classifier's own finer guess.
//!
//! The classifier knows ImageNet's 1000 classes. A product category is a set of them and its score the sum of their
//! probabilities; the category with the highest score is the label, also where that is the catch-all `place_or_other`.

use std::collections::BTreeMap;

use fast_image_resize::Resizer;
use image::RgbImage;
use ort::session::Session;
use serde::{Deserialize, Serialize};

use super::error::VisionError;
use super::registry;
use super::resize;
use super::runtime::Runtime;
use super::session;

/// Categories kept in [`Classification::scores`].
const SCORES: usize = 5;
/// Guesses kept in [`Classification::imagenet_top5`].
const GUESSES: usize = 5;

/// What the step stores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Classification {
    /// The product category with the highest score; clients know it under the name that the analysis gives it.
    #[serde(rename = "classification_label")]
    pub label: String,
    /// Its score, 0–1.
    pub confidence: f64,
    /// The five best categories and their scores, 0–1.
    pub scores: BTreeMap<String, f64>,
    /// The five most probable ImageNet classes, best first.
    pub imagenet_top5: Vec<ImagenetGuess>,
}

/// One ImageNet class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImagenetGuess {
    /// 0-based.
    pub index: usize,
    /// The class's name.
    pub label: String,
    /// 0–1.
    pub probability: f64,
}

/// A loaded classifier with its scratch memory.
pub(super) struct Classifier {
    model: registry::Classifier,
    session: Session,
    resizer: Resizer,
    tensor: Vec<f32>,
}

impl Classifier {
    pub(super) fn open(runtime: &Runtime, model: registry::Classifier) -> ort::Result<Self> {
        let session = session::open(runtime, &model.file)?;
        Ok(Self { model, session, resizer: Resizer::new(), tensor: Vec::new() })
    }

    pub(super) fn classify(&mut self, photo: &RgbImage) -> Result<Classification, VisionError> {
        let side = self.model.input_side;
        let window = resize::centre_window(photo.dimensions(), side, self.model.crop);
        let square = resize::scale(&mut self.resizer, photo, Some(window), (side, side));
        resize::write_planes(&square, self.model.normalisation, (side, side), &mut self.tensor);
        let shape = [1, 3, side as usize, side as usize];
        let labels = self.model.labels.len();
        let probabilities = session::run(&mut self.session, &self.tensor, shape, "logits", |_, logits| {
            if logits.len() == labels {
                return Ok(softmax(logits));
            }
            let found = format!("{} logits", logits.len());
            Err(VisionError::UnexpectedOutput { found, expected: format!("{labels}, one a label") })
        })?;
        Ok(self.read(&probabilities))
    }

    fn read(&self, probabilities: &[f64]) -> Classification {
        let category_scores: Vec<(&String, f64)> = self
            .model
            .categories
            .iter()
            .map(|(name, members)| (name, members.iter().filter_map(|index| probabilities.get(*index)).sum()))
            .collect();
        let best = highest(category_scores, SCORES);
        let (label, confidence) =
            best.first().map(|(name, score)| ((*name).clone(), round(*score))).unwrap_or_default();
        let guesses = highest(probabilities.iter().copied().enumerate().collect(), GUESSES);
        Classification {
            label,
            confidence,
            scores: best.into_iter().map(|(name, score)| (name.clone(), round(score))).collect(),
            imagenet_top5: guesses.into_iter().map(|(index, probability)| self.guess(index, probability)).collect(),
        }
    }

    fn guess(&self, index: usize, probability: f64) -> ImagenetGuess {
        let label = self.model.labels.get(index).cloned().unwrap_or_default();
        ImagenetGuess { index, label, probability: round(probability) }
    }
}

/// The `count` highest, best first; of equals the earlier one.
fn highest<K>(mut scored: Vec<(K, f64)>, count: usize) -> Vec<(K, f64)> {
    scored.sort_by(|a, b| b.1.total_cmp(&a.1));
    scored.truncate(count);
    scored
}

fn softmax(logits: &[f32]) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|logit| f64::from(logit - highest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// Five places are more than the model is worth and keep stored results short.
pub(super) fn round(value: f64) -> f64 {
    (value.clamp(0.0, 1.0) * 100_000.0).round() / 100_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_sums_to_one_and_survives_large_logits() {
        let probabilities = softmax(&[1000.0, 999.0, -1000.0]);
        assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!(probabilities[0] > probabilities[1] && probabilities[1] > probabilities[2]);
    }

    #[test]
    fn of_equal_scores_the_earlier_wins() {
        assert_eq!(highest(vec![("a", 0.1), ("b", 0.4), ("c", 0.4)], 2), [("b", 0.4), ("c", 0.4)]);
    }
}
