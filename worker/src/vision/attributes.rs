//! Attributes of the product and its photo: what colours, background and framing say, and the classifier's finest guess.
//!
//! Each confidence is a measured share or probability, so none is made up: `color` and `secondary_color` carry the colour's
//! share of the product, `background` the share of the border that agrees, `object` the class's probability.

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::classify::{Classification, round};
use super::colour::{self, Colour, Colours};

/// Share from which a second colour is worth naming.
const SECONDARY_SHARE: f32 = 0.1;
/// A photo is square up to this ratio of its sides.
const SQUARE_RATIO: f64 = 1.05;

/// A name, a value and how sure that is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attribute {
    /// Such as `color`.
    pub attribute_name: String,
    /// Such as `brown`.
    pub attribute_value: String,
    /// 0–1.
    pub confidence: f64,
}

impl Attribute {
    fn new(name: &str, value: impl Into<String>, confidence: f64) -> Self {
        Self { attribute_name: name.to_owned(), attribute_value: value.into(), confidence: round(confidence) }
    }
}

/// Reads the attributes off a photo. `color` is always there.
pub(super) fn extract(photo: &RgbImage, classification: &Classification) -> Vec<Attribute> {
    let colours = colour::colours(photo);
    let mut attributes = colour_attributes(&colours.palette);
    attributes.push(background(&colours));
    attributes.push(orientation(photo));
    if let Some(guess) = classification.imagenet_top5.first() {
        attributes.push(Attribute::new("object", &guess.label, guess.probability));
    }
    attributes
}

fn colour_attributes(palette: &[Colour]) -> Vec<Attribute> {
    let mut attributes = Vec::new();
    if let Some(main) = palette.first() {
        let [red, green, blue] = main.rgb;
        attributes.push(Attribute::new("color", main.name, main.share.into()));
        attributes.push(Attribute::new("color_hex", format!("#{red:02x}{green:02x}{blue:02x}"), main.share.into()));
    }
    if let Some(second) = palette.get(1).filter(|second| second.share >= SECONDARY_SHARE) {
        attributes.push(Attribute::new("secondary_color", second.name, second.share.into()));
    }
    attributes
}

fn background(colours: &Colours) -> Attribute {
    let plain = f64::from(colours.plain_border);
    if colours.plain_background() {
        Attribute::new("background", "plain", plain)
    } else {
        Attribute::new("background", "complex", 1.0 - plain)
    }
}

fn orientation(photo: &RgbImage) -> Attribute {
    let ratio = f64::from(photo.width()) / f64::from(photo.height());
    let value = if ratio > SQUARE_RATIO {
        "landscape"
    } else if ratio < 1.0 / SQUARE_RATIO {
        "portrait"
    } else {
        "square"
    };
    Attribute::new("orientation", value, 1.0)
}
