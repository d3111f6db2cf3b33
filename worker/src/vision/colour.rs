//! The colours of the product, as people name them.
//!
//! On a copy of at most 160 pixels a plain background is recognised by the photo's border and left out; what remains is
//! grouped by k-means in Lab, where distances follow the eye, and each group gets the name of the nearest of a few anchor
//! colours. No chance is involved: the same photo gives the same answer.

use fast_image_resize::Resizer;
use image::RgbImage;

use super::resize;

/// Longer side of the copy looked at, in pixels.
const SIDE: u32 = 160;
const CLUSTERS: usize = 4;
const ROUNDS: usize = 25;
/// Lab distance up to which a border pixel counts as background.
const BACKGROUND_SPREAD: f32 = 14.0;
/// Lab distance (lightness weighted by [`BACKGROUND_LIGHTNESS`]) from which a pixel counts as product.
const PRODUCT_DISTANCE: f32 = 9.0;
/// Shadows on the background differ in lightness only.
const BACKGROUND_LIGHTNESS: f32 = 0.45;
/// Chroma counts more than lightness in naming, so that shaded cloth keeps its hue.
const NAMING_LIGHTNESS: f32 = 0.6;

/// Names and the colours that stand for them, in sRGB. A name may have several.
const ANCHORS: [(&str, [u8; 3]); 32] = [
    ("black", [20, 20, 20]),
    ("white", [245, 245, 245]),
    ("grey", [128, 128, 128]),
    ("grey", [95, 97, 100]),
    ("grey", [170, 172, 175]),
    ("red", [200, 30, 40]),
    ("orange", [240, 130, 40]),
    ("yellow", [245, 215, 50]),
    ("green", [60, 140, 70]),
    ("green", [90, 120, 85]),
    ("green", [160, 210, 60]),
    ("green", [85, 107, 47]),
    ("teal", [50, 160, 160]),
    ("teal", [64, 200, 190]),
    ("teal", [130, 220, 205]),
    ("teal", [45, 110, 105]),
    ("blue", [40, 90, 190]),
    ("blue", [120, 185, 230]),
    ("blue", [70, 90, 125]),
    ("navy", [35, 45, 80]),
    ("purple", [120, 60, 160]),
    ("purple", [185, 160, 220]),
    ("purple", [95, 75, 120]),
    ("pink", [240, 150, 175]),
    ("pink", [235, 180, 180]),
    ("pink", [230, 60, 130]),
    ("brown", [110, 70, 40]),
    ("brown", [160, 100, 60]),
    ("brown", [80, 55, 45]),
    ("beige", [220, 200, 170]),
    ("beige", [190, 165, 130]),
    ("gold", [200, 165, 80]),
];

/// What the photo's colours are.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Colours {
    /// Largest share first; a name occurs once.
    pub(super) palette: Vec<Colour>,
    /// Share of the border that looks like one surface, 0–1.
    pub(super) plain_border: f32,
}

/// A named colour of the product.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Colour {
    pub(super) name: &'static str,
    /// Of the product's pixels, 0–1.
    pub(super) share: f32,
    /// Mean of the pixels, in sRGB.
    pub(super) rgb: [u8; 3],
}

impl Colours {
    /// The background is one plain surface.
    pub(super) fn plain_background(&self) -> bool {
        self.plain_border > 0.6
    }
}

type Lab = [f32; 3];

/// A pixel that counts, and how much.
struct Sample {
    lab: Lab,
    rgb: [u8; 3],
    weight: f32,
}

/// Finds the colours of a photo.
pub(super) fn colours(photo: &RgbImage) -> Colours {
    let size = resize::fit(photo.dimensions(), SIDE, 1, false);
    let small = resize::scale(&mut Resizer::new(), photo, None, size);
    let space = LabSpace::new();
    let labs: Vec<Lab> = small.pixels().map(|pixel| space.lab(pixel.0)).collect();
    let border = border(&labs, size);
    let background = [0, 1, 2].map(|channel| median(border.iter().map(|lab| lab[channel]).collect()));
    let plain = border.iter().filter(|lab| distance(lab, &background, 1.0) < BACKGROUND_SPREAD).count();
    let mut found = Colours { palette: Vec::new(), plain_border: plain as f32 / border.len().max(1) as f32 };
    let samples =
        if found.plain_background() { product_samples(&small, &labs, &background) } else { all_samples(&small, &labs) };
    let centres = cluster(&samples);
    found.palette = palette(&samples, &centres, &space);
    found
}

/// The left, right and top edges. The bottom one is left out: products stand on it.
fn border(labs: &[Lab], (width, height): (u32, u32)) -> Vec<Lab> {
    let (width, height) = (width as usize, height as usize);
    let thickness = (width.min(height) / 25).max(2).min(width);
    let top = labs.iter().take(thickness * width);
    let rows = || labs.chunks_exact(width).take(height);
    let left = rows().flat_map(|row| &row[..thickness]);
    let right = rows().flat_map(|row| &row[width - thickness..]);
    top.chain(left).chain(right).copied().collect()
}

fn median(mut values: Vec<f32>) -> f32 {
    values.sort_by(f32::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle.saturating_sub(1)), values.get(middle)) {
        (Some(low), Some(high)) if values.len().is_multiple_of(2) => (low + high) / 2.0,
        (_, Some(value)) => *value,
        (_, None) => 0.0,
    }
}

fn all_samples(small: &RgbImage, labs: &[Lab]) -> Vec<Sample> {
    small.pixels().zip(labs).map(|(pixel, lab)| Sample { lab: *lab, rgb: pixel.0, weight: 1.0 }).collect()
}

/// What differs from the background, the middle counting most. Where hardly anything differs, everything counts.
fn product_samples(small: &RgbImage, labs: &[Lab], background: &Lab) -> Vec<Sample> {
    let from_middle = |at: u32, side: u32| ((at as f32 / side as f32 - 0.5) / 0.35).powi(2);
    let across: Vec<f32> = (0..small.width()).map(|x| (-from_middle(x, small.width())).exp()).collect();
    let down: Vec<f32> = (0..small.height()).map(|y| (-from_middle(y, small.height())).exp()).collect();
    let weights = down.iter().flat_map(|y| across.iter().map(move |x| x * y));
    let weighted = |((pixel, lab), weight): ((&image::Rgb<u8>, &Lab), f32)| Sample { lab: *lab, rgb: pixel.0, weight };
    let everything = || small.pixels().zip(labs).zip(weights.clone()).map(weighted);
    let differs = |sample: &Sample| distance(&sample.lab, background, BACKGROUND_LIGHTNESS) > PRODUCT_DISTANCE;
    let product: Vec<Sample> = everything().filter(differs).collect();
    if product.len() * 100 < labs.len() { everything().collect() } else { product }
}

/// k-means with a fixed start: the sample nearest to the mean, then again and again the one farthest from all centres.
fn cluster(samples: &[Sample]) -> Vec<Lab> {
    let mean = weighted_mean(samples.iter());
    let by_distance = |a: &&Sample, b: &&Sample| squared(&a.lab, &mean).total_cmp(&squared(&b.lab, &mean));
    let Some(first) = samples.iter().min_by(by_distance) else { return Vec::new() };
    let mut centres = vec![first.lab];
    let mut nearest = vec![f32::INFINITY; samples.len()];
    while let Some(newest) = centres.last().filter(|_| centres.len() < CLUSTERS) {
        let mut farthest = (f32::NEG_INFINITY, *newest);
        for (sample, nearest) in samples.iter().zip(&mut nearest) {
            *nearest = nearest.min(squared(&sample.lab, newest));
            let reach = *nearest * sample.weight;
            if reach > farthest.0 {
                farthest = (reach, sample.lab);
            }
        }
        centres.push(farthest.1);
    }
    for _ in 0..ROUNDS {
        let moved = centres_of_members(samples, &centres);
        let step = moved.iter().zip(&centres).map(|(a, b)| squared(a, b)).fold(0.0, f32::max);
        centres = moved;
        if step < 1e-4 {
            break;
        }
    }
    centres
}

/// The mean of each centre's samples; a centre without any stays where it is.
fn centres_of_members(samples: &[Sample], centres: &[Lab]) -> Vec<Lab> {
    let mut sums = [[0.0_f64; 4]; CLUSTERS];
    for sample in samples {
        let weight = f64::from(sample.weight);
        let sum = &mut sums[nearest_centre(&sample.lab, centres)];
        for (channel, value) in sample.lab.iter().enumerate() {
            sum[channel] += weight * f64::from(*value);
        }
        sum[3] += weight;
    }
    let mean = |(sum, centre): (&[f64; 4], &Lab)| {
        if sum[3] > 0.0 { [0, 1, 2].map(|channel| (sum[channel] / sum[3]) as f32) } else { *centre }
    };
    sums.iter().zip(centres).map(mean).collect()
}

fn weighted_mean<'a>(samples: impl Iterator<Item = &'a Sample>) -> Lab {
    let mut sum = [0.0_f64; 4];
    for sample in samples {
        let weight = f64::from(sample.weight);
        for (channel, value) in sample.lab.iter().enumerate() {
            sum[channel] += weight * f64::from(*value);
        }
        sum[3] += weight;
    }
    [0, 1, 2].map(|channel| (sum[channel] / sum[3].max(f64::MIN_POSITIVE)) as f32)
}

fn nearest_centre(lab: &Lab, centres: &[Lab]) -> usize {
    let mut best = (f32::INFINITY, 0);
    for (index, centre) in centres.iter().enumerate() {
        let apart = squared(lab, centre);
        if apart < best.0 {
            best = (apart, index);
        }
    }
    best.1
}

/// Names the clusters and merges those of one name.
fn palette(samples: &[Sample], centres: &[Lab], space: &LabSpace) -> Vec<Colour> {
    let names: Vec<&'static str> = centres.iter().map(|centre| space.name(centre)).collect();
    let mut sums: Vec<(&'static str, [f64; 4])> = Vec::new();
    let mut total = 0.0;
    let mut slots = Vec::with_capacity(names.len());
    for name in names {
        let slot = sums.iter().position(|(known, _)| *known == name).unwrap_or(sums.len());
        if slot == sums.len() {
            sums.push((name, [0.0; 4]));
        }
        slots.push(slot);
    }
    for sample in samples {
        let (_, sum) = &mut sums[slots[nearest_centre(&sample.lab, centres)]];
        let weight = f64::from(sample.weight);
        for (channel, value) in sample.rgb.iter().enumerate() {
            sum[channel] += weight * f64::from(*value);
        }
        sum[3] += weight;
        total += weight;
    }
    sums.retain(|(_, sum)| sum[3] > 0.0);
    sums.sort_by(|a, b| b.1[3].total_cmp(&a.1[3]));
    sums.into_iter()
        .map(|(name, sum)| Colour {
            name,
            share: (sum[3] / total) as f32,
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a mean of bytes")]
            rgb: [0, 1, 2].map(|channel| (sum[channel] / sum[3]).round() as u8),
        })
        .collect()
}

fn squared(a: &Lab, b: &Lab) -> f32 {
    (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2) + (a[2] - b[2]).powi(2)
}

fn distance(a: &Lab, b: &Lab, lightness: f32) -> f32 {
    ((lightness * (a[0] - b[0])).powi(2) + (a[1] - b[1]).powi(2) + (a[2] - b[2]).powi(2)).sqrt()
}

/// sRGB to CIE Lab (D65), with the channel curve looked up, and the anchors in Lab.
struct LabSpace {
    linear: [f32; 256],
    anchors: Vec<(&'static str, Lab)>,
}

impl LabSpace {
    fn new() -> Self {
        let mut level = 0.0_f32;
        let linear = [(); 256].map(|()| {
            let value = level / 255.0;
            level += 1.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        });
        let mut space = Self { linear, anchors: Vec::new() };
        space.anchors = ANCHORS.iter().map(|(name, rgb)| (*name, space.lab(*rgb))).collect();
        space
    }

    fn lab(&self, rgb: [u8; 3]) -> Lab {
        let [red, green, blue] = rgb.map(|value| self.linear[usize::from(value)]);
        let x = (0.412_456_4 * red + 0.357_576_1 * green + 0.180_437_5 * blue) / 0.950_47;
        let y = 0.212_672_9 * red + 0.715_152_2 * green + 0.072_175 * blue;
        let z = (0.019_333_9 * red + 0.119_192 * green + 0.950_304_1 * blue) / 1.088_83;
        let [x, y, z] = [x, y, z]
            .map(|value| if value > 216.0 / 24389.0 { value.cbrt() } else { (24389.0 / 27.0 * value + 16.0) / 116.0 });
        [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
    }

    fn name(&self, lab: &Lab) -> &'static str {
        let apart = |anchor: &Lab| distance(lab, anchor, NAMING_LIGHTNESS);
        let nearest = self.anchors.iter().min_by(|a, b| apart(&a.1).total_cmp(&apart(&b.1)));
        nearest.map_or("grey", |(name, _)| *name)
    }
}

#[cfg(test)]
#[path = "colour_tests.rs"]
mod tests;
