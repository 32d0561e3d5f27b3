//! The page as one file: its style and its modules inline, what a server would answer as blocks of data.
//!
//! The policy of the file names the hashes of its one style and its one script and allows nothing else, so that nothing
//! in the data can run, and nothing is asked of a network.

use super::html::{escape, script_safe};
use super::{ASSETS, INDEX};
use crate::error::{Error, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::io::Write;

/// Where the modules begin.
const ROOT: &str = "main.js";
const STYLES: [&str; 2] = ["style.css", "panels.css"];
/// The lines of the frame that load them.
const SCRIPT: &str = r#"<script type="module" src="assets/main.js"></script>"#;

/// Planes or a mesh as the server would send them, deflated and in base64.
pub struct Block {
    text: String,
}

impl Block {
    /// # Errors
    /// None that memory allows.
    pub fn new(bytes: &[u8]) -> Result<Self> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        let packed = encoder.write_all(bytes).and_then(|()| encoder.finish());
        let packed = packed.map_err(|error| Error::new("page", error, "this is a bug: report it"))?;
        Ok(Self { text: BASE64.encode(packed) })
    }

    /// Bytes that it takes in the file.
    pub fn size(&self) -> usize {
        self.text.len()
    }
}

/// What block `index` of a file is called.
pub fn block_name(index: usize) -> String {
    format!("b-{index}")
}

/// The file. `data` is what `source.js` reads; it names blocks by [`block_name`].
pub fn file(title: &str, data: &Value, blocks: &[Block]) -> String {
    let style: String = STYLES.iter().map(|name| asset(name)).collect();
    let script = joined();
    let policy = format!(
        "default-src 'none'; img-src data: blob:; style-src '{}'; script-src '{}'; base-uri 'none'; form-action 'none'",
        hash(&style),
        hash(&script)
    );
    let mut end =
        format!("<script type=\"application/json\" id=\"hexcuda-data\">{}</script>\n", script_safe(data));
    for (index, block) in blocks.iter().enumerate() {
        end += &format!(
            "<script type=\"application/octet-stream\" id=\"{}\">{}</script>\n",
            block_name(index),
            block.text
        );
    }
    end += &format!("<script type=\"module\">{script}</script>");
    let meta = format!("<meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">");
    let mut page =
        INDEX.replacen("<meta charset=\"utf-8\">", &format!("<meta charset=\"utf-8\">\n{meta}"), 1);
    page = page.replacen("<title>hexcuda</title>", &format!("<title>{}</title>", escape(title)), 1);
    for (index, name) in STYLES.iter().enumerate() {
        let inline = if index == 0 { format!("<style>{style}</style>") } else { String::new() };
        page = page.replacen(&format!("<link rel=\"stylesheet\" href=\"assets/{name}\">\n"), &inline, 1);
    }
    page.replacen(SCRIPT, &end, 1)
}

/// How a policy names a text.
fn hash(text: &str) -> String {
    format!("sha256-{}", BASE64.encode(Sha256::digest(text)))
}

fn asset(name: &str) -> &'static str {
    ASSETS.iter().find(|asset| asset.name == name).map_or("", |asset| asset.text)
}

/// All modules as one, each behind those that it imports. Names at the top level are unique over all of them.
fn joined() -> String {
    let (mut order, mut text) = (Vec::new(), String::new());
    visit(ROOT, &mut order);
    for name in order {
        for line in asset(name).lines().filter(|line| !line.starts_with("import ")) {
            text += line.strip_prefix("export ").unwrap_or(line);
            text.push('\n');
        }
    }
    text
}

fn visit(name: &'static str, order: &mut Vec<&'static str>) {
    for line in asset(name).lines().filter(|line| line.starts_with("import ")) {
        let from = line.split("\"./").nth(1).and_then(|rest| rest.split('"').next());
        if let Some(from) = from.filter(|from| !order.contains(from)) {
            visit(from, order);
        }
    }
    if !order.contains(&name) {
        order.push(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn modules_can_be_joined() {
        let script = joined();
        let code = |line: &&str| !line.trim_start().starts_with(['*', '/']);
        assert!(
            !script
                .lines()
                .filter(code)
                .any(|line| line.starts_with("import ") || line.starts_with("export "))
        );
        assert!(!script.contains("</script") && !script.contains("<!--"));
        let mut order = Vec::new();
        visit(ROOT, &mut order);
        let modules = ASSETS.iter().filter(|asset| asset.kind == "text/javascript");
        let all: BTreeSet<&str> = modules.map(|asset| asset.name).collect();
        assert_eq!(order.iter().copied().collect::<BTreeSet<_>>(), all, "every module is reached");
        let mut names = BTreeSet::new();
        for line in script.lines() {
            let line = line.strip_prefix("async ").unwrap_or(line);
            let kinds = ["const ", "let ", "function ", "class "];
            let Some(rest) = kinds.iter().find_map(|kind| line.strip_prefix(kind)) else { continue };
            let name: String =
                rest.chars().take_while(|c| c.is_alphanumeric() || "_$".contains(*c)).collect();
            assert!(name.is_empty() || names.insert(name.clone()), "{name} stands in two modules");
        }
        assert!(names.len() > 50, "{names:?}");
    }
}
