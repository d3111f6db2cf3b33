//! `input`: hands on what the run was given.

use super::{
    Trouble,
    output::{Image, Output},
    scope::{Run, Scope},
};
use shared::pipeline::{Input, InputValue};

pub(super) fn run(scope: &Scope<'_>, id: &str, config: &Input) -> Result<Output, Trouble> {
    // in a chain it takes the entry
    match &scope.entry {
        Some((entry, _)) => Ok(Output::clone(entry)),
        None => value(scope.run, id, config).map_err(Trouble::lasting),
    }
}

/// What the run was given for a node.
pub(super) fn value(run: &Run<'_>, id: &str, config: &Input) -> Result<Output, String> {
    match config.value(run.inputs.get(id)) {
        Ok(InputValue::Text(text)) => Ok(Output::text(text)),
        Ok(InputValue::Json(json)) => Ok(Output::json(json)),
        Ok(InputValue::Image(image)) => {
            Ok(Output { image: Some(Image::ImageId(image)), ..Output::text(String::new()) })
        }
        // the bytes stay where they are: in the row of the run
        Ok(InputValue::ImageData { .. }) => {
            Ok(Output { image: Some(Image::Input(id.to_owned())), ..Output::text(String::new()) })
        }
        Err(message) => Err(format!("The input {message}.")),
    }
}
