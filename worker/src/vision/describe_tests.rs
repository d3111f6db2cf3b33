use std::collections::BTreeMap;

use super::super::boxes::BoundingBox;
use super::super::classify::ImagenetGuess;
use super::super::defects::Severity;
use super::*;

fn classification(confidence: f64, probability: f64) -> Classification {
    Classification {
        label: "book_stationery".to_owned(),
        confidence,
        scores: BTreeMap::new(),
        imagenet_top5: vec![ImagenetGuess { index: 549, label: "envelope".to_owned(), probability }],
    }
}

fn attribute(name: &str, value: &str) -> Attribute {
    Attribute { attribute_name: name.to_owned(), attribute_value: value.to_owned(), confidence: 0.6 }
}

fn defect(defect_type: &str, severity: Severity) -> Defect {
    let bounding_box = BoundingBox { x: 1, y: 2, width: 3, height: 4 };
    Defect { defect_type: defect_type.to_owned(), severity, confidence: 0.9, bounding_box, description: String::new() }
}

#[test]
fn a_sure_result_is_told_plainly() {
    let attributes =
        [attribute("color", "beige"), attribute("secondary_color", "red"), attribute("background", "plain")];
    let told = describe(Some(" Letter. "), &classification(0.914, 0.75), &attributes, &[]);
    assert_eq!(
        told.text,
        "Letter. The photo falls into the category \"book stationery\" (91 %), more precisely: envelope (75 %). Its main colour \
         is beige, with red, on a plain background. No visible defects were found."
    );
    assert_eq!(told.model, "template");
}

#[test]
fn doubt_and_defects_are_told_as_such() {
    let defects = [defect("crack", Severity::Low), defect("stain", Severity::High), defect("crack", Severity::Low)];
    let told = describe(None, &classification(0.2, 0.1), &[attribute("color", "grey")], &defects);
    assert_eq!(
        told.text,
        "The category is uncertain; the closest is \"book stationery\" (20 %). Its main colour is grey. 3 possible defects \
         (crack, stain), the worst of high severity."
    );
    let told = describe(None, &classification(0.2, 0.1), &[attribute("color", "grey")], &defects[..1]);
    assert!(told.text.ends_with("One possible defect: a crack of low severity."));
}
