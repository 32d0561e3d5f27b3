//! The page in a browser, by `tools/page/test.mjs`, where Node, playwright-core and a Chromium are there
//! (tools/page/README.md says how they come); elsewhere this says what is missing and passes.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

fn on_path(names: &[&str]) -> Option<PathBuf> {
    let folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|path| path.is_file())
}

/// The browser, and the folder that playwright-core is in.
fn found() -> Result<(PathBuf, PathBuf), &'static str> {
    on_path(&["node"]).ok_or("no node")?;
    let named = std::env::var_os("HEXCUDA_BROWSER").map(PathBuf::from);
    let browser = named.or_else(|| on_path(&["chromium", "chromium-browser", "google-chrome"]));
    let folders = [std::env::var_os("HEXCUDA_PAGE_TOOLS").map(PathBuf::from), Some(REPOSITORY.into())];
    let tools =
        folders.into_iter().flatten().find(|folder| folder.join("node_modules/playwright-core").is_dir());
    Ok((browser.ok_or("no Chromium")?, tools.ok_or("no playwright-core")?))
}

#[test]
fn the_page_passes_in_a_browser() {
    let (browser, tools) = match found() {
        Ok(found) => found,
        Err(missing) => {
            // Past the test runner, which keeps to itself what a test that passes prints.
            let line = format!("the page was not tested in a browser: {missing} (tools/page/README.md)\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            let needed = std::env::var_os("HEXCUDA_BROWSER_NEEDED").is_some();
            assert!(!needed, "{line}");
            return;
        }
    };
    let output = Command::new("node")
        .arg(Path::new(REPOSITORY).join("tools/page/test.mjs"))
        .args(["--hexcuda", env!("CARGO_BIN_EXE_hexcuda"), "--browser"])
        .arg(browser)
        .current_dir(tools)
        .output()
        .unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    std::io::stderr().write_all(said.as_bytes()).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("the page passes"), "{said}");
}
