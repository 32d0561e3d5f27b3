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
