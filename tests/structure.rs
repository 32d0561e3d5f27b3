//! The shape of the source: imports point one way, `unsafe` stays in its two places, every op has the
//! file that bears its name, and no file grows past its budget.
//!
//! The order differs from the plan in two places, where the code is simpler so: the geometry lies below
//! the ops, because the field loss reads planes as `hexplane::field` does; and `page` lies below
//! `train`, because a run ends with its page.

use hexcuda::ops::OPS;
use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Top-level modules from the ground up. A module may use those of the lines above its own and,
/// for what stands on one line, itself alone.
const LAYERS: &[&[&str]] = &[
    &["error", "shape", "rng"],
    &["files", "console", "memory", "cuda", "cpu"],
    &["device", "ranks"],
    &["mesh"],
    &["hexplane"],
    &["dataset"],
    &["ops"],
    &["tape"],
    &["nn"],
    &["model", "page", "check"],
    &["train"],
    &["bench", "diagnose", "serve"],
    &["cli"],
];

/// Where `unsafe` may stand.
const UNSAFE: [&str; 2] = ["src/cpu", "src/cuda"];

/// Most lines of a file.
const LINES: usize = 500;

struct Source {
    /// Relative to the crate's folder.
    path: String,
    /// The text as it is, and with comments, literals and test modules blanked out.
    text: String,
    code: String,
}

impl Source {
    fn line(&self, offset: usize) -> usize {
        1 + self.text[..offset].matches('\n').count()
    }

    /// The top-level module that the file belongs to.
    fn module(&self) -> &str {
        let inside = self.path.trim_start_matches("src/");
        inside.split(['/', '.']).next().unwrap()
    }

    /// Offsets at which `word` stands by itself in the code.
    fn words(&self, word: &str) -> Vec<usize> {
        let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let alone = |&(at, _): &(usize, &str)| {
            !part(self.code[..at].chars().next_back()) && !part(self.code[at + word.len()..].chars().next())
        };
        self.code.match_indices(word).filter(alone).map(|(at, _)| at).collect()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() && !path.ends_with("target") {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

fn sources(folder: &str) -> Vec<Source> {
    let mut paths = Vec::new();
    rust_files(&root().join(folder), &mut paths);
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let path = path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
        let code = code_of(&text);
        Source { path, text, code }
    };
    paths.into_iter().map(read).collect()
}

/// The code alone, byte for byte in place: comments, string and character literals and what follows
/// `#[cfg(test)]` up to the end of that item become spaces.
fn code_of(text: &str) -> String {
    let mut code = text.as_bytes().to_vec();
    let mut at = 0;
    while at < text.len() {
        let end = literal_or_comment(&text[at..]).map_or(at, |length| at + length);
        blank(&mut code, at..end);
        at = end.max(at + 1);
        while !text.is_char_boundary(at) {
            at += 1;
        }
    }
    let blanked = String::from_utf8(code.clone()).unwrap();
    for attribute in ["#[cfg(test)]", "#[cfg(all(test,"] {
        for (start, _) in blanked.match_indices(attribute) {
            blank(&mut code, start..start + item_length(&blanked[start..]));
        }
    }
    String::from_utf8(code).unwrap()
}

fn blank(code: &mut [u8], range: Range<usize>) {
    code[range].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
}

/// How long the comment or the literal is that `text` starts with.
fn literal_or_comment(text: &str) -> Option<usize> {
    let rest = |prefix: &str| text.strip_prefix(prefix);
    if rest("//").is_some() {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if let Some(inside) = rest("/*") {
        return Some(inside.find("*/").map_or(text.len(), |end| end + 4));
    }
    for hashes in ["", "#", "##"] {
        if let Some(inside) = rest(&format!("r{hashes}\"")) {
            let end = format!("\"{hashes}");
            return Some(2 + hashes.len() + inside.find(&end).unwrap() + end.len());
        }
    }
    if let Some(inside) = rest("\"") {
        return Some(2 + unescaped(inside, '"').unwrap());
    }
    // A lifetime has no closing quote behind its first character.
    let inside = rest("'")?;
    let first = inside.chars().next()?;
    let closed = first == '\\' || inside[first.len_utf8()..].starts_with('\'');
    closed.then(|| 2 + unescaped(inside, '\'').unwrap())
}

fn unescaped(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if c == quote && !escaped {
            return Some(at);
        }
        escaped = c == '\\' && !escaped;
    }
    None
}

/// To the semicolon or the brace that closes the item.
fn item_length(code: &str) -> usize {
    let mut depth = 0usize;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth <= 1 => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// (offset, top-level name) of every path in `source` that starts at the crate's root.
fn uses(source: &Source) -> Vec<(usize, String)> {
    let inside = source.path.trim_start_matches("src/");
    let depth = inside.matches('/').count() + usize::from(!inside.ends_with("mod.rs"));
    let to_root = "super::".repeat(depth);
    let mut found = Vec::new();
    for prefix in ["crate::", &to_root] {
        for (at, _) in source.code.match_indices(prefix) {
            // Inside a longer path, or one that a macro spells with `$crate`.
            if source.code[..at].ends_with(['$', ':']) || prefix.is_empty() {
                continue;
            }
            let rest = &source.code[at + prefix.len()..];
            found.extend(first_names(rest).into_iter().map(|name| (at, name)));
        }
    }
    found
}

/// The first name of a path, or of each path in a group in braces.
fn first_names(path: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = path.strip_prefix('{') else { return vec![name(path)] };
    let (mut depth, mut start, mut names) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                names.push(name(group[start..at].trim_start()));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// What is wrong with the imports of a file, a line each.
fn wrong_imports(source: &Source) -> Vec<String> {
    let (own, mut wrong) = (source.module(), Vec::new());
    if ["lib", "main"].contains(&own) {
        return wrong;
    }
    for (at, name) in uses(source) {
        // The crate's root exports the error type again.
        if name == own || ["Error", "Result"].contains(&name.as_str()) {
            continue;
        }
        let below = layer(&name).is_some_and(|below| below < layer(own).unwrap_or(0));
        if !below {
            wrong.push(format!("{}:{}: `{own}` uses `{name}`", source.path, source.line(at)));
        }
    }
    wrong
}

fn holds(wrong: Vec<String>, rule: &str) {
    assert!(wrong.is_empty(), "{rule}:\n{}", wrong.join("\n"));
}

#[test]
fn imports_point_one_way() {
    let wrong: Vec<String> = sources("src").iter().flat_map(wrong_imports).collect();
    holds(wrong, "a module uses only those below it in LAYERS");
}

#[test]
fn every_module_has_its_place_in_the_order() {
    let sources = sources("src");
    let found: BTreeSet<&str> = sources.iter().map(Source::module).collect();
    let listed: BTreeSet<&str> = LAYERS.iter().copied().flatten().copied().chain(["lib", "main"]).collect();
    assert_eq!(found, listed, "the modules in src/, and those in LAYERS");
}

#[test]
fn unsafe_stands_in_cpu_and_cuda_alone() {
    let mut wrong = Vec::new();
    for folder in ["src", "tests", "benches", "examples"] {
        for source in sources(folder).iter().filter(|s| !UNSAFE.iter().any(|f| s.path.starts_with(f))) {
            let lines = source.words("unsafe").into_iter().map(|at| source.line(at));
            wrong.extend(lines.map(|line| format!("{}:{line}: unsafe", source.path)));
        }
    }
    holds(wrong, "`unsafe` only under src/cpu and src/cuda");
}

#[test]
fn every_unsafe_says_why_it_is_sound() {
    let mut wrong = Vec::new();
    for source in sources("src") {
        let lines: Vec<&str> = source.text.lines().collect();
        // The type of a function pointer promises nothing.
        let uses =
            source.words("unsafe").into_iter().filter(|&at| !source.code[at..].starts_with("unsafe fn("));
        for at in uses {
            let line = source.line(at);
            // In the comment or the attributes right above, or in the docs of an unsafe function.
            let above = lines[..line - 1].iter().rev().take(12);
            let near = above.take_while(|l| !l.trim().is_empty() && l.trim() != "}");
            if !near.chain([&lines[line - 1]]).any(|l| l.to_lowercase().contains("safety")) {
                wrong.push(format!("{}:{line}: {}", source.path, lines[line - 1].trim()));
            }
        }
    }
    holds(wrong, "a comment SAFETY says which invariant an unsafe relies on");
}

#[test]
fn every_op_has_the_file_of_its_name() {
    let names: BTreeSet<String> = OPS.iter().map(|op| op.name().to_string()).collect();
    assert_eq!(names.len(), OPS.len(), "two ops share a name");
    let sources = sources("src/ops");
    let with_op = sources.iter().filter(|source| source.code.contains("impl Op for"));
    let stem = |source: &Source| source.path["src/ops/".len()..].trim_end_matches(".rs").to_string();
    assert_eq!(with_op.map(stem).collect::<BTreeSet<_>>(), names, "files with an op, and OPS");
}

/// Kernels without a gradient, and their module.
const KERNEL_MODULES: &[(&str, &str)] = &[
    ("adam", "src/nn/adam"),
    ("cache", "src/hexplane/cache.rs"),
    ("distance", "src/mesh/distance"),
    ("fuse", "src/hexplane/field"),
    ("marching_cubes", "src/mesh/marching_cubes"),
    ("rasterize", "src/hexplane/rasterize"),
];

#[test]
fn every_op_has_kernels_and_every_kernel_an_owner() {
    let names: Vec<&str> = OPS.iter().map(|op| op.name()).collect();
    let files = fs::read_dir(root().join("kernels")).unwrap().map(|entry| entry.unwrap().path());
    let stems: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|ending| ending == "cu"))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let without: Vec<&&str> = names.iter().filter(|name| !stems.iter().any(|stem| stem == **name)).collect();
    assert!(without.is_empty(), "ops without kernels/<op>.cu: {without:?}");
    let owned = |stem: &str| {
        let of_op = |name: &&str| {
            stem.strip_prefix(*name).is_some_and(|rest| rest.is_empty() || rest.starts_with("_backward"))
        };
        let module = KERNEL_MODULES.iter().find(|(kernel, _)| *kernel == stem);
        names.iter().any(of_op) || module.is_some_and(|(_, module)| root().join(module).exists())
    };
    let strays: Vec<&String> = stems.iter().filter(|stem| !owned(stem)).collect();
    assert!(strays.is_empty(), "kernels of no op and no module: {strays:?}");
}

#[test]
fn no_file_is_longer_than_its_budget() {
    let mut wrong = Vec::new();
    for source in ["src", "tests", "benches", "examples", "tools"].iter().flat_map(|f| sources(f)) {
        let lines = source.text.lines().count();
        if lines > LINES {
            wrong.push(format!("{}:{LINES}: {lines} lines", source.path));
        }
    }
    holds(wrong, "split the file by what its parts are about");
}

#[test]
fn the_scan_sees_what_it_should() {
    let source =
        |path: &str, text: &str| Source { path: path.into(), text: text.into(), code: code_of(text) };
    let mesh = "//! crate::train\nuse crate::{\n    cpu::{simd, gemm},\n    tape::Tape, Error,\n};\n\
        const A: &str = \"crate::cli \\\" \"; // unsafe\nfn f<'a>(x: &'a str) -> char { crate::nn::g(); '\"' }\n\
        #[cfg(test)]\nmod tests { use crate::train; fn t() { unsafe {} } }\nuse super::super::model;\n";
    let mesh = source("src/mesh/io/ply.rs", &mesh.replace("super::super::", "super::super::super::"));
    assert_eq!(
        wrong_imports(&mesh),
        [
            "src/mesh/io/ply.rs:2: `mesh` uses `tape`",
            "src/mesh/io/ply.rs:7: `mesh` uses `nn`",
            "src/mesh/io/ply.rs:10: `mesh` uses `model`",
        ]
    );
    assert!(mesh.words("unsafe").is_empty());
    let raw = source("src/rng.rs", "let unsafely = r#\"unsafe \" \"#; unsafe { }");
    assert_eq!(raw.words("unsafe"), [31]);
}
