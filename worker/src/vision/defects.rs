//! Visible damage: what, where, how sure, how bad.
//!
//! The detector gives type, place and confidence. Severity is not learned but read from the area and the confidence, by the
//! rule in the model registry.

use fast_image_resize::Resizer;
use image::RgbImage;
use ort::session::Session;
use serde::{Deserialize, Serialize};

use super::boxes::{BoundingBox, ProbabilityMap, Region};
use super::classify::round;
use super::error::VisionError;
use super::registry::{self, SeverityRule};
use super::resize;
use super::runtime::Runtime;
use super::session;

/// The network halves its input five times.
const SIDE_MULTIPLE: u32 = 32;

/// A defect on the photo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Defect {
    /// One of the detector's types, such as `scratch`.
    pub defect_type: String,
    /// By area and confidence.
    pub severity: Severity,
    /// 0–1.
    pub confidence: f64,
    /// In pixels of the photo.
    pub bounding_box: BoundingBox,
    /// A short sentence.
    pub description: String,
}

/// How bad a defect looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Small, or larger and doubtful.
    Low,
    /// Between the two.
    Medium,
    /// Large and sure.
    High,
}

impl Severity {
    /// The word in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }

    fn rate(rule: SeverityRule, area: f64, confidence: f64) -> Self {
        let by_area = if area >= rule.high_area {
            Self::High
        } else if area >= rule.medium_area {
            Self::Medium
        } else {
            Self::Low
        };
        match by_area {
            sure if confidence >= rule.sure => sure,
            Self::High => Self::Medium,
            Self::Medium | Self::Low => Self::Low,
        }
    }
}

/// A loaded detector with its scratch memory.
pub(super) struct Detector {
    model: registry::Detector,
    session: Session,
    resizer: Resizer,
    tensor: Vec<f32>,
}

/// How the photo lies in the detector's output.
#[derive(Debug, Clone, Copy)]
struct Grid {
    photo: (u32, u32),
    /// Pixels of the photo a cell covers, across and down.
    cell: (f64, f64),
}

impl Detector {
    pub(super) fn open(runtime: &Runtime, model: registry::Detector) -> ort::Result<Self> {
        let session = session::open(runtime, &model.file)?;
        Ok(Self { model, session, resizer: Resizer::new(), tensor: Vec::new() })
    }

    pub(super) fn detect(&mut self, photo: &RgbImage) -> Result<Vec<Defect>, VisionError> {
        let Self { model, session, resizer, tensor } = self;
        let size = resize::fit(photo.dimensions(), model.input_side, SIDE_MULTIPLE, true);
        let scaled = resize::scale(resizer, photo, None, size);
        let padded = (size.0.next_multiple_of(SIDE_MULTIPLE), size.1.next_multiple_of(SIDE_MULTIPLE));
        resize::write_planes(&scaled, model.normalisation, padded, tensor);
        let shape = [1, 3, padded.1 as usize, padded.0 as usize];
        let regions = session::run(session, tensor, shape, "probs", |shape, values| {
            let map = probability_map(shape, values, model, size)?;
            Ok(map.regions(model.threshold, model.min_cells))
        })?;
        let cell = f64::from(model.cell);
        let across = cell * f64::from(photo.width()) / f64::from(size.0);
        let down = cell * f64::from(photo.height()) / f64::from(size.1);
        let grid = Grid { photo: photo.dimensions(), cell: (across, down) };
        Ok(regions.iter().map(|region| defect(model, region, grid)).collect())
    }
}

fn probability_map<'a>(
    shape: &[i64],
    values: &'a [f32],
    model: &registry::Detector,
    size: (u32, u32),
) -> Result<ProbabilityMap<'a>, VisionError> {
    let planes = model.types.len() + 1;
    let sides: Vec<usize> = shape.iter().filter_map(|side| usize::try_from(*side).ok()).collect();
    let width = size.0.div_ceil(model.cell) as usize;
    let height = size.1.div_ceil(model.cell) as usize;
    match sides[..] {
        [1, found, rows, stride] if found == planes && rows >= height && stride >= width => {
            Ok(ProbabilityMap { values, plane: rows * stride, stride, width, height })
        }
        _ => Err(VisionError::UnexpectedOutput {
            found: format!("a tensor of shape {shape:?}"),
            expected: format!("[1, {planes}, at least {height}, at least {width}]"),
        }),
    }
}

fn defect(model: &registry::Detector, region: &Region, grid: Grid) -> Defect {
    let defect_type = model.types.get(region.kind).cloned().unwrap_or_default();
    let (width, height) = grid.photo;
    let area = region.area as f64 * grid.cell.0 * grid.cell.1 / (f64::from(width) * f64::from(height));
    let confidence = round(region.confidence);
    let bounding_box = bounding_box(region, grid);
    let description = format!(
        "Possible {defect_type} {}, {}×{} pixels.",
        place(bounding_box, grid.photo),
        bounding_box.width,
        bounding_box.height
    );
    Defect {
        defect_type,
        severity: Severity::rate(model.severity, area, confidence),
        confidence,
        bounding_box,
        description,
    }
}

fn bounding_box(region: &Region, grid: Grid) -> BoundingBox {
    let [left, top, right, bottom] = region.bounds;
    let across = |cells: usize| pixels(cells as f64 * grid.cell.0, grid.photo.0);
    let down = |cells: usize| pixels(cells as f64 * grid.cell.1, grid.photo.1);
    let (x, y) = (across(left), down(top));
    BoundingBox { x, y, width: (across(right) - x).max(1), height: (down(bottom) - y).max(1) }
}

/// The last cell may reach past the photo's edge.
fn pixels(position: f64, side: u32) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and `side`")]
    let rounded = position.round().clamp(0.0, f64::from(side)) as u32;
    rounded
}

/// Where on the photo, in words: one of nine fields.
fn place(bounding_box: BoundingBox, photo: (u32, u32)) -> &'static str {
    let third = |start: u32, length: u32, side: u32| {
        let middle = u64::from(start) * 2 + u64::from(length);
        (middle * 3 / (u64::from(side) * 2)).min(2)
    };
    let across = third(bounding_box.x, bounding_box.width, photo.0);
    let down = third(bounding_box.y, bounding_box.height, photo.1);
    match (across, down) {
        (0, 0) => "at the top left",
        (1, 0) => "at the top",
        (_, 0) => "at the top right",
        (0, 1) => "on the left",
        (1, 1) => "in the middle",
        (_, 1) => "on the right",
        (0, _) => "at the bottom left",
        (1, _) => "at the bottom",
        (_, _) => "at the bottom right",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: SeverityRule = SeverityRule { medium_area: 0.003, high_area: 0.02, sure: 0.9 };

    #[test]
    fn severity_grows_with_the_area_and_doubt_lowers_it() {
        assert_eq!(Severity::rate(RULE, 0.001, 0.99), Severity::Low);
        assert_eq!(Severity::rate(RULE, 0.01, 0.99), Severity::Medium);
        assert_eq!(Severity::rate(RULE, 0.05, 0.99), Severity::High);
        assert_eq!(Severity::rate(RULE, 0.05, 0.85), Severity::Medium);
        assert_eq!(Severity::rate(RULE, 0.01, 0.85), Severity::Low);
    }

    #[test]
    fn boxes_are_in_pixels_of_the_photo_and_end_at_its_edge() {
        let grid = Grid { photo: (600, 397), cell: (7.5, 7.5) };
        let region = Region { kind: 0, confidence: 0.9, area: 6, bounds: [20, 22, 35, 54] };
        let found = bounding_box(&region, grid);
        assert_eq!(found, BoundingBox { x: 150, y: 165, width: 113, height: 232 });
    }

    #[test]
    fn places_are_named_by_the_middle_of_the_box() {
        let at = |x, y| place(BoundingBox { x, y, width: 10, height: 10 }, (300, 300));
        assert_eq!(
            [at(0, 0), at(145, 145), at(290, 290), at(145, 290)],
            ["at the top left", "in the middle", "at the bottom right", "at the bottom"]
        );
    }
}
