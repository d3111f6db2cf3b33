#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use image::codecs::gif::GifEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::{Frame, ImageBuffer, Rgb, Rgba};

use super::*;

fn limits() -> ImageLimits {
    ImageLimits::default()
}

/// Four fields of different colours, wider than high: every way of turning it looks different.
fn fields() -> RgbImage {
    RgbImage::from_fn(96, 64, |x, y| match (x < 48, y < 32) {
        (true, true) => Rgb([200, 40, 40]),
        (false, true) => Rgb([40, 160, 60]),
        (true, false) => Rgb([40, 60, 190]),
        (false, false) => Rgb([240, 230, 200]),
    })
}

fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    image.into().write_to(&mut file, format).unwrap();
    file.into_inner()
}

/// A JPEG with an EXIF segment that holds nothing but the orientation.
fn jpeg_with_orientation(stored: &RgbImage, orientation: u8) -> Vec<u8> {
    let mut file = Vec::new();
    JpegEncoder::new_with_quality(&mut file, 100).encode_image(stored).unwrap();
    let tiff =
        [&b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01"[..], &[0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0, 0, 0, 0, 0]]
            .concat();
    let length = u16::try_from(tiff.len() + 2).unwrap().to_be_bytes();
    [&file[..2], &[0xFF, 0xE1], &length, &tiff, &file[2..]].concat()
}

fn greatest_mean_difference(a: &RgbImage, b: &RgbImage) -> f64 {
    assert_eq!(a.dimensions(), b.dimensions());
    let sum: u64 = a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / a.as_raw().len() as f64
}

#[test]
fn photos_are_turned_as_exif_says() {
    let upright = fields();
    // What a camera stores for each orientation: the inverse of the turn that shows it upright.
    let inverse = [1, 2, 3, 4, 5, 8, 7, 6];
    for orientation in 1..=8_u8 {
        let mut stored = DynamicImage::ImageRgb8(upright.clone());
        let turn = inverse[usize::from(orientation) - 1];
        stored.apply_orientation(Orientation::from_exif(turn).unwrap());
        let decoded = decode(&jpeg_with_orientation(&stored.into_rgb8(), orientation), &limits()).unwrap();
        assert_eq!(decoded.orientation, orientation);
        let difference = greatest_mean_difference(&decoded.image, &upright);
        assert!(difference < 3.0, "orientation {orientation}: {difference}");
    }
}

#[test]
fn sixteen_bits_a_channel_are_brought_to_eight() {
    let deep = ImageBuffer::from_fn(64, 32, |x, y| Rgb([x as u16 * 1000, y as u16 * 2000, 65_535]));
    let decoded = decode(&encode(deep.clone(), ImageFormat::Png), &limits()).unwrap();
    for (found, deep) in decoded.image.pixels().zip(deep.pixels()) {
        for (found, deep) in found.0.iter().zip(deep.0) {
            assert!((f64::from(*found) - f64::from(deep) / 257.0).abs() <= 1.0);
        }
    }
}

#[test]
fn grey_becomes_rgb_and_transparency_white() {
    let grey = image::GrayImage::from_pixel(16, 16, image::Luma([77]));
    let decoded = decode(&encode(grey, ImageFormat::Png), &limits()).unwrap();
    assert!(decoded.image.pixels().all(|pixel| pixel.0 == [77, 77, 77]));

    let clear = RgbaImage::from_fn(16, 16, |x, _| Rgba([200, 0, 100, if x < 8 { 0 } else { 51 }]));
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        let decoded = decode(&encode(clear.clone(), format), &limits()).unwrap();
        assert_eq!(decoded.image.get_pixel(0, 0).0, [255, 255, 255], "{format:?}");
        assert_eq!(decoded.image.get_pixel(15, 0).0, [244, 204, 224], "{format:?}");
    }
}

#[test]
fn of_an_animation_the_first_frame_is_taken() {
    let frames =
        [[255, 0, 0, 255], [0, 0, 255, 255]].map(|colour| Frame::new(RgbaImage::from_pixel(16, 16, Rgba(colour))));
    let mut file = Vec::new();
    GifEncoder::new(&mut file).encode_frames(frames).unwrap();
    let decoded = decode(&file, &limits()).unwrap();
    assert!(decoded.animated);
    assert_eq!(decoded.image.get_pixel(8, 8).0, [255, 0, 0]);

    let still =
        decode(&encode(RgbaImage::from_pixel(16, 16, Rgba([9, 9, 9, 255])), ImageFormat::Gif), &limits()).unwrap();
    assert!(!still.animated);
}

#[test]
fn too_small_too_large_and_too_heavy_are_refused_by_the_header() {
    let file = encode(fields(), ImageFormat::Png);
    let refused = |limits: ImageLimits| decode(&file, &limits).unwrap_err();
    let error = refused(ImageLimits { max_bytes: 100, ..limits() });
    assert_eq!(error.code(), "image_file_too_large");
    let error = refused(ImageLimits { max_pixels: 6143, ..limits() });
    assert_eq!(error.code(), "image_too_large");
    assert!(error.to_string().starts_with("The image is 96×64 pixels;"), "{error}");
    let error = refused(ImageLimits { max_decoded_bytes: 18_431, ..limits() });
    assert!(matches!(error, ImageError::TooMuchMemory { width: 96, height: 64, max: 18_431 }));
    let error = refused(ImageLimits { min_side: 65, ..limits() });
    assert_eq!(error.code(), "image_too_small");
    assert!(
        decode(&file, &ImageLimits { max_pixels: 6144, min_side: 64, max_decoded_bytes: 18_432, ..limits() }).is_ok()
    );
}

#[test]
fn a_file_cut_anywhere_is_an_error_and_never_a_panic() {
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Gif] {
        let file = encode(fields(), format);
        assert!(decode(&file, &limits()).is_ok(), "{format:?}");
        // Trailers hold no pixels: a GIF ends in one byte, a PNG in an empty chunk of twelve, WebP pads.
        for cut in 0..file.len() - 13 {
            assert!(decode(&file[..cut], &limits()).is_err(), "{format:?} cut at {cut} of {}", file.len());
        }
    }
}

#[test]
fn a_file_with_any_byte_spoiled_never_panics() {
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Gif] {
        let file = encode(fields(), format);
        for at in 0..file.len() {
            let mut spoiled = file.clone();
            spoiled[at] ^= 0xA5;
            if let Ok(decoded) = decode(&spoiled, &limits()) {
                assert!(decoded.image.width() >= 8 && decoded.image.height() >= 8);
            }
        }
    }
}

#[test]
fn what_is_no_accepted_image_is_named() {
    let seen = |bytes: &[u8]| decode(bytes, &limits()).unwrap_err().to_string();
    assert!(seen(b"").contains("empty"));
    assert!(seen(b"hello, world").contains("its content is text"));
    assert!(seen(b"II*\0\x08\0\0\0").contains("image/tiff"));
    assert!(seen(&[0, 159, 146, 150]).contains("no known image type"));
}
