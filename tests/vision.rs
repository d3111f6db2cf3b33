//! The real models on real photos: answers agree with those of an independent reference (Pillow and ONNX Runtime in Python,
//! `images/expected.json`), and bad files are refused with a reason.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop at a broken assumption")]

use std::path::{Path, PathBuf};

use serde::Deserialize;
use worker::vision::{
    BoundingBox, Defect, Engine, ImageLimits, Photo, Preprocessed, Registry, RgbImage, Runtime, VisionError, describe,
};

#[derive(Deserialize)]
struct Expected {
    tolerance: Tolerance,
    images: Vec<ExpectedPhoto>,
}

#[derive(Deserialize)]
struct Tolerance {
    probability: f64,
}

#[derive(Deserialize)]
struct ExpectedPhoto {
    file: String,
    format: String,
    oriented_size: (u32, u32),
    thumbnail_256: (u32, u32),
    top5: Vec<ExpectedGuess>,
    categories_top3: Vec<(String, f64)>,
    colours: ExpectedColours,
}

#[derive(Deserialize)]
struct ExpectedGuess {
    index: usize,
    prob: f64,
}

#[derive(Deserialize)]
struct ExpectedColours {
    background_plain: bool,
    colours: Vec<ExpectedColour>,
}

#[derive(Deserialize)]
struct ExpectedColour {
    name: String,
    share: f64,
}

fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn image_file(name: &str) -> Vec<u8> {
    let path = folder("images").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn expected() -> Expected {
    serde_json::from_slice(&image_file("expected.json")).unwrap()
}

async fn engine(threads: usize) -> Engine {
    let runtime = Runtime::init(Some(&harness::onnxruntime())).unwrap();
    let registry = Registry::load(&folder("../models")).unwrap();
    Engine::start(&runtime, &registry, threads).await.unwrap()
}

async fn preprocess(engine: &Engine, bytes: Vec<u8>, declared: &str) -> Result<Preprocessed, VisionError> {
    engine.preprocess(bytes.into(), declared.to_owned(), ImageLimits::default()).await
}

#[tokio::test]
async fn every_photo_is_read_and_classified_as_by_the_reference() {
    let engine = engine(2).await;
    let Expected { tolerance, images } = expected();
    assert_eq!(images.len(), 15);
    for expected in images {
        let file = &expected.file;
        let declared = format!("image/{}", expected.format.to_lowercase());
        let found = preprocess(&engine, image_file(file), &declared).await.unwrap();
        assert_eq!((found.result.width, found.result.height), expected.oriented_size, "{file}");
        let thumbnail = &found.result.thumbnail;
        assert_eq!((thumbnail.width, thumbnail.height), expected.thumbnail_256, "{file}");
        assert!(!found.result.content_type_corrected, "{file}");

        let classified = engine.classify(&found.photo).await.unwrap();
        let (guess, best) = (&classified.imagenet_top5[0], &expected.top5[0]);
        assert_eq!(guess.index, best.index, "{file}: {guess:?}");
        assert!(
            (guess.probability - best.prob).abs() < tolerance.probability,
            "{file}: {guess:?}, expected {}",
            best.prob
        );
        let (category, score) = &expected.categories_top3[0];
        assert_eq!(&classified.label, category, "{file}");
        assert!(
            (classified.confidence - score).abs() < tolerance.probability,
            "{file}: {classified:?}, expected {score}"
        );
        assert!(classified.scores.len() >= 5, "{file}");
    }
}

#[tokio::test]
async fn every_photo_has_the_colours_the_reference_sees() {
    let engine = engine(1).await;
    for expected in expected().images {
        let file = &expected.file;
        let found = preprocess(&engine, image_file(file), "image/png").await.unwrap();
        let classified = engine.classify(&found.photo).await.unwrap();
        let attributes = engine.extract_attributes(&found.photo, &classified).await.unwrap();
        let value = |name: &str| attributes.iter().find(|attribute| attribute.attribute_name == name);
        let (colour, main) = (value("color").unwrap(), &expected.colours.colours[0]);
        assert_eq!(colour.attribute_value, main.name, "{file}: {attributes:?}");
        assert!((colour.confidence - main.share).abs() < 0.05, "{file}: {colour:?}, expected {}", main.share);
        let background = if expected.colours.background_plain { "plain" } else { "complex" };
        assert_eq!(value("background").unwrap().attribute_value, background, "{file}");
    }
}

#[tokio::test]
async fn bad_files_fail_in_preprocess_with_a_code_and_a_reason() {
    let engine = engine(1).await;
    let cases = [
        (
            "bomb_50000x50000.png",
            "image_too_large",
            "The image is 50000×50000 pixels; at most 50 megapixels are accepted.",
        ),
        ("one_pixel.png", "image_too_small", "The image is 1×1 pixels; each side must have at least 8."),
        ("strip_4000x3.png", "image_too_small", "The image is 4000×3 pixels;"),
        ("empty.jpg", "image_empty", "The file is empty."),
        ("text.jpg", "image_format_unsupported", "its content is text. Accepted are JPEG, PNG, WebP and GIF."),
        ("truncated.jpg", "image_truncated", "The JPEG file is incomplete"),
        ("png_named.jpg", "image_truncated", "The PNG file is incomplete"),
    ];
    for (file, code, reason) in cases {
        let error = preprocess(&engine, image_file(&format!("bad/{file}")), "image/jpeg").await.unwrap_err();
        assert_eq!(error.as_image_error().unwrap().code(), code, "{file}: {error}");
        assert!(error.to_string().contains(reason), "{file}: {error}");
    }
}

#[tokio::test]
async fn a_wrong_declared_type_is_noted_and_corrected() {
    let engine = engine(1).await;
    let found = preprocess(&engine, image_file("coffee_lossy.webp"), "image/jpeg").await.unwrap().result;
    assert!(found.content_type_corrected);
    assert_eq!(found.content_type, "image/webp");
}

#[tokio::test]
async fn a_cmyk_photo_has_the_colours_of_its_rgb_twin() {
    let engine = engine(1).await;
    let rgb = preprocess(&engine, image_file("coffee.png"), "image/png").await.unwrap().photo;
    let cmyk = preprocess(&engine, image_file("coffee_cmyk.jpg"), "image/jpeg").await.unwrap().photo;
    let apart: u64 = rgb.as_raw().iter().zip(cmyk.as_raw()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    let mean = apart as f64 / rgb.as_raw().len() as f64;
    assert!(mean < 4.0, "mean difference {mean}");
}

#[tokio::test]
async fn the_same_photo_gives_the_same_answer_on_every_thread() {
    let engine = engine(2).await;
    let photo = preprocess(&engine, image_file("coffee.png"), "image/png").await.unwrap().photo;
    let whole = async || {
        let classified = engine.classify(&photo).await.unwrap();
        let attributes = engine.extract_attributes(&photo, &classified).await.unwrap();
        let defects = engine.detect_defects(&photo).await.unwrap();
        let description = describe(Some("Cup"), &classified, &attributes, &defects);
        serde_json::to_string(&(classified, attributes, defects, description)).unwrap()
    };
    let answers = futures_util::future::join_all((0..6).map(|_| whole())).await;
    assert!(answers.iter().all(|answer| answer == &answers[0]));
    assert!(answers[0].contains("\\\"drink\\\""));
}

#[tokio::test]
async fn the_smallest_and_the_longest_photos_go_through_every_step() {
    let engine = engine(1).await;
    for (width, height) in [(8, 8), (20_000, 8), (8, 20_000)] {
        let photo = Photo::new(RgbImage::from_fn(width, height, |x, y| [x as u8, y as u8, 90].into()));
        let classified = engine.classify(&photo).await.unwrap();
        let attributes = engine.extract_attributes(&photo, &classified).await.unwrap();
        assert_eq!(attributes[0].attribute_name, "color");
        for defect in engine.detect_defects(&photo).await.unwrap() {
            let found = defect.bounding_box;
            assert!(found.x + found.width <= width && found.y + found.height <= height, "{width}×{height}: {found:?}");
        }
    }
}

/// A matt surface with a little grain, lit from the left: nothing is wrong with it.
fn surface() -> RgbImage {
    let mut state = 7_u32;
    RgbImage::from_fn(600, 400, |x, _| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let level = 190 - x / 20 + (state >> 29);
        [level, level - 8, level - 20].map(|value| u8::try_from(value).unwrap()).into()
    })
}

/// A dark hole with a soft edge.
fn pierce(surface: &mut RgbImage, (x, y): (u32, u32), radius: f64) {
    for (column, row, pixel) in surface.enumerate_pixels_mut() {
        let apart = (f64::from(column) - f64::from(x)).hypot(f64::from(row) - f64::from(y));
        let depth = ((radius - apart) / 3.0).clamp(0.0, 1.0);
        pixel.0 = pixel.0.map(|value| (f64::from(value) * (1.0 - 0.9 * depth)) as u8);
    }
}

fn overlap(a: BoundingBox, b: BoundingBox) -> f64 {
    let shared = |a: u32, a_length: u32, b: u32, b_length: u32| {
        f64::from((a + a_length).min(b + b_length).saturating_sub(a.max(b)))
    };
    let both = shared(a.x, a.width, b.x, b.width) * shared(a.y, a.height, b.y, b.height);
    both / (f64::from(a.width * a.height) + f64::from(b.width * b.height) - both)
}

async fn defects(engine: &Engine, photo: RgbImage) -> Vec<Defect> {
    engine.detect_defects(&Photo::new(photo)).await.unwrap()
}

#[tokio::test]
async fn a_hole_is_found_where_it_is_and_a_clean_surface_is_clean() {
    let engine = engine(1).await;
    assert_eq!(defects(&engine, surface()).await, []);
    for centre in [(150, 120), (430, 260)] {
        let mut pierced = surface();
        pierce(&mut pierced, centre, 24.0);
        let found = defects(&engine, pierced).await;
        let truth = BoundingBox { x: centre.0 - 24, y: centre.1 - 24, width: 48, height: 48 };
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(overlap(found[0].bounding_box, truth) > 0.5, "{found:?}");
        assert_eq!(found[0].defect_type, "hole");
    }
}
