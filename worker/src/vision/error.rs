//! What can go wrong with a photo, told to the person who uploaded it.

use thiserror::Error;

use super::decode::{ImageLimits, ImageType};

/// Why a file is not accepted as a photo. The text is written for the uploader and names what to do next; the decoder's own
/// words are kept as `source` for the log.
#[derive(Debug, Error)]
pub enum ImageError {
    /// There are no bytes at all.
    #[error("The file is empty. Upload the image again.")]
    Empty,
    /// The file is larger than [`ImageLimits::max_bytes`].
    #[error("The file has {bytes} bytes; at most {max} bytes ({} MB) are accepted. Upload a smaller or more strongly compressed image.", max / 1_048_576)]
    TooManyBytes {
        /// Bytes in the file.
        bytes: u64,
        /// Bytes accepted.
        max: u64,
    },
    /// The content is none of the accepted formats, whatever its name or declared type says.
    #[error("The file is not an accepted image: its content is {found}. Accepted are JPEG, PNG, WebP and GIF.")]
    UnsupportedFormat {
        /// What the content looks like, as a noun phrase.
        found: String,
    },
    /// The header announces more pixels than [`ImageLimits::max_pixels`]; nothing was decoded.
    #[error("The image is {width}×{height} pixels; at most {} megapixels are accepted. Scale it down and upload it again.", max / 1_000_000)]
    TooManyPixels {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Pixels accepted.
        max: u64,
    },
    /// Decoding takes more memory than [`ImageLimits::max_decoded_bytes`]; mostly seen from the header, before any is taken.
    #[error("The image is {width}×{height} pixels and needs more than {} MB of memory to decode. Scale it down or store it with 8 bits a channel.", max / 1_048_576)]
    TooMuchMemory {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Bytes accepted.
        max: u64,
    },
    /// A side is shorter than [`ImageLimits::min_side`].
    #[error("The image is {width}×{height} pixels; each side must have at least {min}. Upload a larger image.")]
    TooSmall {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Pixels each side must have.
        min: u32,
    },
    /// The file ends before the picture does.
    #[error("The {format} file is incomplete: it ends in the middle of the picture. Upload the whole file again.")]
    Truncated {
        /// The format found.
        format: ImageType,
        /// What the decoder said, where it was the decoder that noticed.
        source: Option<image::ImageError>,
    },
    /// The decoder gave up.
    #[error(
        "The {format} file is damaged and cannot be decoded. Save the image again from its original and upload that."
    )]
    Damaged {
        /// The format found.
        format: ImageType,
        /// What the decoder said.
        source: image::ImageError,
    },
}

impl ImageError {
    /// A stable snake_case name for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "image_empty",
            Self::TooManyBytes { .. } => "image_file_too_large",
            Self::UnsupportedFormat { .. } => "image_format_unsupported",
            Self::TooManyPixels { .. } | Self::TooMuchMemory { .. } => "image_too_large",
            Self::TooSmall { .. } => "image_too_small",
            Self::Truncated { .. } => "image_truncated",
            Self::Damaged { .. } => "image_damaged",
        }
    }

    /// Sorts the error of a decoder that could not read the header.
    pub(super) fn from_header(source: image::ImageError, format: ImageType) -> Self {
        if ends_early(&source) {
            Self::Truncated { format, source: Some(source) }
        } else {
            Self::Damaged { format, source }
        }
    }

    /// Sorts the error of a decoder that could not read the pixels of a picture of this size.
    pub(super) fn from_pixels(
        source: image::ImageError,
        format: ImageType,
        size: (u32, u32),
        limits: &ImageLimits,
    ) -> Self {
        if let image::ImageError::Limits(_) = source {
            let (width, height) = size;
            return Self::TooMuchMemory { width, height, max: limits.max_decoded_bytes };
        }
        Self::from_header(source, format)
    }
}

/// Whether the decoder stopped for want of bytes, directly or somewhere down its chain of causes.
fn ends_early(error: &image::ImageError) -> bool {
    if let image::ImageError::IoError(io) = error {
        return io.kind() == std::io::ErrorKind::UnexpectedEof;
    }
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return io.kind() == std::io::ErrorKind::UnexpectedEof;
        }
        cause = error.source();
    }
    false
}

/// Why a step gave no result.
#[derive(Debug, Error)]
pub enum VisionError {
    /// The photo itself is at fault; trying again changes nothing.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// ONNX Runtime refused or failed.
    #[error("the model could not be run: {0}")]
    Inference(#[from] ort::Error),
    /// A model answered something its registry entry does not promise.
    #[error("the model answered {found} where {expected} was expected; its entry in models.toml does not fit the file")]
    UnexpectedOutput {
        /// What came.
        found: String,
        /// What should have come.
        expected: String,
    },
    /// The step panicked; the thread goes on.
    #[error("the step panicked: {0}")]
    Panicked(String),
    /// The engine is being stopped.
    #[error("the vision engine has been stopped")]
    Stopped,
}

impl VisionError {
    /// The photo's own fault, if it is that: then the job must fail at once, and the text may be shown.
    #[must_use]
    pub fn as_image_error(&self) -> Option<&ImageError> {
        match self {
            Self::Image(error) => Some(error),
            Self::Inference(_) | Self::UnexpectedOutput { .. } | Self::Panicked(_) | Self::Stopped => None,
        }
    }
}
