//! The report of counters and findings.

use std::path::PathBuf;
use std::ptr::null_mut;

use cudarc::driver::sys;

use crate::support::*;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("report.json")
}

emulated! {
    fn counters_and_findings_are_written_as_json["CUDA_EMULATOR_REPORT" = path().to_str().unwrap()] {
        start();
        let (word, set_word) = (upload(&[0]), kernel("set"));
        for value in 0..3 {
            ok(set(set_word, null_mut(), word, value));
        }
        ok(unsafe { sys::cuMemFree_v2(word) });
        ok(set(set_word, null_mut(), word, 1));
    } errors(text) {
        let report = std::fs::read_to_string(path()).unwrap();
        assert!(report.contains("\"kernel\": \"set\", \"launches\": 3"), "{report}");
        // One store of one sector in each launch.
        assert!(report.contains("\"store_sectors\": 3, \"store_sectors_ideal\": 3"), "{report}");
        assert!(report.contains("{\"kind\": \"freed memory\", \"message\": \"freed memory: "), "{report}");
        assert!(text.contains("kernel") && text.contains("lane-instr."), "{text}");
    }
}

fn sampled() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("sampled.json")
}

emulated! {
    fn launches_are_listed_and_a_sample_of_their_blocks_stands_for_all[
        "CUDA_EMULATOR_REPORT" = sampled().to_str().unwrap(),
        "CUDA_EMULATOR_LAUNCHES" = "1",
        "CUDA_EMULATOR_BLOCKS" = "2"
    ] {
        start();
        let (word, set_word) = (upload(&[0]), kernel("set"));
        ok(set(set_word, null_mut(), word, 258));
        ok(unsafe { sys::cuMemFree_v2(word) });
        ok(launch(kernel("narrow"), 7, 64, 0, null_mut(), &mut []));
    } errors(text) {
        let report = std::fs::read_to_string(sampled()).unwrap();
        assert!(report.contains("\"sampled_blocks\": 2"), "{report}");
        let line = |start: &str| report.lines().find(|line| line.trim().starts_with(start)).unwrap_or_default();
        let set = line("{\"kernel\": \"set\", \"grid\": [1, 1, 1]");
        assert!(set.contains("\"02010000\"]") && set.contains("\"store_sectors\": 1"), "{report}");
        let narrow = line("{\"kernel\": \"narrow\", \"grid\": [7, 1, 1], \"block\": [64, 1, 1]");
        assert!(narrow.contains("\"blocks\": 7"), "{report}");
        assert!(text.contains("at most 2 blocks of each launch run"), "{text}");
    }
}

emulated! {
    fn a_dash_asks_for_the_table_alone["CUDA_EMULATOR_REPORT" = "-"] {
        start();
        ok(launch(kernel("narrow"), 2, 64, 0, null_mut(), &mut []));
    } errors(text) {
        assert!(text.lines().any(|line| line.starts_with("narrow")), "{text}");
    }
}

emulated! {
    fn nothing_is_said_without_cause[] {
        start();
        ok(launch(kernel("narrow"), 2, 64, 0, null_mut(), &mut []));
    } errors(text) {
        assert!(!text.contains("cuda-emulator") && !text.contains("narrow"), "{text}");
    }
}
