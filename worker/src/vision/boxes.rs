//! From a map of probabilities to boxes: defective cells that touch (also at corners) are one defect.

use serde::{Deserialize, Serialize};

/// A box in pixels of the photo as it is seen (after turning); the origin is top left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundingBox {
    /// Pixels from the left.
    pub x: u32,
    /// Pixels from the top.
    pub y: u32,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

/// Probabilities by cell: planes of `stride` × anything, the first for "no defect", then one for each type. Only the
/// `width` × `height` cells at the top left lie on the photo; the rest is padding.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProbabilityMap<'a> {
    pub(super) values: &'a [f32],
    /// Values a plane.
    pub(super) plane: usize,
    /// Values a row.
    pub(super) stride: usize,
    /// Cells on the photo.
    pub(super) width: usize,
    /// Cells on the photo.
    pub(super) height: usize,
}

/// A group of touching defective cells.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Region {
    /// Index of the type, 0 for the first plane after "no defect".
    pub(super) kind: usize,
    /// Mean defect probability of the surest quarter of its cells.
    pub(super) confidence: f64,
    /// Cells.
    pub(super) area: usize,
    /// First column, first row, one past the last column, one past the last row; in cells.
    pub(super) bounds: [usize; 4],
}

impl ProbabilityMap<'_> {
    /// Regions of at least `min_cells` cells above `threshold`, surest first.
    pub(super) fn regions(&self, threshold: f32, min_cells: usize) -> Vec<Region> {
        let mut open: Vec<bool> = (0..self.width * self.height)
            .map(|cell| self.defective(cell % self.width, cell / self.width) > threshold)
            .collect();
        let mut regions = Vec::new();
        for start in 0..open.len() {
            if !open[start] {
                continue;
            }
            let cells = self.take_connected(&mut open, start);
            if cells.len() >= min_cells {
                regions.push(self.summarise(&cells));
            }
        }
        regions.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
        regions
    }

    fn at(&self, plane: usize, x: usize, y: usize) -> f32 {
        self.values.get(plane * self.plane + y * self.stride + x).copied().unwrap_or(0.0)
    }

    fn defective(&self, x: usize, y: usize) -> f32 {
        1.0 - self.at(0, x, y)
    }

    /// All cells connected with `start`, which are closed on the way.
    fn take_connected(&self, open: &mut [bool], start: usize) -> Vec<(usize, usize)> {
        open[start] = false;
        let mut cells = vec![(start % self.width, start / self.width)];
        let mut next = 0;
        while let Some((x, y)) = cells.get(next).copied() {
            next += 1;
            for near_y in y.saturating_sub(1)..=(y + 1).min(self.height - 1) {
                for near_x in x.saturating_sub(1)..=(x + 1).min(self.width - 1) {
                    if std::mem::take(&mut open[near_y * self.width + near_x]) {
                        cells.push((near_x, near_y));
                    }
                }
            }
        }
        cells
    }

    fn summarise(&self, cells: &[(usize, usize)]) -> Region {
        let mut bounds = [usize::MAX, usize::MAX, 0, 0];
        let planes = self.values.len() / self.plane;
        let mut by_kind = vec![0.0_f64; planes.saturating_sub(1)];
        let mut sureness = Vec::with_capacity(cells.len());
        for (x, y) in cells.iter().copied() {
            bounds = [bounds[0].min(x), bounds[1].min(y), bounds[2].max(x + 1), bounds[3].max(y + 1)];
            for (kind, sum) in by_kind.iter_mut().enumerate() {
                *sum += f64::from(self.at(kind + 1, x, y));
            }
            sureness.push(self.defective(x, y));
        }
        sureness.sort_by(|a, b| b.total_cmp(a));
        let quarter = (sureness.len() / 4).max(1);
        let confidence = sureness.iter().take(quarter).map(|p| f64::from(*p)).sum::<f64>() / quarter as f64;
        let kind = by_kind.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(kind, _)| kind);
        Region { kind, confidence, area: cells.len(), bounds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two types; a cell of the drawing is nothing, `a` or `b` (surely), or `?` (doubtful).
    fn regions(drawing: &[&str], on_photo: (usize, usize)) -> Vec<Region> {
        let stride = drawing[0].len();
        let plane = stride * drawing.len();
        let mut values = vec![0.0; 3 * plane];
        for (cell, drawn) in drawing.concat().chars().enumerate() {
            let probabilities = match drawn {
                'a' => [0.05, 0.9, 0.05],
                'b' => [0.0, 0.1, 0.9],
                '?' => [0.3, 0.7, 0.0],
                _ => [1.0, 0.0, 0.0],
            };
            for (index, probability) in probabilities.into_iter().enumerate() {
                values[index * plane + cell] = probability;
            }
        }
        let (width, height) = on_photo;
        ProbabilityMap { values: &values, plane, stride, width, height }.regions(0.8, 3)
    }

    #[test]
    fn cells_that_touch_at_a_corner_are_one_region() {
        let found = regions(&["a....", ".a...", "..a..", "....."], (5, 4));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].kind, found[0].area, found[0].bounds), (0, 3, [0, 0, 3, 3]));
    }

    #[test]
    fn separate_regions_come_surest_first_with_their_own_type() {
        let found = regions(&["aa...", "a..bb", "...bb", "....."], (5, 4));
        let seen: Vec<_> = found.iter().map(|region| (region.kind, region.bounds)).collect();
        assert_eq!(seen, [(1, [3, 1, 5, 3]), (0, [0, 0, 2, 2])]);
    }

    #[test]
    fn doubtful_small_and_padded_cells_give_nothing() {
        assert_eq!(regions(&["???..", "aa...", "...bb", "...bb"], (5, 2)), []);
    }
}
