use image::Rgb;

use super::*;

/// A square of one colour in the middle of a background.
fn product(colour: [u8; 3], background: [u8; 3]) -> RgbImage {
    RgbImage::from_fn(300, 200, |x, y| {
        let inside = (90..210).contains(&x) && (40..180).contains(&y);
        Rgb(if inside { colour } else { background })
    })
}

#[test]
fn the_background_does_not_count_and_the_product_is_named() {
    let cases = [
        ([205, 35, 45], "red"),
        ([45, 95, 190], "blue"),
        ([118, 76, 44], "brown"),
        ([25, 25, 25], "black"),
        ([120, 200, 70], "green"),
    ];
    for (colour, name) in cases {
        let found = colours(&product(colour, [240, 240, 240]));
        assert!(found.plain_background());
        assert_eq!(found.palette[0].name, name);
        assert!(found.palette[0].share > 0.9, "{:?}", found.palette);
        let apart = found.palette[0].rgb.iter().zip(colour).map(|(a, b)| a.abs_diff(b)).max();
        assert!(apart < Some(12), "{:?}", found.palette);
    }
}

#[test]
fn a_busy_photo_counts_as_a_whole() {
    let stripes = RgbImage::from_fn(200, 200, |x, _| Rgb(if x % 40 < 30 { [45, 95, 190] } else { [240, 130, 40] }));
    let found = colours(&stripes);
    let names: Vec<_> = found.palette.iter().map(|colour| colour.name).collect();
    assert_eq!(names[0], "blue");
    assert!(names.contains(&"orange"), "{names:?}");
}

#[test]
fn shares_sum_to_one_and_an_empty_photo_still_has_a_colour() {
    for photo in
        [RgbImage::from_pixel(8, 8, Rgb([255, 255, 255])), RgbImage::new(4000, 8), product([9, 9, 9], [9, 9, 9])]
    {
        let found = colours(&photo);
        let sum: f32 = found.palette.iter().map(|colour| colour.share).sum();
        assert!((sum - 1.0).abs() < 1e-4, "{found:?}");
    }
}

#[test]
fn lab_agrees_with_published_values() {
    let space = LabSpace::new();
    let near = |rgb, expected: Lab| squared(&space.lab(rgb), &expected) < 0.01;
    assert!(near([255, 255, 255], [100.0, 0.0, 0.0]));
    assert!(near([255, 0, 0], [53.24, 80.09, 67.20]));
    assert!(near([0, 0, 255], [32.30, 79.19, -107.86]));
}
