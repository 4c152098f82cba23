//! The entry points without a fuzzer: every file of their corpora, and inputs that are drawn from those.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;

use super::TARGETS;

/// The most bytes of an input that is drawn.
const MOST_BYTES: usize = 8 * 1024;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn entry(target: &str) -> fn(&[u8]) {
    TARGETS.into_iter().find(|(name, _)| *name == target).unwrap().1
}

/// The corpus of a target, by the names of its files.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = root().join("corpus").join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 5, "{target} has hardly any corpus");
    files.into_iter().map(|file| (file.clone(), std::fs::read(file).unwrap())).collect()
}

/// What is done to a file.
#[derive(Clone, Debug)]
enum Change {
    Flip { at: Index, bits: u8 },
    Insert { at: Index, bytes: Vec<u8> },
    Remove { at: Index, most: usize },
    Repeat { at: Index, most: usize, times: usize },
    Splice { at: Index, with: Index },
}

fn change() -> impl Strategy<Value = Change> {
    let token = prop::sample::select(
        [
            "\"",
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\\",
            "\\u0000",
            "\\ud800",
            "null",
            "true",
            "-1",
            "1e999",
            "18446744073709551616",
            "\n",
            "\r\n",
            "\0",
            "\u{202e}",
            "\u{200b}",
            "👩‍👩‍👧",
            "ü",
            "<",
            ">",
            "&",
            "&amp;",
            "@",
            "@everyone",
            "<!channel>",
            "<@1>",
            "`",
            "```",
            "*",
            "|",
            "#",
            "> ",
            "- ",
            "%%\n",
            "://",
            "\u{ff}",
        ]
        .as_slice(),
    );
    let bytes = prop_oneof![
        3 => token.prop_map(|token| token.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..8),
    ];
    prop_oneof![
        3 => (any::<Index>(), any::<u8>()).prop_map(|(at, bits)| Change::Flip { at, bits }),
        4 => (any::<Index>(), bytes).prop_map(|(at, bytes)| Change::Insert { at, bytes }),
        2 => (any::<Index>(), 1..64_usize).prop_map(|(at, most)| Change::Remove { at, most }),
        2 => (any::<Index>(), 1..64_usize, 1..80_usize)
            .prop_map(|(at, most, times)| Change::Repeat { at, most, times }),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(at, with)| Change::Splice { at, with }),
    ]
}

impl Change {
    fn make(&self, input: &mut Vec<u8>, others: &[Vec<u8>]) {
        let place = |at: &Index, input: &[u8]| at.index(input.len() + 1);
        match self {
            Self::Flip { at, bits } if !input.is_empty() => *at.get_mut(input) ^= bits,
            Self::Flip { .. } => {}
            Self::Insert { at, bytes } => {
                let at = place(at, input);
                input.splice(at..at, bytes.iter().copied());
            }
            Self::Remove { at, most } => {
                let at = place(at, input);
                input.drain(at..(at + most).min(input.len()));
            }
            Self::Repeat { at, most, times } => {
                let at = place(at, input);
                let piece = input[at..(at + most).min(input.len())].repeat(*times);
                input.splice(at..at, piece);
            }
            Self::Splice { at, with } => {
                input.truncate(place(at, input));
                let other = with.get(others);
                input.extend_from_slice(&other[place(at, other)..]);
            }
        }
        input.truncate(MOST_BYTES);
    }
}

/// Bytes, or a file of the corpus after a few changes.
fn input(files: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let changed =
        (any::<Index>(), prop::collection::vec(change(), 0..6)).prop_map(move |(file, changes)| {
            let mut input = file.get(&files).clone();
            for change in changes {
                change.make(&mut input, &files);
            }
            input
        });
    prop_oneof![1 => prop::collection::vec(any::<u8>(), 0..200), 9 => changed]
}

/// `share`: one case where the others have so many, because each takes longer.
fn draw(target: &str, share: u32) {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    config.cases = config.cases.div_ceil(share);
    let files = corpus(target).into_iter().map(|(_, file)| file).collect();
    let (entry, drawn) = (entry(target), input(files));
    proptest::test_runner::TestRunner::new(config)
        .run(&drawn, |input| {
            entry(&input);
            Ok(())
        })
        .unwrap_or_else(|found| panic!("{target}: {found}"));
}

fn replay(target: &str) {
    for (file, input) in corpus(target) {
        eprintln!("{}", file.display());
        entry(target)(&input);
    }
}

macro_rules! targets {
    ($($target:ident / $share:literal),*) => {$(
        mod $target {
            #[test]
            fn its_corpus_is_survived() {
                super::replay(stringify!($target));
            }

            #[test]
            fn what_is_drawn_is_survived() {
                super::draw(stringify!($target), $share);
            }
        }
    )*

        const TESTED: &[&str] = &[$(stringify!($target)),*];
    };
}

targets! {
    a2a / 2, config / 1, discord_gateway / 1, guard / 1, mcp_body / 2, render_discord / 2, render_slack / 2,
    render_telegram / 2, slack_events / 1, slack_socket / 1, telegram_updates / 1
}

#[test]
fn every_target_has_its_place_everywhere() {
    let names = |folder: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(root().join(folder)).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    };
    let known: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(known, TESTED.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(known, names("fuzz_targets"));
    assert_eq!(known, names("corpus"));
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    for name in known {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
        let target = root().join("fuzz_targets").join(format!("{name}.rs"));
        let calls = format!("herald::fuzzing::{name}(data)");
        assert!(std::fs::read_to_string(target).unwrap().contains(&calls), "{name}");
    }
}
