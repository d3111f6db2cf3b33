//! `image_analysis`: what our own models see in an image.

use super::{
    Trouble, image, llm,
    output::{Image, Output, Spent},
    scope::{Arrived, Scope},
    template,
};
use crate::{
    outcome::Stop,
    vision::{self, ImageLimits, VisionError},
};
use serde_json::json;
use shared::{
    events::LogLevel,
    llm::Capability,
    pipeline::{Describe, ImageAnalysis},
};

/// What a language model is asked if the settings do not say.
const QUESTION: &str = "Describe the product in this image in two or three plain sentences.";

pub(super) async fn run(
    scope: &Scope<'_>,
    name: &str,
    config: &ImageAnalysis,
    arrived: &Arrived,
) -> Result<Output, Trouble> {
    let run = scope.run;
    let Some(engine) = &run.context.engine else {
        return Err(Stop::retry("models_not_loaded", "This worker was started without the models.").into());
    };
    let image = match &config.image_id {
        Some(source) => {
            let id = template::render(scope, arrived, source)?;
            let id = id.trim().parse().map_err(|_| Trouble::lasting("Its image_id is no UUID."))?;
            Image::ImageId(id)
        }
        None => arrived.image().cloned().ok_or_else(|| Trouble::lasting("No image arrives at it."))?,
    };
    let (content_type, bytes) = image::load(run, &image).await?;
    let looked =
        engine.preprocess(bytes.clone(), content_type.clone(), ImageLimits::default()).await.map_err(of_vision)?;
    let classification = engine.classify(&looked.photo).await.map_err(of_vision)?;
    let attributes = engine.extract_attributes(&looked.photo, &classification).await.map_err(of_vision)?;
    let defects = engine.detect_defects(&looked.photo).await.map_err(of_vision)?;
    let mut description = vision::describe(None, &classification, &attributes, &defects);
    let mut spent = Spent::default();
    if let Some(describe) = &config.describe
        && let Some(answer) = ask(scope, name, describe, arrived, (looked.result.content_type.clone(), bytes)).await?
    {
        description.text = answer.words().to_owned();
        describe.model.clone_into(&mut description.model);
        spent = answer.spent;
    }
    let found = json!({
        "classification": classification,
        "attributes": attributes,
        "defects": defects,
        "description": description.text,
        "width": looked.result.width,
        "height": looked.result.height,
        "content_type": looked.result.content_type,
    });
    let mut output = Output { json: Some(found), image: Some(image), ..Output::text(description.text) };
    output.metadata.insert("model".to_owned(), json!(engine.model_version()));
    output.metadata.insert("description_model".to_owned(), json!(description.model));
    Ok(output.having_spent(spent))
}

/// The words of a language model that sees; none if it does not.
async fn ask(
    scope: &Scope<'_>,
    name: &str,
    describe: &Describe,
    arrived: &Arrived,
    image: (String, bytes::Bytes),
) -> Result<Option<Output>, Trouble> {
    let sees = scope
        .run
        .context
        .models
        .find_served(&describe.model)
        .is_some_and(|served| !served.local && served.model.capabilities.contains(&Capability::Vision));
    if !sees {
        let why = format!("The model {} does not see: the description is ours.", describe.model);
        scope.run.reporter.log(LogLevel::Warn, Some(name), why).await;
        return Ok(None);
    }
    let question = template::render(scope, arrived, describe.prompt.as_deref().unwrap_or(QUESTION))?;
    let asked = llm::Asked { model: describe.model.clone(), question, image: Some(image), ..llm::Asked::default() };
    llm::ask(scope, &format!("{name}/describe"), asked).await.map(Some)
}

fn of_vision(error: VisionError) -> Trouble {
    match error.as_image_error() {
        Some(image) => Trouble::lasting(format!("The image cannot be used: {image}.")),
        None => Trouble::passing(format!("A model broke: {error}.")),
    }
}
