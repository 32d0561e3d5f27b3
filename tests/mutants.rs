//! Kernels broken on purpose, each in one place: the checks on the software driver must catch every one.
//!
//! The sources are compiled at run time, so these tests need NVRTC (`libnvrtc.so.12`) where the loader finds it, and
//! are asked for by name: `cargo test --release --test mutants -- --ignored`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// What must notice.
#[derive(Clone, Copy)]
enum Judge {
    /// `hexcuda check` of an op or of a part of the geometry.
    Op(&'static str),
    /// The same in bf16, where arrays lie in 2 bytes a value.
    Bf16(&'static str),
    /// A tiny training run.
    Training,
}

struct Mutant {
    what: &'static str,
    file: &'static str,
    /// Stands once in the file.
    from: &'static str,
    to: &'static str,
    judge: Judge,
    /// One of these words stands in what the program or the driver says.
    caught_by: &'static [&'static str],
}

const WRONG_VALUES: &[&str] = &["is off by", "read", "out-of-bounds", "out of bounds"];
const BOUNDS: &[&str] = &["out of bounds", "out-of-bounds", "beyond"];
const RACE: &[&str] = &["race", "uninitialised", "is off by"];

const OTHER_PLANES: &[&str] = &["not the values of the CPU", "another run, other bits"];

const MUTANTS: &[Mutant] = &[
    Mutant {
        what: "convolution: no barrier between filling a stage and reading it",
        file: "implicit_gemm.cuh",
        from: "        __syncthreads();\n        const int next",
        to: "        const int next",
        judge: Judge::Op("conv2d"),
        caught_by: RACE,
    },
    Mutant {
        what: "convolution: no wait for the asynchronous copies",
        file: "implicit_gemm.cuh",
        from: "        matrix::wait_for_copies<kStages - 2>();\n",
        to: "",
        judge: Judge::Op("conv2d"),
        caught_by: &["wait", "asynchronous"],
    },
    Mutant {
        what: "transposed convolution: the wait is one stage late",
        file: "implicit_gemm.cuh",
        from: "matrix::wait_for_copies<kStages - 2>();",
        to: "matrix::wait_for_copies<kStages - 1>();",
        judge: Judge::Op("conv_transpose2d"),
        caught_by: &["wait", "asynchronous"],
    },
    Mutant {
        what: "convolution: no guard behind the last row of a tile",
        file: "implicit_gemm.cuh",
        from: "row < rows ? first + row * columns : -1",
        to: "first + row * columns",
        judge: Judge::Op("conv2d"),
        caught_by: &["out of bounds", "out-of-bounds", "beyond", "is off by", "wrote outside"],
    },
    Mutant {
        what: "sums of parts: no guard behind the last value",
        file: "convolution.cuh",
        from: "    if (i >= length) return;\n",
        to: "",
        judge: Judge::Op("conv2d"),
        caught_by: BOUNDS,
    },
    Mutant {
        what: "bias gradient: no barrier before the lanes are added up",
        file: "convolution.cuh",
        from: "    shared[thread] = sum;\n    __syncthreads();\n",
        to: "    shared[thread] = sum;\n",
        judge: Judge::Op("conv2d"),
        caught_by: RACE,
    },
    Mutant {
        what: "bias gradient: the strides of pixel and channel swapped",
        file: "convolution.cuh",
        from: "dy + pixel * channels + channel",
        to: "dy + channel * pixels + pixel",
        judge: Judge::Op("conv2d"),
        caught_by: WRONG_VALUES,
    },
    Mutant {
        what: "block sum: no barrier between the warps' sums and their sum",
        file: "common.cuh",
        from: "shared[threadIdx.x / WARP] = value;\n    __syncthreads();\n",
        to: "shared[threadIdx.x / WARP] = value;\n",
        judge: Judge::Op("mse"),
        caught_by: RACE,
    },
    Mutant {
        what: "mean squared error: no guard behind the last value",
        file: "mse.cu",
        from: "        if (i < n) {\n            float d",
        to: "        {\n            float d",
        judge: Judge::Op("mse"),
        caught_by: BOUNDS,
    },
    Mutant {
        what: "group norm: the rows of a chunk are added without a barrier",
        file: "group_norm.cuh",
        from: "    shared[1][row][lane] = *b;\n    __syncthreads();\n",
        to: "    shared[1][row][lane] = *b;\n",
        judge: Judge::Op("group_norm"),
        caught_by: RACE,
    },
    Mutant {
        what: "group norm: the strides of pixel and channel swapped",
        file: "group_norm.cuh",
        from: "float d = storage.load(image + p * channels + c) - first;",
        to: "float d = storage.load(image + c * pixels + p) - first;",
        judge: Judge::Op("group_norm"),
        caught_by: WRONG_VALUES,
    },
    Mutant {
        what: "convolution: the strides of rows and columns swapped",
        file: "implicit_gemm.cuh",
        from: "(pixel[i] + down * width + right)",
        to: "(pixel[i] + right * width + down)",
        judge: Judge::Op("conv2d"),
        caught_by: WRONG_VALUES,
    },
    Mutant {
        what: "warp sum: the last exchange between lanes left out",
        file: "common.cuh",
        from: "distance > 0; distance /= 2",
        to: "distance > 1; distance /= 2",
        judge: Judge::Op("mse"),
        caught_by: &["is off by"],
    },
    Mutant {
        what: "rasteriser: no guard behind the last triangle",
        file: "rasterize.cu",
        from: "    if (triangle >= triangle_count) return;\n    Screen screen",
        to: "    Screen screen",
        judge: Judge::Op("rasterize"),
        caught_by: BOUNDS,
    },
    Mutant {
        what: "rasteriser: no guard behind the last pixel",
        file: "rasterize.cu",
        from: "    if (pixel >= size * size) return;\n    int row, column;\n    unsigned long long key",
        to: "    int row, column;\n    unsigned long long key",
        judge: Judge::Op("rasterize"),
        caught_by: BOUNDS,
    },
    Mutant {
        what: "rasteriser: the strides of row and column swapped",
        file: "rasterize.cu",
        from: "keys + row * size + column",
        to: "keys + column * size + row",
        judge: Judge::Op("rasterize"),
        caught_by: OTHER_PLANES,
    },
    Mutant {
        what: "rasteriser: the atomic minimum of a pixel made a plain store",
        file: "rasterize.cu",
        from: "    atomicMin(near, (unsigned long long)__float_as_uint(depth) << 32 | triangle);",
        to: "    *near = (unsigned long long)__float_as_uint(depth) << 32 | triangle;",
        judge: Judge::Op("rasterize"),
        caught_by: OTHER_PLANES,
    },
    Mutant {
        what: "rasteriser: the atomic addition to the queue made a plain one",
        file: "rasterize.cu",
        from: "atomicAdd(queue + blockIdx.y, count << ENTRY_BITS | 1ull);",
        to: "queue[blockIdx.y]; queue[blockIdx.y] = drawn + (count << ENTRY_BITS | 1ull);",
        judge: Judge::Op("rasterize"),
        caught_by: OTHER_PLANES,
    },
    Mutant {
        what: "rasteriser: an edge belongs to neither of its triangles",
        file: "rasterize.cuh",
        from: "(step == 0 && row_step > 0) ? 0 : 1",
        to: "(step == 0 && row_step > 0) ? 1 : 1",
        judge: Judge::Op("rasterize"),
        caught_by: OTHER_PLANES,
    },
    Mutant {
        what: "rasteriser: the sides that pixels show are not summed over the warp",
        file: "rasterize.cu",
        from: "        inside += __shfl_xor_sync(~0u, inside, step);\n",
        to: "",
        judge: Judge::Op("rasterize"),
        caught_by: OTHER_PLANES,
    },
    Mutant {
        what: "field: no barrier between the squares of a row and their minima",
        file: "fuse.cu",
        from: "mul(columns[row + x], columns[row + x]);\n    __syncthreads();\n",
        to: "mul(columns[row + x], columns[row + x]);\n",
        judge: Judge::Op("surface"),
        caught_by: &["race", "uninitialised"],
    },
    Mutant {
        what: "marching cubes: no barrier between the warps' sums and their scan",
        file: "marching_cubes.cu",
        from: "    if (lane == 31) sums[warp] = sum;\n    __syncthreads();\n",
        to: "    if (lane == 31) sums[warp] = sum;\n",
        judge: Judge::Op("surface"),
        caught_by: &["race", "uninitialised"],
    },
    Mutant {
        what: "2 bytes a value: single values outside an image are not zeros",
        file: "implicit_gemm.cuh",
        from: "from >= 0 ? values[from] : 0;",
        to: "values[max(from, 0)];",
        judge: Judge::Bf16("conv2d"),
        caught_by: WRONG_VALUES,
    },
    Mutant {
        what: "2 bytes a value: no barrier between filling a stage and reading it",
        file: "implicit_gemm.cuh",
        from: "        __syncthreads();\n        const int next",
        to: "        const int next",
        judge: Judge::Bf16("conv_transpose2d"),
        caught_by: RACE,
    },
    Mutant {
        what: "2 bytes a value: the depths of a piece of B are not transposed",
        file: "matrix_narrow.cuh",
        from: "const int line = first_column + lane / 16 * 8, own = lane / 8 % 2 * 8 + lane % 8;",
        to: "const int line = first_column + lane / 16 * 8, own = lane / 8 % 2 * 8 + lane % 8 / 2;",
        judge: Judge::Bf16("conv2d"),
        caught_by: WRONG_VALUES,
    },
    Mutant {
        what: "2 bytes a value: a result in fp32 is written as bf16",
        file: "implicit_gemm.cuh",
        from: "if (wide) return",
        to: "if (wide < 0) return",
        judge: Judge::Bf16("conv_transpose2d"),
        caught_by: WRONG_VALUES,
    },
    Mutant {
        what: "2 bytes a value: fp16 in the place of bf16",
        file: "storage.cuh",
        from: "bf16 ? round_bf16(value, 0.0f) : round_fp16(value, 0.0f)",
        to: "round_fp16(value, 0.0f)",
        judge: Judge::Bf16("group_norm"),
        caught_by: WRONG_VALUES,
    },
    Mutant {
        what: "cross entropy: no guard behind the last value",
        file: "bce.cu",
        from: "        if (i < n) {\n            Softplus",
        to: "        {\n            Softplus",
        judge: Judge::Op("bce"),
        caught_by: BOUNDS,
    },
    Mutant {
        what: "cross entropy: hits are not weighted in the gradient",
        file: "bce.cu",
        from: "s.up - weight * t * s.down",
        to: "s.up - t * s.down",
        judge: Judge::Op("bce"),
        caught_by: WRONG_VALUES,
    },
    Mutant {
        what: "silhouette loss: pixels beyond 0 and 1 have a gradient",
        file: "silhouette_loss.cu",
        from: "if (head >= 0 && hit >= 0.0f && hit <= 1.0f) {",
        to: "if (head >= 0) {",
        judge: Judge::Op("silhouette_loss"),
        caught_by: WRONG_VALUES,
    },
    Mutant {
        what: "silhouette loss: points beyond the clamp have a gradient",
        file: "silhouette_loss.cu",
        from: "codes[point] = free ? float(view + 1) : 0.0f;",
        to: "codes[point] = float(view + 1);",
        judge: Judge::Op("silhouette_loss"),
        caught_by: WRONG_VALUES,
    },
    Mutant {
        what: "noise: no guard behind the last value",
        file: "noise.cu",
        from: "        if (4 * thread + k < n) y",
        to: "        y",
        judge: Judge::Op("noise"),
        caught_by: &["wrote outside"],
    },
    Mutant {
        what: "KL: dimensions below their free bits have a gradient",
        file: "kl_term.cu",
        from: "open[0] != 0.0f && !(free > 0.0f && kl[i] < free)",
        to: "open[0] != 0.0f",
        judge: Judge::Op("kl_term"),
        caught_by: WRONG_VALUES,
    },
    Mutant {
        what: "Gaussian sample: log-variances beyond their range have a gradient",
        file: "latent.cuh",
        from: "x >= LEAST_LOG_VARIANCE && x <= MOST_LOG_VARIANCE",
        to: "x <= MOST_LOG_VARIANCE",
        judge: Judge::Op("gaussian_kl"),
        caught_by: WRONG_VALUES,
    },
    Mutant {
        what: "quantisation noise: no barrier before the sums of a channel are added up",
        file: "channels.cuh",
        from: "    __syncthreads();\n    if (row > 0)",
        to: "    if (row > 0)",
        judge: Judge::Op("quantisation_noise"),
        caught_by: RACE,
    },
    Mutant {
        what: "bits of a Laplace law: the share of the step in a scale is forgotten in its slope",
        file: "laplace_bits.cu",
        from: "own = own_scale / scale;",
        to: "own = 1.0f;",
        judge: Judge::Op("laplace_bits"),
        caught_by: WRONG_VALUES,
    },
    Mutant {
        what: "one-hot: the last exchange between lanes left out",
        file: "rows.cuh",
        from: "for (int distance = WARP / 2; distance > 0; distance /= 2) {",
        to: "for (int distance = WARP / 2; distance > 1; distance /= 2) {",
        judge: Judge::Op("one_hot"),
        caught_by: &["is off by"],
    },
    Mutant {
        what: "Adam: no guard behind the last parameter",
        file: "adam.cu",
        from: "    if (i >= n || factor == 0.0f) return;\n",
        to: "    if (factor == 0.0f) return;\n",
        judge: Judge::Training,
        caught_by: BOUNDS,
    },
];

const TINY: &str = "preset = 'quick'\n[architecture]\nplanes = 32\npatch = 16\nstem = 8\nlatent_channels = 16\n\
    widths = [8, 10]\nencoder_blocks = [0, 1]\ndecoder_blocks = [0, 1]\n[training]\nsteps = 1\nsdf_points = 64\nsdf_weight = 0.0\n\
    [extraction]\ngrid = 16\n[metrics]\nsamples = 500\niou_grid = 8\n";

/// A copy of the sources.
fn kernels() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels")).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    fs::write(folder.path().join("tiny.toml"), TINY).unwrap();
    folder
}

/// Whether the judge is content with the kernels in `folder`, and all that was said.
fn judged(folder: &TempDir, judge: Judge) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hexcuda"));
    match judge {
        Judge::Op(op) => command.args(["check", "--device", "emulated", "--op", op]),
        Judge::Bf16(op) => command.args(["check", "--device", "emulated", "--precision", "bf16", "--op", op]),
        Judge::Training => command.args([
            "train",
            "--device",
            "emulated",
            "--config",
            "tiny.toml",
            "--quiet",
            "--out",
            "run",
        ]),
    };
    let output = command.current_dir(folder).env("HEXCUDA_KERNEL_DIR", folder.path()).output().unwrap();
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.success(), said)
}

#[test]
#[ignore = "needs NVRTC"]
fn sound_kernels_pass() {
    let folder = kernels();
    let losses = ["mse", "bce", "silhouette_loss"];
    let latents = ["noise", "kl_term", "gaussian_kl", "one_hot", "quantisation_noise", "laplace_bits"];
    let others = losses.into_iter().chain(latents);
    for op in ["conv2d", "conv_transpose2d", "group_norm"].into_iter().chain(others) {
        for judge in [Judge::Op(op), Judge::Bf16(op)] {
            let (passed, said) = judged(&folder, judge);
            assert!(passed, "{op}: {said}");
        }
    }
    for part in ["rasterize", "surface"] {
        let (passed, said) = judged(&folder, Judge::Op(part));
        assert!(passed, "{part}: {said}");
    }
    let (passed, said) = judged(&folder, Judge::Training);
    assert!(passed, "{said}");
}

#[test]
#[ignore = "needs NVRTC"]
fn every_mutant_is_caught() {
    let mut survivors = Vec::new();
    for mutant in MUTANTS {
        let folder = kernels();
        let path = folder.path().join(mutant.file);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches(mutant.from).count(), 1, "{}: its place has moved", mutant.what);
        fs::write(&path, text.replace(mutant.from, mutant.to)).unwrap();
        let (passed, said) = judged(&folder, mutant.judge);
        if passed || !mutant.caught_by.iter().any(|word| said.contains(word)) {
            survivors.push(format!("{}: {said}", mutant.what));
        }
    }
    assert!(survivors.is_empty(), "{} survive:\n{}", survivors.len(), survivors.join("\n"));
}
