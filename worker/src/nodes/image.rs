//! The bytes of an image that goes with an output.

use super::{Trouble, output::Image, scope::Run};
use crate::{outcome::Stop, vision::ImageLimits};
use bytes::Bytes;
use shared::{
    models::ProductImage,
    pipeline::{InputValue, Kind},
};

/// Type and bytes of an image.
pub(super) async fn load(run: &Run<'_>, image: &Image) -> Result<(String, Bytes), Trouble> {
    match image {
        Image::Input(id) => {
            let node = run.definition.nodes.iter().find(|node| node.id == *id);
            match node.map(|node| &node.kind) {
                Some(Kind::Input(config)) => match config.value(run.inputs.get(id)) {
                    Ok(InputValue::ImageData { content_type, bytes }) => Ok((content_type, bytes)),
                    Ok(_) | Err(_) => Err(Trouble::lasting(format!("The input {id} has no image."))),
                },
                Some(_) | None => Err(Trouble::lasting(format!("The input {id} is not there."))),
            }
        }
        Image::ImageId(id) => {
            let mut conn = run.context.pool.get().await?;
            let found = ProductImage::find(&mut conn, *id, run.user_id).await?;
            drop(conn);
            let gone = || Trouble::lasting(format!("There is no image {id}."));
            let image = found.ok_or_else(gone)?;
            let object = run.context.storage.get(&image.s3_key, ImageLimits::default().max_bytes).await;
            let away = |error: anyhow::Error| {
                Stop::retry("storage_unavailable", format!("The object store did not answer: {error:#}"))
            };
            Ok((image.content_type, object.map_err(away)?.ok_or_else(gone)?))
        }
    }
}
