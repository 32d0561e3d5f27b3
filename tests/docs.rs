//! The documentation names what the program has: every command, every setting, every camera.

use hexcuda::hexplane::VIEWS;
use hexcuda::train::{Preset, Settings};
use std::fs;
use std::path::Path;
use std::process::Command;

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn the_readme_names_every_command() {
    let help = Command::new(env!("CARGO_BIN_EXE_hexcuda")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let listed = help.split("Commands:").nth(1).and_then(|rest| rest.split("Options:").next()).unwrap();
    let commands: Vec<&str> =
        listed.lines().filter_map(|line| line.split_whitespace().next()).filter(|c| *c != "help").collect();
    assert!(commands.contains(&"train"), "{help}");
    let readme = document("README.md");
    for command in commands {
        assert!(readme.contains(&format!("| `hexcuda {command}")), "README.md lacks `hexcuda {command}`");
    }
}

#[test]
fn the_method_names_every_setting() {
    let method = document("docs/method.md");
    let settings: toml::Table = Settings::preset(Preset::Paper).to_toml().unwrap().parse().unwrap();
    for (key, value) in &settings {
        match value {
            toml::Value::Table(section) => {
                assert!(method.contains(&format!("`[{key}]`")), "docs/method.md lacks [{key}]");
                for key in section.keys() {
                    assert!(method.contains(&format!("`{key}`")), "docs/method.md lacks {key}");
                }
            }
            _ => assert!(method.contains(&format!("| `{key}` |")), "docs/method.md lacks {key}"),
        }
    }
}

#[test]
fn the_page_about_serve_names_every_address() {
    let (routes, page) = (document("src/serve/routes.rs"), document("docs/serve.md"));
    let addresses: Vec<&str> =
        routes.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(addresses.contains(&"/api/runs/{id}/planes"), "{addresses:?}");
    for address in addresses {
        let word = address.rsplit('/').find(|part| !part.starts_with('{')).unwrap();
        assert!(page.contains(&format!("/{word}")), "docs/serve.md lacks {address}");
    }
}

#[test]
fn the_method_has_the_cameras() {
    let axis = |direction: [f32; 3]| {
        let at = direction.iter().position(|c| *c != 0.0).unwrap();
        format!("{}{}", if direction[at] < 0.0 { '-' } else { '+' }, ['x', 'y', 'z'][at])
    };
    let method = document("docs/method.md");
    let rows: Vec<Vec<&str>> =
        method.lines().map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect();
    let found: Vec<&Vec<&str>> = rows
        .iter()
        .filter(|row| row.len() == 4 && VIEWS.iter().any(|view| row[0].split(' ').next() == Some(view.name)))
        .collect();
    assert_eq!(found.len(), VIEWS.len());
    for (row, view) in found.iter().zip(VIEWS) {
        assert_eq!(row[0].split(' ').next(), Some(view.name));
        assert_eq!(row[1..], [axis(view.forward), axis(view.right), axis(view.up)], "{}", view.name);
    }
}
