//! What the documents promise of the tests is there.

use std::fs;
use std::path::{Path, PathBuf};

/// Every Rust file below `folder`, without what was built.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The names of tests in a document: what stands between backquotes and has the form `file::test`.
fn named(document: &str) -> impl Iterator<Item = (&str, &str)> {
    let quoted = document.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    quoted.filter_map(|text| text.split_once("::")).filter(|(file, test)| {
        let is_name = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        is_name(file) && is_name(test)
    })
}

#[test]
fn every_test_that_the_security_document_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    let document = fs::read_to_string(root.join("docs/security.md")).expect("the document");
    let mut files = Vec::new();
    sources(root, &mut files);
    let has = |file: &str, test: &str| {
        let mut of_name = files.iter().filter(|path| path.file_stem().is_some_and(|stem| stem == file));
        of_name.any(|path| fs::read_to_string(path).is_ok_and(|text| text.contains(&format!("fn {test}("))))
    };
    let missing: Vec<_> = named(&document).filter(|(file, test)| *file != "file" && !has(file, test)).collect();
    assert!(named(&document).count() > 30, "the document names its tests");
    assert!(missing.is_empty(), "no such tests: {missing:?}");
}
