//! The loaded form of a model. A session is used by one thread at a time, so each engine thread opens its own.

use std::path::Path;

use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;

use super::error::VisionError;
use super::runtime::Runtime;

/// Opens a model for use by one thread. The engine's threads are the parallelism; ONNX Runtime adds none of its own.
pub(super) fn open(runtime: &Runtime, file: &Path) -> ort::Result<Session> {
    let session = Session::builder(runtime.environment())?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(1)?
        .with_inter_threads(1)?
        // A plan a shape of input is kept otherwise, and photos come in many.
        .with_memory_pattern(false)?
        // Sums of int8 products overflow on processors without VNNI unless asked not to.
        .with_precise_qmm()?
        .commit_from_file(file)?;
    Ok(session)
}

/// Runs a model of one image input and hands its output `name` to `read`, with the output's shape.
pub(super) fn run<T>(
    session: &mut Session,
    tensor: &[f32],
    shape: [usize; 4],
    name: &str,
    read: impl FnOnce(&[i64], &[f32]) -> Result<T, VisionError>,
) -> Result<T, VisionError> {
    let input = TensorRef::from_array_view((shape, tensor))?;
    let outputs = session.run(ort::inputs![input])?;
    let Some(output) = outputs.get(name) else {
        let found = outputs.keys().collect::<Vec<_>>().join(", ");
        return Err(VisionError::UnexpectedOutput { found, expected: format!("an output `{name}`") });
    };
    let (shape, values) = output.try_extract_tensor::<f32>()?;
    read(shape, values)
}
