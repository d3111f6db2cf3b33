#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use super::*;

const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models");

/// A models folder whose files are those of the repository, but for one that reads differently.
struct Folder(PathBuf);

impl Folder {
    fn with(name: &str, change: impl FnOnce(String) -> String) -> Self {
        let folder = std::env::temp_dir().join(format!("atelier-models-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&folder).unwrap();
        for entry in std::fs::read_dir(MODELS).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                std::os::unix::fs::symlink(entry.path(), folder.join(entry.file_name())).unwrap();
            }
        }
        let text = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        std::fs::remove_file(folder.join(name)).unwrap();
        std::fs::write(folder.join(name), change(text)).unwrap();
        Self(folder)
    }

    fn refusal(&self) -> String {
        Registry::load(&self.0).unwrap_err().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _left_behind = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn every_model_described_is_there_with_its_checksum() {
    let text = std::fs::read_to_string(Path::new(MODELS).join(FILE_NAME)).unwrap();
    let file: RegistryFile = toml::from_str(&text).unwrap();
    assert!(file.classifiers.len() >= 3);
    for (name, entry) in file.classifiers {
        load_classifier(&name, entry, Path::new(MODELS), Path::new(FILE_NAME)).unwrap();
    }
    for (name, entry) in file.detectors {
        load_detector(&name, entry, Path::new(MODELS), Path::new(FILE_NAME)).unwrap();
    }
}

#[test]
fn the_version_names_both_models() {
    let registry = Registry::load(Path::new(MODELS)).unwrap();
    assert_eq!(registry.model_version(), "efficientnet-lite0/1+defects-synth/1");
    assert_eq!(registry.classifier.labels.len(), 1000);
}

#[test]
fn an_unknown_key_is_refused_with_its_line() {
    let folder = Folder::with(FILE_NAME, |text| text.replace("[active]\n", "[active]\nspeed = \"high\"\n"));
    let refusal = folder.refusal();
    assert!(refusal.contains("models.toml") && refusal.contains("line ") && refusal.contains("speed"), "{refusal}");
}

#[test]
fn an_unknown_active_model_is_refused_with_those_there_are() {
    let folder =
        Folder::with(FILE_NAME, |text| text.replace("classifier = \"efficientnet-lite0\"", "classifier = \"clip\""));
    let refusal = folder.refusal();
    assert!(refusal.contains("clip") && refusal.contains("efficientnet-lite0-int8"), "{refusal}");
}

#[test]
fn a_model_file_that_is_not_the_one_described_is_refused() {
    let folder = Folder::with("defects_synth.onnx", |_| "version https://git-lfs.github.com/spec/v1".to_owned());
    let refusal = folder.refusal();
    assert!(refusal.contains("defects_synth.onnx") && refusal.contains("SHA-256"), "{refusal}");
}

#[test]
fn a_class_in_two_categories_is_refused() {
    let two = r#"{"categories": {"bag": [1, 2], "watch": [2, 3]}}"#;
    let refusal = Folder::with("categories.json", |_| two.to_owned()).refusal();
    assert!(refusal.contains("line 2 is in \"bag\" and in \"watch\""), "{refusal}");
    let beyond = r#"{"categories": {"bag": [1, 1000], "watch": [3]}}"#;
    let refusal = Folder::with("categories.json", |_| beyond.to_owned()).refusal();
    assert!(refusal.contains("1000") && refusal.contains("bag"), "{refusal}");
}

#[test]
fn a_missing_folder_is_refused_with_the_setting_to_mend() {
    let refusal = Registry::load(Path::new("/nowhere")).unwrap_err().to_string();
    assert!(refusal.contains("/nowhere/models.toml") && refusal.contains("ATELIER_MODELS_DIR"), "{refusal}");
}
