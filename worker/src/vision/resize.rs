//! Scaling photos and laying them out for a model.
//!
//! All scaling is the antialiased bilinear filter the models were measured with; a filter that does not widen when it
//! shrinks changes the answers.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;

use super::registry::Normalisation;

/// A part of the source, in source pixels; fractions are meant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Window {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// The square in the middle that remains when the shorter side is scaled to `side / crop` and a `side` × `side` square is
/// cut out. Taking it from the source directly costs nothing for what is cut away, however long the photo is.
pub(super) fn centre_window(size: (u32, u32), side: u32, crop: f64) -> Window {
    let (width, height) = (f64::from(size.0), f64::from(size.1));
    let shorter = (f64::from(side) / crop).round();
    let factor = shorter / width.min(height);
    let scaled_width = (width * factor).round_ties_even().max(shorter);
    let scaled_height = (height * factor).round_ties_even().max(shorter);
    let (x_step, y_step) = (width / scaled_width, height / scaled_height);
    let left = ((scaled_width - f64::from(side)) / 2.0).floor();
    let top = ((scaled_height - f64::from(side)) / 2.0).floor();
    Window { left: left * x_step, top: top * y_step, width: f64::from(side) * x_step, height: f64::from(side) * y_step }
}

/// Size with the longer side scaled to `side`, each side at least `min`. With `enlarge` off a small photo keeps its size.
pub(super) fn fit(size: (u32, u32), side: u32, min: u32, enlarge: bool) -> (u32, u32) {
    let longer = size.0.max(size.1);
    if longer <= side && !enlarge {
        return size;
    }
    let scale = |length: u32| {
        let scaled = (f64::from(length) * f64::from(side) / f64::from(longer)).round_ties_even();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and `side`")]
        let scaled = scaled as u32;
        scaled.max(min)
    };
    (scale(size.0), scale(size.1))
}

/// Scales a window of the photo (or all of it) to `size`.
pub(super) fn scale(resizer: &mut Resizer, photo: &RgbImage, window: Option<Window>, size: (u32, u32)) -> RgbImage {
    let mut scaled = RgbImage::new(size.0, size.1);
    let mut options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    if let Some(window) = window {
        // Rounding may put the far edge a hair outside, which the resizer refuses.
        let width = window.width.min(f64::from(photo.width()) - window.left);
        let height = window.height.min(f64::from(photo.height()) - window.top);
        options = options.crop(window.left, window.top, width, height);
    }
    let (width, height) = photo.dimensions();
    let source = TypedImageRef::<U8x3>::from_buffer(width, height, photo.as_raw());
    let target = TypedImage::<U8x3>::from_buffer(size.0, size.1, &mut scaled);
    // Whole RGB images of a size above zero and a window inside: there is nothing to fail, and black must not pass for a photo.
    let (Ok(source), Ok(mut target)) = (source, target) else { unreachable!("an RGB image has three bytes a pixel") };
    let done = resizer.resize_typed(&source, &mut target, &options);
    assert!(done.is_ok(), "{done:?}");
    scaled
}

/// Writes a photo as planar `[3, height, width]` into `tensor`, normalised; where the photo is smaller, its last column and
/// row are repeated.
pub(super) fn write_planes(photo: &RgbImage, normalisation: Normalisation, size: (u32, u32), tensor: &mut Vec<f32>) {
    let (width, height) = (size.0 as usize, size.1 as usize);
    let (photo_width, photo_height) = (photo.width() as usize, photo.height() as usize);
    tensor.resize(3 * width * height, 0.0);
    let (red, rest) = tensor.split_at_mut(width * height);
    let (green, blue) = rest.split_at_mut(width * height);
    let table = normalised_values(normalisation);
    let rows = photo.as_raw().chunks_exact(photo_width * 3);
    let planes = red.chunks_exact_mut(width).zip(green.chunks_exact_mut(width)).zip(blue.chunks_exact_mut(width));
    for (row, ((red, green), blue)) in rows.zip(planes) {
        let columns = red.iter_mut().zip(green.iter_mut()).zip(blue.iter_mut());
        for (pixel, ((red, green), blue)) in row.chunks_exact(3).zip(columns) {
            if let [r, g, b] = pixel {
                *red = table[usize::from(*r)];
                *green = table[usize::from(*g)];
                *blue = table[usize::from(*b)];
            }
        }
        for plane in [red, green, blue] {
            let last = plane[photo_width - 1];
            plane[photo_width..].fill(last);
        }
    }
    for plane in [red, green, blue] {
        let (filled, padding) = plane.split_at_mut(photo_height * width);
        let last = &filled[(photo_height - 1) * width..];
        for row in padding.chunks_exact_mut(width) {
            row.copy_from_slice(last);
        }
    }
}

fn normalised_values(normalisation: Normalisation) -> [f32; 256] {
    let mut value = 0.0;
    [(); 256].map(|()| {
        let normalised = (value - normalisation.mean) / normalisation.scale;
        value += 1.0;
        normalised
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_a_landscape_photo_is_taken() {
        let window = centre_window((600, 400), 224, 0.875);
        assert_eq!(window, Window { left: 125.0, top: 25.0, width: 350.0, height: 350.0 });
    }

    #[test]
    fn the_window_lies_inside_photos_of_all_shapes() {
        for (width, height) in (8..600).flat_map(|side| [(side, 8), (8, side), (side, 599), (65_535, side)]) {
            for (side, crop) in [(224, 0.875), (260, 0.875), (224, 1.0)] {
                let window = centre_window((width, height), side, crop);
                assert!(window.left >= 0.0 && window.top >= 0.0, "{width}×{height}: {window:?}");
                let (right, bottom) = (window.left + window.width, window.top + window.height);
                assert!(
                    right <= f64::from(width) + 1e-6 && bottom <= f64::from(height) + 1e-6,
                    "{width}×{height}: {window:?}"
                );
            }
        }
    }

    #[test]
    fn fitting_keeps_the_ratio_and_never_vanishes() {
        assert_eq!(fit((300, 200), 256, 1, false), (256, 171));
        assert_eq!(fit((300, 200), 320, 32, true), (320, 213));
        assert_eq!(fit((100, 50), 256, 1, false), (100, 50));
        assert_eq!(fit((4000, 8), 256, 1, false), (256, 1));
        assert_eq!(fit((8, 4000), 320, 32, true), (32, 320));
    }

    #[test]
    fn padding_repeats_the_last_column_and_row() {
        let photo = RgbImage::from_fn(2, 2, |x, y| image::Rgb([if (x, y) == (1, 1) { 255 } else { 0 }, 0, 0]));
        let mut tensor = Vec::new();
        write_planes(&photo, Normalisation { mean: 0.0, scale: 255.0 }, (3, 3), &mut tensor);
        let red = [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0];
        assert_eq!(tensor[..9], red);
        assert!(tensor[9..].iter().all(|value| *value == 0.0));
    }

    #[test]
    fn a_long_strip_is_scaled_through_its_window_alone() {
        let strip = RgbImage::new(4000, 8);
        let window = centre_window(strip.dimensions(), 224, 0.875);
        assert!(window.width < 8.0 && window.height < 8.0);
        let scaled = scale(&mut Resizer::new(), &strip, Some(window), (224, 224));
        assert_eq!(scaled.dimensions(), (224, 224));
    }
}
