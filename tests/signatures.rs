//! What the build script reads of CUDA sources, and what it refuses.

#[path = "../build/signatures.rs"]
mod signatures;

use signatures::{Kind, parse};

const SOURCE: &str = "constexpr int THREADS = 128;\n// A line apart.\n\n// bound: bytes; 90 %\n// launch: blocks (of) 256\n\
    extern \"C\" __global__ void __launch_bounds__(256, 2) op_forward(\n    const float* __restrict__ x, // [n] input (read)\n\
    \u{20}   unsigned long long *y,        // [n] output,\n                                  // in keys\n    int n // values\n) { }\n\
    extern \"C\" __global__ void __launch_bounds__(THREADS)\nop_backward(\n    double s // scale\n) {}\n";

#[test]
fn signatures_are_read_with_their_comments() {
    let found = parse(SOURCE).unwrap();
    assert_eq!(found.len(), 2);
    let [forward, backward] = &found[..] else { unreachable!("two were counted") };
    assert_eq!((forward.name.as_str(), forward.threads, forward.line), ("op_forward", 256, 6));
    assert_eq!(forward.comment, "bound: bytes; 90 %\nlaunch: blocks (of) 256");
    let [x, y, n] = &forward.parameters[..] else { panic!("{:?}", forward.parameters) };
    assert_eq!((x.name.as_str(), x.kind, x.pointer, x.constant), ("x", Kind::F32, true, true));
    assert_eq!((y.name.as_str(), y.kind.rust(), y.pointer, y.constant), ("y", "u64", true, false));
    assert_eq!(y.comment, "[n] output, in keys");
    assert_eq!((n.name.as_str(), n.kind, n.pointer), ("n", Kind::I32, false));
    assert_eq!((backward.name.as_str(), backward.threads), ("op_backward", 128));
    assert_eq!(backward.parameters[0].kind, Kind::F64);
}

#[test]
fn what_a_launch_could_not_pass_is_refused_with_its_line() {
    let refusal = |from: &str, to: &str| parse(&SOURCE.replace(from, to)).unwrap_err();
    assert!(refusal("__launch_bounds__(256, 2) ", "").starts_with("line 6: expected __launch_bounds__"));
    assert!(refusal("(256, 2)", "(N)").contains("expected a number of threads, not `N`"));
    assert!(refusal("int n // values", "Shape n // values").contains("`n` has the type `Shape`"));
    assert!(refusal("int n // values", "int n").contains("`n` has no comment"));
}
