//! The welcome tour: what a client of Atelier does, through the public API and nothing else. It registers the demo user,
//! creates a product, uploads a photo, follows the analysis live and shows its result; then it runs a pipeline and chats.

mod account;
mod client;
mod progress;
mod report;
mod words;

use std::{path::Path, time::Instant};

use anyhow::Context;
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use self::client::Client;
use crate::terminal::Terminal;

/// A cup of espresso; see assets/README.md for its source and licence.
const PHOTO: &[u8] = include_bytes!("../../assets/demo.png");
const PHOTO_NAME: &str = "espresso.png";
const PHOTO_TYPE: &str = "image/png";

#[derive(Deserialize)]
struct Product {
    id: Uuid,
}

#[derive(Deserialize)]
struct Upload {
    upload_url: Url,
    image_id: Uuid,
}

#[derive(Deserialize)]
struct Confirmed {
    job_id: Uuid,
}

/// Runs the tour against the API at `base`. The demo user's password is kept in the data folder. Returns how to go on by
/// hand.
///
/// # Errors
/// At the first step that does not work; the error says which.
pub(crate) async fn run(base: &str, data: &Path, terminal: &Terminal) -> anyhow::Result<String> {
    let begun = Instant::now();
    terminal.say("Welcome tour");
    let (client, login) = account::enter(Client::new(base)?, data, terminal).await?;

    let product: Product = client
        .post("/products", &json!({"title": "Espresso", "category": "food", "description": "From the welcome tour"}))
        .await
        .context("cannot create a product")?;
    terminal.say(format_args!("  created the product {}", product.id));

    let upload = upload(&client, product.id).await.context("cannot upload the photo")?;
    terminal.say(format_args!("  uploaded {PHOTO_NAME} ({} kB) to a presigned URL", PHOTO.len() / 1000));
    let confirmed: Confirmed = client
        .post("/uploads/confirm", &json!({"image_id": upload.image_id}))
        .await
        .context("cannot confirm the upload")?;
    progress::follow(&client, confirmed.job_id, terminal).await.context("the analysis did not succeed")?;

    let path = format!("/analysis/{}", upload.image_id);
    let analysis: Value = client.get(&path).await.context("cannot read the analysis")?;
    let seconds = begun.elapsed().as_secs_f64();
    terminal.say(format_args!("  the analysis, from GET /api/v1{path}, {seconds:.1} s after the start of the tour:\n"));
    terminal.say(report::table(&analysis)?);
    terminal.say("");
    let chats = words::show(&client, terminal).await?;
    Ok(report::next_steps(base, &login, chats))
}

async fn upload(client: &Client, product: Uuid) -> anyhow::Result<Upload> {
    let wish = json!({
        "product_id": product,
        "filename": PHOTO_NAME,
        "content_type": PHOTO_TYPE,
        "file_size_bytes": PHOTO.len(),
    });
    let upload: Upload = client.post("/uploads/presigned-url", &wish).await?;
    client.put_photo(upload.upload_url.clone(), PHOTO_TYPE, PHOTO).await?;
    Ok(upload)
}
