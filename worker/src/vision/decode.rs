//! From untrusted bytes to upright RGB pixels.
//!
//! The order is the defence: the file's size, then what it really is (its name and declared type are not believed), then the
//! size its header announces, and only then is memory taken for pixels. Memory is bounded by [`ImageLimits`] whatever the
//! file claims.
//!
//! The picture comes out as people see it: turned as EXIF says, transparency over white, greys and CMYK as RGB, 16 bits
//! brought to 8, of an animation the first frame.

use std::fmt;
use std::io::Cursor;

use image::codecs::gif::GifDecoder;
use image::codecs::jpeg::JpegDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{AnimationDecoder, DynamicImage, ImageDecoder, ImageFormat, Limits, RgbImage, RgbaImage};
use serde::{Deserialize, Serialize};

use super::error::ImageError;
use super::jpeg_end;

/// What is accepted. The defaults are those of the public API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageLimits {
    /// Bytes of the file; 50 MB.
    pub max_bytes: u64,
    /// Width × height; 50 megapixels.
    pub max_pixels: u64,
    /// Bytes of the decoded picture before it is brought to 8-bit RGB; 256 MB. Lower than 50 megapixels of 16-bit RGBA.
    pub max_decoded_bytes: u64,
    /// Pixels of the shorter side; 8. Below that no model can see anything, and a strip would be scaled to absurd lengths.
    pub min_side: u32,
}

impl Default for ImageLimits {
    fn default() -> Self {
        Self { max_bytes: 50 << 20, max_pixels: 50_000_000, max_decoded_bytes: 256 << 20, min_side: 8 }
    }
}

/// The accepted formats, by content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageType {
    /// `image/jpeg`
    Jpeg,
    /// `image/png`
    Png,
    /// `image/webp`
    Webp,
    /// `image/gif`
    Gif,
}

impl ImageType {
    /// The media type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Webp => "image/webp",
            Self::Gif => "image/gif",
        }
    }

    /// Looks at the first bytes.
    ///
    /// # Errors
    /// `Empty` and `UnsupportedFormat`; the latter says what the content looks like.
    pub fn sniff(bytes: &[u8]) -> Result<Self, ImageError> {
        if bytes.is_empty() {
            return Err(ImageError::Empty);
        }
        let accepted = [
            (ImageFormat::Jpeg, Self::Jpeg),
            (ImageFormat::Png, Self::Png),
            (ImageFormat::WebP, Self::Webp),
            (ImageFormat::Gif, Self::Gif),
        ];
        let guessed = image::guess_format(bytes).ok();
        if let Some((_, found)) = accepted.iter().find(|(format, _)| Some(*format) == guessed) {
            return Ok(*found);
        }
        let found = match guessed {
            Some(other) => format!("of the type {}", other.to_mime_type()),
            None if std::str::from_utf8(bytes).is_ok() => "text".to_owned(),
            None => "of no known image type".to_owned(),
        };
        Err(ImageError::UnsupportedFormat { found })
    }
}

impl fmt::Display for ImageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Webp => "WebP",
            Self::Gif => "GIF",
        })
    }
}

/// A decoded photo.
#[derive(Debug)]
pub struct Decoded {
    /// Upright 8-bit RGB pixels.
    pub image: RgbImage,
    /// What the content is.
    pub format: ImageType,
    /// EXIF orientation that was applied, 1 to 8; 1 is "as stored".
    pub orientation: u8,
    /// There are more frames than the one decoded.
    pub animated: bool,
}

/// Decodes a file within limits.
///
/// # Errors
/// Every way in which the file is not an acceptable photo.
pub fn decode(bytes: &[u8], limits: &ImageLimits) -> Result<Decoded, ImageError> {
    let size = bytes.len() as u64;
    if size > limits.max_bytes {
        return Err(ImageError::TooManyBytes { bytes: size, max: limits.max_bytes });
    }
    let format = ImageType::sniff(bytes)?;
    let header_error = |error| ImageError::from_header(error, format);
    let reader = Cursor::new(bytes);
    match format {
        ImageType::Jpeg => {
            let decoder = JpegDecoder::new(reader).map_err(header_error)?;
            check_size(&decoder, limits)?;
            // The decoder fills what is missing with grey and reports nothing.
            if !jpeg_end::is_complete(bytes) {
                return Err(ImageError::Truncated { format, source: None });
            }
            still(decoder, format, false, limits)
        }
        ImageType::Png => {
            let decoder = PngDecoder::with_limits(reader, allocation_limit(limits)).map_err(header_error)?;
            let animated = decoder.is_apng().map_err(header_error)?;
            still(decoder, format, animated, limits)
        }
        ImageType::Webp => {
            let decoder = WebPDecoder::new(reader).map_err(header_error)?;
            let animated = decoder.has_animation();
            still(decoder, format, animated, limits)
        }
        ImageType::Gif => {
            let decoder = GifDecoder::new(reader).map_err(header_error)?;
            first_frame(decoder, limits)
        }
    }
}

fn allocation_limit(limits: &ImageLimits) -> Limits {
    let mut allocation = Limits::no_limits();
    allocation.max_alloc = Some(limits.max_decoded_bytes);
    allocation
}

/// Refuses by what the header announces, before anything is allocated for pixels.
fn check_size(decoder: &impl ImageDecoder, limits: &ImageLimits) -> Result<(), ImageError> {
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > limits.max_pixels {
        return Err(ImageError::TooManyPixels { width, height, max: limits.max_pixels });
    }
    if width.min(height) < limits.min_side {
        return Err(ImageError::TooSmall { width, height, min: limits.min_side });
    }
    if decoder.total_bytes() > limits.max_decoded_bytes {
        return Err(ImageError::TooMuchMemory { width, height, max: limits.max_decoded_bytes });
    }
    Ok(())
}

fn still(
    mut decoder: impl ImageDecoder,
    format: ImageType,
    animated: bool,
    limits: &ImageLimits,
) -> Result<Decoded, ImageError> {
    check_size(&decoder, limits)?;
    let size = decoder.dimensions();
    let failed = |error| ImageError::from_pixels(error, format, size, limits);
    decoder.set_limits(allocation_limit(limits)).map_err(failed)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let stored = DynamicImage::from_decoder(decoder).map_err(failed)?;
    let image = if stored.color().has_alpha() { over_white(&stored.into_rgba8()) } else { stored.into_rgb8() };
    let mut upright = DynamicImage::ImageRgb8(image);
    upright.apply_orientation(orientation);
    Ok(Decoded { image: upright.into_rgb8(), format, orientation: orientation.to_exif(), animated })
}

/// The first frame of a GIF on its full canvas. Whether there is a second one is found by decoding it too.
fn first_frame(mut decoder: GifDecoder<Cursor<&[u8]>>, limits: &ImageLimits) -> Result<Decoded, ImageError> {
    let format = ImageType::Gif;
    check_size(&decoder, limits)?;
    let size = decoder.dimensions();
    let failed = |error| ImageError::from_pixels(error, format, size, limits);
    decoder.set_limits(allocation_limit(limits)).map_err(failed)?;
    let mut frames = decoder.into_frames();
    let first = frames.next().ok_or(ImageError::Truncated { format, source: None })?.map_err(failed)?;
    let image = over_white(first.buffer());
    // its memory is wanted for the second frame
    drop(first);
    let animated = frames.next().is_some();
    Ok(Decoded { image, format, orientation: 1, animated })
}

fn over_white(image: &RgbaImage) -> RgbImage {
    let mut rgb = RgbImage::new(image.width(), image.height());
    for (to, from) in rgb.pixels_mut().zip(image.pixels()) {
        let [red, green, blue, alpha] = from.0;
        to.0 = [red, green, blue].map(|value| over_white_channel(value, alpha));
    }
    rgb
}

fn over_white_channel(value: u8, alpha: u8) -> u8 {
    let mixed = (u32::from(value) * u32::from(alpha) + 255 * u32::from(255 - alpha) + 127) / 255;
    u8::try_from(mixed).unwrap_or(u8::MAX)
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
