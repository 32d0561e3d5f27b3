//! Nothing on the disk changes unseen: whichever bytes of a set are flipped, cut off, swapped or of another version.

use super::*;
use proptest::prelude::*;
use std::sync::OnceLock;

/// Two sets with the same settings and other meshes, in several shards, one record of which was replaced.
fn sets() -> &'static [BTreeMap<PathBuf, Vec<u8>>; 2] {
    static SETS: OnceLock<[BTreeMap<PathBuf, Vec<u8>>; 2]> = OnceLock::new();
    SETS.get_or_init(|| {
        [0.3, 0.4].map(|width| {
            let folder = tempfile::tempdir().unwrap();
            let (meshes, set) = (meshes(folder.path(), 5), folder.path().join("set"));
            let settings = SetSettings { size: 96, points: 512, ..settings() };
            let build =
                || build_from(&in_folders(std::slice::from_ref(&meshes)).unwrap(), &set, &settings).unwrap();
            build();
            for name in ["e0.obj", "e1.obj"] {
                io::write(&meshes.join(name), &ellipsoid(width)).unwrap();
            }
            assert_eq!(build().changed, 2);
            let files = files(&set);
            assert_eq!(files.len(), 2 + 3, "{:?}", files.keys());
            files
        })
    })
}

/// That the set is refused in one line, which names the set's files or a mesh.
fn is_refused(files: &BTreeMap<PathBuf, Vec<u8>>, what: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set");
    put(&path, files);
    let line = match Set::open(&path) {
        Err(error) => error.to_string(),
        Ok(set) => {
            let corrupted = set.corrupted();
            assert!(!corrupted.is_empty(), "{what}: not seen");
            // Whoever reads such a mesh is told too; one that was replaced nobody reads.
            for name in &corrupted {
                let index = set.find(name).unwrap();
                let current = set.record(index).err().map(|error| error.to_string());
                assert!(current.is_none_or(|line| line.contains(name)), "{what}: {name}");
            }
            corrupted.join(", ")
        }
    };
    assert!(!line.contains('\n'), "{line}");
    line
}

#[derive(Clone, Debug)]
enum Harm {
    Flip {
        at: usize,
        mask: u8,
    },
    Zero {
        at: usize,
        len: usize,
    },
    Cut {
        len: usize,
    },
    Append {
        len: usize,
    },
    /// Two stretches of one file.
    Swap {
        a: usize,
        b: usize,
        len: usize,
    },
    /// A stretch of the same file of the other set.
    Graft {
        at: usize,
        len: usize,
    },
    Remove,
}

fn harm() -> impl Strategy<Value = Harm> {
    let place = 0usize..1 << 24;
    let len = 1usize..5000;
    prop_oneof![
        4 => (place.clone(), 1u8..).prop_map(|(at, mask)| Harm::Flip { at, mask }),
        2 => (place.clone(), len.clone()).prop_map(|(at, len)| Harm::Zero { at, len }),
        2 => place.clone().prop_map(|len| Harm::Cut { len }),
        1 => len.clone().prop_map(|len| Harm::Append { len }),
        2 => (place.clone(), place.clone(), len.clone()).prop_map(|(a, b, len)| Harm::Swap { a, b, len }),
        2 => (place, len).prop_map(|(at, len)| Harm::Graft { at, len }),
        1 => Just(Harm::Remove),
    ]
}

/// The set with file number `file` harmed; `None` where that changes nothing.
fn harmed(file: usize, harm: &Harm) -> Option<BTreeMap<PathBuf, Vec<u8>>> {
    let [set, other] = sets();
    let mut files = set.clone();
    let name = set.keys().nth(file % set.len()).unwrap().clone();
    let bytes = files.get_mut(&name).unwrap();
    let size = bytes.len();
    let stretch = |at: usize, len: usize| at % size..(at % size + len).min(size);
    match *harm {
        Harm::Flip { at, mask } => bytes[at % size] ^= mask,
        Harm::Zero { at, len } => bytes[stretch(at, len)].fill(0),
        Harm::Cut { len } => bytes.truncate(len % size),
        Harm::Append { len } => bytes.resize(size + len, 7),
        Harm::Swap { a, b, len } => {
            let len = len.min(size - (a % size).max(b % size));
            let (from, into) = (bytes[stretch(a, len)].to_vec(), bytes[stretch(b, len)].to_vec());
            bytes[stretch(a, len)].copy_from_slice(&into);
            bytes[stretch(b, len)].copy_from_slice(&from);
        }
        Harm::Graft { at, len } => {
            let stretch = stretch(at, len);
            let from = other[&name].get(stretch.clone())?.to_vec();
            bytes[stretch].copy_from_slice(&from);
        }
        Harm::Remove => {
            files.remove(&name);
            return Some(files);
        }
    }
    (files[&name] != set[&name]).then_some(files)
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: proptest::test_runner::RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_is_changed_is_seen(file in 0usize..5, harm in harm()) {
        if let Some(files) = harmed(file, &harm) {
            is_refused(&files, &format!("file {file}, {harm:?}"));
        }
    }
}

#[test]
fn sets_that_nobody_touched_are_not_refused() {
    for files in sets() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path().join("set").as_path(), files);
        assert!(Set::open(&folder.path().join("set")).unwrap().corrupted().is_empty());
    }
}

/// Files of the other set, or of one another.
#[test]
fn files_that_traded_places_are_seen() {
    let [set, other] = sets();
    let names: Vec<&PathBuf> = set.keys().collect();
    for (place, a) in names.iter().enumerate() {
        // The first shard holds the same meshes in both.
        if set[*a] != other[*a] {
            let mut files = set.clone();
            files.insert((*a).clone(), other[*a].clone());
            is_refused(&files, &format!("{a:?} of another set"));
        }
        for b in &names[..place] {
            let mut files = set.clone();
            files.insert((*a).clone(), set[*b].clone());
            files.insert((*b).clone(), set[*a].clone());
            is_refused(&files, &format!("{a:?} and {b:?}"));
        }
    }
}

#[test]
fn other_versions_and_whole_lines_that_are_gone_are_named() {
    let [set, _] = sets();
    let (manifest, journal) = (Path::new("manifest.json"), Path::new("journal.jsonl"));
    let text = String::from_utf8(set[manifest].clone()).unwrap();
    let with = |name: &Path, bytes: Vec<u8>| {
        let mut files = set.clone();
        files.insert(name.to_path_buf(), bytes);
        files
    };
    let line = is_refused(&with(manifest, text.replace("set-1", "set-2").into()), "version");
    assert!(line.contains("hexcuda-set-2") && line.contains("expected \"hexcuda-set-1\""), "{line}");
    let line = is_refused(&with(manifest, text.replace("\"fp16\"", "\"fp32\"").into()), "a setting");
    assert!(line.contains("manifest.json") && line.contains("checksum"), "{line}");
    let lines: Vec<&[u8]> = set[journal].split_inclusive(|&byte| byte == b'\n').collect();
    let line = is_refused(&with(journal, lines[..lines.len() - 1].concat()), "the last line");
    assert!(line.contains("7 lines, the manifest has 8"), "{line}");
    let line =
        is_refused(&with(journal, [&lines[..2], &lines[3..]].concat().concat()), "a line in the middle");
    assert!(line.contains("journal.jsonl: line 3"), "{line}");
    let line = is_refused(&with(journal, [lines[1], lines[0]].concat()), "the order");
    assert!(line.contains("journal.jsonl: line 1"), "{line}");
}

/// The program itself: exit code 1 and one line.
#[test]
fn the_program_names_a_corrupted_mesh_and_refuses_it() {
    let folder = tempfile::tempdir().unwrap();
    let set = folder.path().join("set");
    put(&set, &sets()[0]);
    let (shard, entry) = {
        let open = Set::open(&set).unwrap();
        let place = open.entries[open.find("e3").unwrap()].place.clone().unwrap();
        (format!("shards/{:05}.bin", place.shard), place)
    };
    let mut bytes = fs::read(set.join(&shard)).unwrap();
    bytes[(entry.offset + entry.len / 2) as usize] ^= 1;
    fs::write(set.join(&shard), bytes).unwrap();
    for command in [&["dataset", "verify", "set"][..], &["dataset", "export", "set", "e3", "-o", "a.npy"]] {
        let (code, said, errors) = program(command, folder.path());
        assert_eq!((code, said.as_str()), (Some(1), ""), "{errors}");
        assert!(errors.lines().count() == 1 && errors.contains("e3") && errors.contains("; "), "{errors}");
    }
    assert_eq!(program(&["dataset", "export", "set", "e0", "-o", "a.npy"], folder.path()).0, Some(0));
}
