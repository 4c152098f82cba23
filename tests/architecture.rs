//! Modules point one way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Each floor, from the ground up. A module may import its own floor's and lower ones.
const FLOORS: [&[&str]; 16] = [
    &["clock", "model"],
    &["telemetry"],
    &["policy"],
    &["render"],
    &["guard"],
    &["platform"],
    &["store"],
    &["audit", "delivery", "retention"],
    &["notifier"],
    &["mcp", "a2a"],
    &["bot"],
    &["server"],
    &["config"],
    &["app"],
    &["cli", "main"],
    // Nobody imports it.
    &["fuzzing"],
];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The module of `src/a/b.rs` or `src/a.rs` is `a`.
fn module(path: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let first = path.strip_prefix(root).unwrap().components().next().unwrap();
    first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// What a file imports of ours: the words behind `crate::`, one by one or in braces.
fn imports(source: &str) -> Vec<String> {
    let code: String = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut found = Vec::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            None => found.push(word(rest)),
            Some(group) => {
                let mut depth = 0;
                let mut start = true;
                for (at, c) in group.char_indices() {
                    if start && depth == 0 && !c.is_whitespace() {
                        found.push(word(group.get(at..).unwrap()));
                        start = false;
                    }
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        _ => {}
                    }
                }
            }
        }
    }
    found
}

#[test]
fn no_import_runs_up() {
    let floor: BTreeMap<&str, usize> = FLOORS
        .iter()
        .enumerate()
        .flat_map(|(floor, modules)| modules.iter().map(move |module| (*module, floor)))
        .collect();
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    assert!(files.len() > 30, "the sources are not where they should be");
    let mut wrong = Vec::new();
    for file in files {
        let from = module(&file);
        if from == "lib" {
            continue;
        }
        for to in imports(&std::fs::read_to_string(&file).unwrap()) {
            let allowed = match (from.as_str(), floor.get(from.as_str()), floor.get(to.as_str())) {
                // Its own module, or an item at the root of a test.
                _ if from == to => true,
                ("sandbox", ..) => to == "clock",
                (_, Some(from), Some(to)) => to <= from,
                ("cli", ..) => to == "sandbox",
                _ => to == "sandbox" && from == "cli",
            };
            if !allowed {
                wrong.push(format!("{} imports crate::{to}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_worker_delivers() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    for file in files {
        let place = module(&file);
        if ["delivery", "platform", "sandbox"].contains(&place.as_str()) {
            continue;
        }
        let source = std::fs::read_to_string(&file).unwrap();
        assert!(!source.contains(".deliver("), "{} sends by itself", file.display());
    }
}

#[test]
fn the_checker_sees_imports_in_every_form() {
    let source =
        "use crate::app::App;\nuse crate::{cli, store::{Outbox, Filter}, mcp};\n// crate::main";
    assert_eq!(imports(source), ["app", "cli", "store", "mcp"]);
}

/// SECURITY.md promises a test for each threat.
#[test]
fn security_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let security = std::fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    sources(&root.join("tests"), &mut files);
    let code: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let rows = security.lines().filter(|line| line.starts_with('|'));
    let tests: Vec<&str> = rows
        .filter_map(|row| row.trim_end_matches('|').rsplit('|').next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    assert!(tests.len() > 40, "{tests:?}");
    for test in tests {
        // Those of a store's contract are generic.
        let there = ["(", "<"].into_iter().any(|open| code.contains(&format!("fn {test}{open}")));
        assert!(there, "SECURITY.md names {test}");
    }
}
