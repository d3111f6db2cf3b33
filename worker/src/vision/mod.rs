//! Looking at product photos: decoding them safely, classifying them, naming their colours, finding defects and putting
//! the result into words.
//!
//! Everything here is plain CPU work. [`Engine`] owns a fixed number of threads, each with its own loaded and warmed
//! models, and is the only way the async side gets at them; the steps themselves ([`preprocess`], [`describe`] and the
//! methods of the models) are ordinary functions that can be read and tested without a queue.
//!
//! The results are `serde` types: they are what a job's steps store.

mod attributes;
mod boxes;
mod classify;
mod colour;
mod decode;
mod defects;
mod describe;
mod engine;
mod error;
mod jpeg_end;
mod pool;
mod preprocess;
mod registry;
mod resize;
mod runtime;
mod session;

pub use attributes::Attribute;
pub use boxes::BoundingBox;
pub use classify::{Classification, ImagenetGuess};
pub use decode::{Decoded, ImageLimits, ImageType, decode};
pub use defects::{Defect, Severity};
pub use describe::{DESCRIPTION_MODEL, Description, describe};
pub use engine::{Engine, EngineError};
pub use error::{ImageError, VisionError};
pub use preprocess::{Photo, Preprocess, Preprocessed, Thumbnail, preprocess};
pub use registry::{Registry, RegistryError};
pub use runtime::{Runtime, RuntimeError};

/// Upright 8-bit RGB pixels.
#[doc(no_inline)]
pub use image::RgbImage;
