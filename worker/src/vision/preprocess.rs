//! The first step: decode, note what the photo is, make its thumbnail.

use std::sync::Arc;

use fast_image_resize::Resizer;
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use serde::{Deserialize, Serialize};

use super::decode::{ImageLimits, ImageType, decode};
use super::error::ImageError;
use super::resize;

/// Longer side of a thumbnail, in pixels.
const THUMBNAIL_SIDE: u32 = 256;
const THUMBNAIL_QUALITY: u8 = 85;

/// A decoded photo, shared between steps.
pub type Photo = Arc<RgbImage>;

/// What the step stores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preprocess {
    /// Pixels, as the photo is seen (after turning).
    pub width: u32,
    /// Pixels, as the photo is seen (after turning).
    pub height: u32,
    /// By content.
    pub format: ImageType,
    /// Media type by content; this is the one to store.
    pub content_type: String,
    /// The declared media type differed and should be corrected.
    pub content_type_corrected: bool,
    /// Bytes of the file.
    pub file_size_bytes: u64,
    /// EXIF orientation that was applied, 1 to 8; 1 is "as stored".
    pub orientation: u8,
    /// There are more frames; only the first is analysed.
    pub animated: bool,
    /// The thumbnail that goes with it.
    pub thumbnail: Thumbnail,
}

/// Size and type of a thumbnail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thumbnail {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Always `image/jpeg`.
    pub content_type: String,
}

/// A preprocessed photo.
#[derive(Debug, Clone)]
pub struct Preprocessed {
    /// The pixels, for the steps that follow.
    pub photo: Photo,
    /// What to store with the step.
    pub result: Preprocess,
    /// The thumbnail's file; its longer side has at most 256 pixels.
    pub thumbnail: Vec<u8>,
}

/// Decodes an uploaded file and makes its thumbnail.
///
/// # Errors
/// Every way in which the file is not an acceptable photo.
pub fn preprocess(bytes: &[u8], declared_content_type: &str, limits: &ImageLimits) -> Result<Preprocessed, ImageError> {
    let decoded = decode(bytes, limits)?;
    let (width, height) = decoded.image.dimensions();
    let thumbnail =
        thumbnail(&decoded.image).map_err(|source| ImageError::Damaged { format: decoded.format, source })?;
    let content_type = decoded.format.content_type();
    let result = Preprocess {
        width,
        height,
        format: decoded.format,
        content_type: content_type.to_owned(),
        content_type_corrected: content_type != declared_content_type,
        file_size_bytes: bytes.len() as u64,
        orientation: decoded.orientation,
        animated: decoded.animated,
        thumbnail: thumbnail.size,
    };
    Ok(Preprocessed { photo: Arc::new(decoded.image), result, thumbnail: thumbnail.file })
}

struct EncodedThumbnail {
    size: Thumbnail,
    file: Vec<u8>,
}

fn thumbnail(photo: &RgbImage) -> Result<EncodedThumbnail, image::ImageError> {
    let (width, height) = resize::fit(photo.dimensions(), THUMBNAIL_SIDE, 1, false);
    let small = resize::scale(&mut Resizer::new(), photo, None, (width, height));
    let mut file = Vec::new();
    JpegEncoder::new_with_quality(&mut file, THUMBNAIL_QUALITY).encode_image(&small)?;
    Ok(EncodedThumbnail { size: Thumbnail { width, height, content_type: "image/jpeg".to_owned() }, file })
}
